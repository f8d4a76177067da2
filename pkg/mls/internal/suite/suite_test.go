package suite_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
)

func TestDeriveKeyPairAnyLength(t *testing.T) {
	for _, id := range suite.IDs() {
		s := suite.Get(id)
		for _, n := range []int{16, 32, 48, 64, 66} {
			public, private, err := s.DeriveKeyPair(suite.RandomSecret(n))
			if err != nil {
				t.Fatalf("suite %d, %d bytes: %v", id, n, err)
			}
			enc, ct, err := s.EncryptWithLabel(public, "x", nil, []byte("text"))
			if err != nil {
				t.Fatalf("suite %d, %d bytes: %v", id, n, err)
			}
			if got, err := s.DecryptWithLabel(private, "x", nil, enc, ct); err != nil || string(got.Bytes()) != "text" {
				t.Errorf("suite %d, %d bytes: derived pair does not fit, err %v", id, n, err)
			}
		}
	}
}

func TestExternalInit(t *testing.T) {
	for _, id := range suite.IDs() {
		s := suite.Get(id)
		public, private, err := s.GenerateKeyPair()
		if err != nil {
			t.Fatal(err)
		}
		enc, want, err := s.ExternalInit(public)
		if err != nil || want.Len() != s.HashSize() {
			t.Fatalf("suite %d: %d bytes, err %v", id, want.Len(), err)
		}
		if got, err := s.OpenExternalInit(private, enc); err != nil || !got.Equal(want) {
			t.Errorf("suite %d: init secrets differ, err %v", id, err)
		}
		if _, err := s.OpenExternalInit(private, enc[1:]); !errors.Is(err, suite.ErrOpen) {
			t.Errorf("suite %d: short kem_output: %v", id, err)
		}
	}
}

func TestBadKeysAndSignatures(t *testing.T) {
	for _, id := range suite.IDs() {
		s := suite.Get(id)
		for _, bad := range [][]byte{nil, {4}, make([]byte, 31), make([]byte, 32), make([]byte, 56), make([]byte, 57), make([]byte, 65), make([]byte, 133)} {
			if err := s.CheckPublicKey(bad); !errors.Is(err, suite.ErrKey) {
				t.Errorf("suite %d: HPKE key of %d zeros: %v", id, len(bad), err)
			}
			if _, _, err := s.EncryptWithLabel(bad, "x", nil, nil); err == nil {
				t.Errorf("suite %d: encrypted to a key of %d zeros", id, len(bad))
			}
			if s.VerifyWithLabel(bad, "x", nil, make([]byte, 64)) {
				t.Errorf("suite %d: signature by a key of %d zeros accepted", id, len(bad))
			}
		}
		public, private, err := s.GenerateSignatureKey()
		if err != nil {
			t.Fatal(err)
		}
		sig, err := s.SignWithLabel(private, "x", []byte("content"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range sig {
			forged := bytes.Clone(sig)
			forged[i] ^= 0x10
			if s.VerifyWithLabel(public, "x", []byte("content"), forged) {
				t.Errorf("suite %d: signature with byte %d changed accepted", id, i)
			}
		}
		if s.VerifyWithLabel(public, "x", []byte("content"), append(bytes.Clone(sig), 0)) {
			t.Errorf("suite %d: signature with a trailing byte accepted", id)
		}
	}
}

// S + L is the second encoding of an Ed25519 signature that lax verifiers take.
func TestEd25519Malleability(t *testing.T) {
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	s := suite.Get(suite.X25519AES128SHA256Ed25519)
	public, private, err := s.GenerateSignatureKey()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.SignWithLabel(private, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	carry := 0
	for i, b := range order {
		sum := int(sig[32+i]) + int(b) + carry
		sig[32+i], carry = byte(sum), sum>>8
	}
	if s.VerifyWithLabel(public, "x", nil, sig) {
		t.Error("signature with S above the group order accepted")
	}
}

func TestSmallOrderKeys(t *testing.T) {
	ones := func(n int, set map[int]byte) []byte {
		b := bytes.Repeat([]byte{0xff}, n)
		for i, v := range set {
			b[i] = v
		}
		return b
	}
	order8a, _ := hex.DecodeString("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
	order8b, _ := hex.DecodeString("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")
	for name, c := range map[string]struct {
		id  suite.ID
		key []byte
	}{
		"25519 order 8":       {suite.X25519AES128SHA256Ed25519, order8a},
		"25519 order 8 other": {suite.X25519AES128SHA256Ed25519, order8b},
		"25519 p-1":           {suite.X25519AES128SHA256Ed25519, ones(32, map[int]byte{0: 0xec, 31: 0x7f})},
		"25519 p":             {suite.X25519AES128SHA256Ed25519, ones(32, map[int]byte{0: 0xed, 31: 0x7f})},
		"25519 p+1, top bit":  {suite.X25519AES128SHA256Ed25519, ones(32, map[int]byte{0: 0xee})},
		"448 p-1":             {suite.X448AES256SHA512Ed448, ones(56, map[int]byte{0: 0xfe, 28: 0xfe})},
		"448 p":               {suite.X448AES256SHA512Ed448, ones(56, map[int]byte{28: 0xfe})},
		"448 p+1":             {suite.X448AES256SHA512Ed448, append(make([]byte, 28), bytes.Repeat([]byte{0xff}, 28)...)},
	} {
		s := suite.Get(c.id)
		if err := s.CheckPublicKey(c.key); !errors.Is(err, suite.ErrKey) {
			t.Errorf("%s: CheckPublicKey: %v", name, err)
		}
		// The list must be what Diffie-Hellman itself refuses.
		if _, _, err := s.EncryptWithLabel(c.key, "x", nil, nil); err == nil {
			t.Errorf("%s: encryption succeeds, so the key is not of small order", name)
		}
	}
}

func TestSecretRedactsItself(t *testing.T) {
	secret := suite.NewSecret([]byte("correct horse battery staple"))
	holder := struct{ inner suite.Secret }{secret}
	text, err := json.Marshal(map[string]any{"s": secret})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", secret)
	// Not a constant: vet knows that these verbs do not fit.
	verbs := strings.Join([]string{"%[1]v %[1]s %[1]x %[1]d %[1]q %[1]c %[1]t", "%[2]v %[2]s %[2]x %[2]d %[2]q"}, " ")
	all := fmt.Sprintf("%v %+v %#v %s %x %d %q", secret, secret, secret, secret, secret, secret, secret) +
		fmt.Sprintf(verbs, holder, &holder) + string(text) + log.String()
	for _, leak := range []string{"correct", hex.EncodeToString([]byte("correct")), "99 111 114"} {
		if strings.Contains(all, leak) {
			t.Errorf("%q in %s", leak, all)
		}
	}
	b := secret.Bytes()
	secret.Wipe()
	if !bytes.Equal(b, make([]byte, len(b))) || holder.inner.IsSet() {
		t.Error("Wipe left bytes behind")
	}
}

func TestExpandLength(t *testing.T) {
	s := suite.Get(suite.X25519AES128SHA256Ed25519)
	secret := suite.RandomSecret(32)
	for _, n := range []int{-1, 255*32 + 1, 1 << 16, 1 << 40} {
		if got, err := s.ExpandWithLabel(secret, "x", nil, n); !errors.Is(err, suite.ErrLength) || got.IsSet() {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if got, err := s.ExpandWithLabel(secret, "x", nil, 255*32); err != nil || got.Len() != 255*32 {
		t.Errorf("longest output: %d bytes, err %v", got.Len(), err)
	}
}

func TestUnknownSuites(t *testing.T) {
	for _, id := range []suite.ID{0, 8, 0x0a0a, 0xffff} {
		if suite.Get(id) != nil {
			t.Errorf("suite %d exists", id)
		}
	}
}

func BenchmarkHPKE(b *testing.B) {
	s := suite.Get(suite.X25519AES128SHA256Ed25519)
	public, private, err := s.GenerateKeyPair()
	if err != nil {
		b.Fatal(err)
	}
	msg := make([]byte, 32)
	enc, ct, _ := s.EncryptWithLabel(public, "x", nil, msg)
	b.Run("seal", func(b *testing.B) {
		for b.Loop() {
			s.EncryptWithLabel(public, "x", nil, msg)
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s.DecryptWithLabel(private, "x", nil, enc, ct)
		}
	})
	b.Run("derive", func(b *testing.B) {
		seed := suite.RandomSecret(32)
		for b.Loop() {
			s.DeriveKeyPair(seed)
		}
	})
}

func TestImportShortScalars(t *testing.T) {
	s := suite.Get(suite.P521AES256SHA512P521)
	for {
		public, private, err := s.GenerateKeyPair()
		if err != nil {
			t.Fatal(err)
		}
		if private.Bytes()[0] != 0 {
			continue
		}
		short, err := s.ImportPrivateKey(private.Bytes()[1:])
		if err != nil || !short.Equal(private) {
			t.Fatalf("HPKE key without its leading zero: %v", err)
		}
		if got, err := s.PublicKey(short); err != nil || !bytes.Equal(got, public) {
			t.Fatalf("public key differs, err %v", err)
		}
		sig, err := s.ImportSignatureKey(private.Bytes()[1:])
		if err != nil || !sig.Equal(private) {
			t.Fatalf("signature key without its leading zero: %v", err)
		}
		break
	}
	for _, id := range suite.IDs() {
		for _, bad := range [][]byte{nil, make([]byte, 67)} {
			if _, err := suite.Get(id).ImportPrivateKey(bad); !errors.Is(err, suite.ErrKey) {
				t.Errorf("suite %d: HPKE key of %d zeros: %v", id, len(bad), err)
			}
			if _, err := suite.Get(id).ImportSignatureKey(bad); !errors.Is(err, suite.ErrKey) {
				t.Errorf("suite %d: signature key of %d zeros: %v", id, len(bad), err)
			}
		}
	}
}
