package primitive_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// hexBytes is a byte string that JSON files hold in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = b
	return err
}

func loadVectors(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func secret(t *testing.T, b []byte) primitive.Secret {
	t.Helper()
	s, err := primitive.ParseSecret(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRFC9420Vectors checks SWL, EWL and HPKE-L against the working group's
// crypto-basics vectors: the profile's constructs are MLS's.
func TestRFC9420Vectors(t *testing.T) {
	var file struct {
		Cases []struct {
			Suite uint16 `json:"cipher_suite"`
			Sign  struct {
				Label                         string
				Content, Priv, Pub, Signature hexBytes
			} `json:"sign_with_label"`
			Expand *struct {
				Label                string
				Length               int
				Context, Out, Secret hexBytes
			} `json:"expand_with_label"`
			Encrypt *struct {
				Label                                     string
				Context, Ciphertext, Plaintext, Priv, Pub hexBytes
				KEMOutput                                 hexBytes `json:"kem_output"`
			} `json:"encrypt_with_label"`
		}
	}
	loadVectors(t, "rfc9420.json", &file)
	if len(file.Cases) != 3 {
		t.Fatalf("%d cases", len(file.Cases))
	}
	for _, c := range file.Cases {
		alg, ok := primitive.SuiteAlgorithm(c.Suite)
		if !ok {
			t.Fatalf("suite %d has no algorithm", c.Suite)
		}
		pub, err := primitive.ParsePublicKey(alg, c.Sign.Pub)
		if err != nil {
			t.Fatal(err)
		}
		if err := pub.VerifyWithLabel(c.Sign.Label, c.Sign.Content, c.Sign.Signature); err != nil {
			t.Errorf("suite %d: %v", c.Suite, err)
		}
		key, err := primitive.ParseSigningKey(alg, secret(t, c.Sign.Priv))
		if err != nil {
			t.Fatal(err)
		}
		if key.Public() != pub {
			t.Errorf("suite %d: private key has another public key", c.Suite)
		}
		sig, err := key.SignWithLabel(c.Sign.Label, c.Sign.Content)
		if err != nil {
			t.Fatal(err)
		}
		if alg == primitive.Ed25519 && !bytes.Equal(sig, c.Sign.Signature) {
			t.Errorf("suite %d: signature differs from the vector", c.Suite)
		}
		if err := pub.VerifyWithLabel(c.Sign.Label, c.Sign.Content, sig); err != nil {
			t.Errorf("suite %d: own signature: %v", c.Suite, err)
		}
		if x := c.Expand; x != nil {
			if got := primitive.ExpandWithLabel(secret(t, x.Secret), x.Label, x.Context, x.Length); !bytes.Equal(got, x.Out) {
				t.Errorf("EWL = %x, want %x", got, x.Out)
			}
		}
		if x := c.Encrypt; x != nil {
			key, err := primitive.ParseKEMKey(primitive.X25519, secret(t, x.Priv))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(key.Public().Bytes(), x.Pub) {
				t.Error("KEM private key has another public key")
			}
			pt, err := key.OpenWithLabel(x.Label, x.Context, primitive.HPKECiphertext{KEMOutput: x.KEMOutput, Ciphertext: x.Ciphertext})
			if err != nil || !bytes.Equal(pt, x.Plaintext) {
				t.Errorf("HPKE-L opens to %x, %v", pt, err)
			}
		}
	}
}
