package suite_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

type cryptoBasics struct {
	CipherSuite suite.ID `json:"cipher_suite"`
	RefHash     struct {
		Label      string
		Value, Out mlstest.Hex
	} `json:"ref_hash"`
	Expand struct {
		Secret, Context, Out mlstest.Hex
		Label                string
		Length               int
	} `json:"expand_with_label"`
	DeriveSecret struct {
		Secret, Out mlstest.Hex
		Label       string
	} `json:"derive_secret"`
	DeriveTreeSecret struct {
		Secret, Out mlstest.Hex
		Label       string
		Generation  uint32
		Length      int
	} `json:"derive_tree_secret"`
	Sign struct {
		Priv, Pub, Content, Signature mlstest.Hex
		Label                         string
	} `json:"sign_with_label"`
	Encrypt struct {
		Priv, Pub, Context, Plaintext, Ciphertext mlstest.Hex
		KEMOutput                                 mlstest.Hex `json:"kem_output"`
		Label                                     string
	} `json:"encrypt_with_label"`
}

func TestVectorCryptoBasics(t *testing.T) {
	var vectors []cryptoBasics
	mlstest.Vectors(t, "crypto-basics.json", &vectors)
	for _, v := range vectors {
		s := suite.Get(v.CipherSuite)
		if got := s.RefHash(v.RefHash.Label, v.RefHash.Value); !bytes.Equal(got, v.RefHash.Out) {
			t.Errorf("suite %d: RefHash differs", s.ID())
		}
		got, err := s.ExpandWithLabel(suite.NewSecret(v.Expand.Secret), v.Expand.Label, v.Expand.Context, v.Expand.Length)
		if err != nil || !bytes.Equal(got.Bytes(), v.Expand.Out) {
			t.Errorf("suite %d: ExpandWithLabel differs, err %v", s.ID(), err)
		}
		if got := s.DeriveSecret(suite.NewSecret(v.DeriveSecret.Secret), v.DeriveSecret.Label); !bytes.Equal(got.Bytes(), v.DeriveSecret.Out) {
			t.Errorf("suite %d: DeriveSecret differs", s.ID())
		}
		d := v.DeriveTreeSecret
		if got := s.DeriveTreeSecret(suite.NewSecret(d.Secret), d.Label, d.Generation, d.Length); !bytes.Equal(got.Bytes(), d.Out) {
			t.Errorf("suite %d: DeriveTreeSecret differs", s.ID())
		}
		checkSign(t, s, v)
		checkEncrypt(t, s, v)
		mlstest.Ran(t, "crypto-basics.json", v.CipherSuite)
	}
	mlstest.Count(t, "crypto-basics", len(vectors), 7)
}

func checkSign(t *testing.T, s *suite.Suite, v cryptoBasics) {
	t.Helper()
	private := suite.NewSecret(v.Sign.Priv)
	if pub, err := s.SignaturePublicKey(private); err != nil || !bytes.Equal(pub, v.Sign.Pub) {
		t.Errorf("suite %d: signature public key differs, err %v", s.ID(), err)
	}
	if err := s.CheckSignatureKey(v.Sign.Pub); err != nil {
		t.Errorf("suite %d: %v", s.ID(), err)
	}
	if !s.VerifyWithLabel(v.Sign.Pub, v.Sign.Label, v.Sign.Content, v.Sign.Signature) {
		t.Errorf("suite %d: signature of the vector refused", s.ID())
	}
	sig, err := s.SignWithLabel(private, v.Sign.Label, v.Sign.Content)
	if err != nil || !s.VerifyWithLabel(v.Sign.Pub, v.Sign.Label, v.Sign.Content, sig) {
		t.Errorf("suite %d: own signature refused, err %v", s.ID(), err)
	}
	if s.VerifyWithLabel(v.Sign.Pub, v.Sign.Label+"x", v.Sign.Content, sig) {
		t.Errorf("suite %d: signature accepted under another label", s.ID())
	}
}

func checkEncrypt(t *testing.T, s *suite.Suite, v cryptoBasics) {
	t.Helper()
	e := v.Encrypt
	private := suite.NewSecret(e.Priv)
	if pub, err := s.PublicKey(private); err != nil || !bytes.Equal(pub, e.Pub) {
		t.Errorf("suite %d: HPKE public key differs, err %v", s.ID(), err)
	}
	got, err := s.DecryptWithLabel(private, e.Label, e.Context, e.KEMOutput, e.Ciphertext)
	if err != nil || !bytes.Equal(got.Bytes(), e.Plaintext) {
		t.Errorf("suite %d: DecryptWithLabel differs, err %v", s.ID(), err)
	}
	enc, ct, err := s.EncryptWithLabel(e.Pub, e.Label, e.Context, e.Plaintext)
	if err != nil {
		t.Fatalf("suite %d: %v", s.ID(), err)
	}
	got, err = s.DecryptWithLabel(private, e.Label, e.Context, enc, ct)
	if err != nil || !bytes.Equal(got.Bytes(), e.Plaintext) {
		t.Errorf("suite %d: round trip differs, err %v", s.ID(), err)
	}
	if _, err := s.DecryptWithLabel(private, e.Label, append(e.Context, 0), enc, ct); err == nil {
		t.Errorf("suite %d: opened under another context", s.ID())
	}
}
