package primitive_test

import (
	"bytes"
	stdhpke "crypto/hpke"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

var kems = []primitive.KEM{primitive.X25519, primitive.XWing}

// TestHPKEAgainstStandardLibrary lets crypto/hpke open what this package seals
// and the other way round, exports included: two independent implementations.
func TestHPKEAgainstStandardLibrary(t *testing.T) {
	info, msg := []byte("info"), []byte("message")
	for _, k := range kems {
		t.Run(k.String(), func(t *testing.T) {
			key, err := primitive.GenerateKEMKey(k)
			if err != nil {
				t.Fatal(err)
			}
			stdKEM, err := stdhpke.NewKEM(uint16(k))
			if err != nil {
				t.Fatal(err)
			}
			stdPriv, err := stdKEM.NewPrivateKey(key.Raw().Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(stdPriv.PublicKey().Bytes(), key.Public().Bytes()) {
				t.Fatal("public keys differ")
			}
			enc, s, err := key.Public().NewSender(info)
			if err != nil {
				t.Fatal(err)
			}
			if len(enc) != k.EncSize() || len(key.Public().Bytes()) != k.PublicKeySize() {
				t.Errorf("enc %d bytes, public key %d bytes", len(enc), len(key.Public().Bytes()))
			}
			ct := s.Seal([]byte("aad"), msg)
			r, err := stdhpke.NewRecipient(enc, stdPriv, stdhpke.HKDFSHA256(), stdhpke.AES128GCM(), info)
			if err != nil {
				t.Fatal(err)
			}
			if pt, err := r.Open([]byte("aad"), ct); err != nil || !bytes.Equal(pt, msg) {
				t.Errorf("standard library opens %x, %v", pt, err)
			}
			if want, err := r.Export("exp", 40); err != nil || !bytes.Equal(s.Export([]byte("exp"), 40), want) {
				t.Errorf("exports differ, %v", err)
			}
			enc, ss, err := stdhpke.NewSender(stdPriv.PublicKey(), stdhpke.HKDFSHA256(), stdhpke.AES128GCM(), info)
			if err != nil {
				t.Fatal(err)
			}
			ct, err = ss.Seal(nil, msg)
			if err != nil {
				t.Fatal(err)
			}
			own, err := key.NewRecipient(info, enc)
			if err != nil {
				t.Fatal(err)
			}
			if pt, err := own.Open(nil, ct); err != nil || !bytes.Equal(pt, msg) {
				t.Errorf("opens %x, %v", pt, err)
			}
		})
	}
}

func TestHPKEWithLabelRefusals(t *testing.T) {
	for _, k := range kems {
		key, _ := primitive.GenerateKEMKey(k)
		other, _ := primitive.GenerateKEMKey(k)
		c, err := key.Public().SealWithLabel("MMR QueueConfig", []byte("ctx"), []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		if pt, err := key.OpenWithLabel("MMR QueueConfig", []byte("ctx"), c); err != nil || string(pt) != "message" {
			t.Fatalf("%v: opens %q, %v", k, pt, err)
		}
		flip := func(b []byte, i int) []byte {
			b = bytes.Clone(b)
			b[i] ^= 1
			return b
		}
		for name, open := range map[string]func() ([]byte, error){
			"label":   func() ([]byte, error) { return key.OpenWithLabel("other", []byte("ctx"), c) },
			"context": func() ([]byte, error) { return key.OpenWithLabel("MMR QueueConfig", []byte("cty"), c) },
			"key":     func() ([]byte, error) { return other.OpenWithLabel("MMR QueueConfig", []byte("ctx"), c) },
			"truncated": func() ([]byte, error) {
				c := c
				c.Ciphertext = c.Ciphertext[:10]
				return key.OpenWithLabel("MMR QueueConfig", []byte("ctx"), c)
			},
			"short enc": func() ([]byte, error) {
				c := c
				c.KEMOutput = c.KEMOutput[1:]
				return key.OpenWithLabel("MMR QueueConfig", []byte("ctx"), c)
			},
			"no enc": func() ([]byte, error) {
				c := c
				c.KEMOutput = nil
				return key.OpenWithLabel("MMR QueueConfig", []byte("ctx"), c)
			},
			"zero enc": func() ([]byte, error) {
				c := c
				c.KEMOutput = make([]byte, k.EncSize())
				return key.OpenWithLabel("MMR QueueConfig", []byte("ctx"), c)
			},
			"enc": func() ([]byte, error) {
				c := c
				c.KEMOutput = flip(c.KEMOutput, 3)
				return key.OpenWithLabel("MMR QueueConfig", []byte("ctx"), c)
			},
			"tag": func() ([]byte, error) {
				c := c
				c.Ciphertext = flip(c.Ciphertext, len(c.Ciphertext)-1)
				return key.OpenWithLabel("MMR QueueConfig", []byte("ctx"), c)
			},
		} {
			if pt, err := open(); !errors.Is(err, primitive.ErrOpen) || pt != nil {
				t.Errorf("%v, wrong %s: %x, %v", k, name, pt, err)
			}
		}
	}
}

func TestKEMPublicKeyRefusals(t *testing.T) {
	unreduced := bytes.Repeat([]byte{0xff}, primitive.XWing.PublicKeySize())
	for name, c := range map[string]struct {
		kem primitive.KEM
		raw []byte
	}{
		"unknown KEM":      {0x0010, make([]byte, 65)},
		"zero KEM":         {0, nil},
		"short":            {primitive.X25519, make([]byte, 31)},
		"long":             {primitive.X25519, make([]byte, 33)},
		"X25519 as X-Wing": {primitive.XWing, make([]byte, 32)},
		"unreduced ML-KEM": {primitive.XWing, unreduced},
	} {
		if k, err := primitive.ParseKEMPublicKey(c.kem, c.raw); !errors.Is(err, primitive.ErrMalformed) || k != (primitive.KEMPublicKey{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A public key of small order makes the shared secret zero.
	zero, err := primitive.ParseKEMPublicKey(primitive.X25519, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := zero.SealWithLabel("l", nil, nil); !errors.Is(err, primitive.ErrMalformed) {
		t.Errorf("sealing to a small-order key: %v", err)
	}
	if _, err := (primitive.KEMPublicKey{}).SealWithLabel("l", nil, nil); !errors.Is(err, primitive.ErrMalformed) {
		t.Errorf("sealing to the zero key: %v", err)
	}
	if _, err := primitive.GenerateKEMKey(0x0010); !errors.Is(err, primitive.ErrMalformed) {
		t.Errorf("generating for an unknown KEM: %v", err)
	}
}

// TestDeriveX25519Key uses the ikm and key pairs of RFC 9180 A.1.1, and the
// standard library as a second opinion.
func TestDeriveX25519Key(t *testing.T) {
	for _, c := range []struct{ ikm, sk, pk string }{
		{ // ikmE, skEm, pkEm
			"7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234",
			"52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736",
			"37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
		},
		{ // ikmR, skRm, pkRm
			"6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037",
			"4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
			"3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d",
		},
	} {
		ikm, _ := hex.DecodeString(c.ikm)
		k := primitive.DeriveX25519Key(secret(t, ikm))
		if got := hex.EncodeToString(k.Raw().Bytes()); got != c.sk {
			t.Errorf("sk = %s, want %s", got, c.sk)
		}
		if got := hex.EncodeToString(k.Public().Bytes()); got != c.pk {
			t.Errorf("pk = %s, want %s", got, c.pk)
		}
		stdKEM, err := stdhpke.NewKEM(0x0020)
		if err != nil {
			t.Fatal(err)
		}
		std, err := stdKEM.DeriveKeyPair(ikm)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(std.PublicKey().Bytes(), k.Public().Bytes()) {
			t.Error("standard library derives another key")
		}
	}
}

func FuzzHPKECiphertextMalleability(f *testing.F) {
	f.Add(primitive.HPKECiphertext{KEMOutput: make([]byte, 32), Ciphertext: make([]byte, 112)}.Append(nil))
	f.Add([]byte{0, 0})
	f.Add([]byte{0x40, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := codec.NewReader(b)
		c := primitive.ReadHPKECiphertext(r, 1<<20)
		if r.Done() == nil && !bytes.Equal(c.Append(nil), b) {
			t.Errorf("%x re-encodes to %x", b, c.Append(nil))
		}
	})
}
