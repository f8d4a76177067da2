package primitive_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/primitive"
)

func TestHash(t *testing.T) {
	// FIPS 180-2 B.1 and RFC 4231 case 2.
	h := primitive.Hash([]byte("a"), nil, []byte("bc"))
	if got := hex.EncodeToString(h[:]); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("H = %s", got)
	}
	m := primitive.HMAC([]byte("Jefe"), []byte("what do ya want "), []byte("for nothing?"))
	if got := hex.EncodeToString(m[:]); got != "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" {
		t.Errorf("HMAC = %s", got)
	}
}

// TestSecretsDoNotPrint formats secrets and structures that hold them in every
// way that logs and error texts do.
func TestSecretsDoNotPrint(t *testing.T) {
	raw := bytes.Repeat([]byte{0xa5}, 32)
	s := secret(t, raw)
	k, err := primitive.ParseKey128(raw[:16])
	if err != nil {
		t.Fatal(err)
	}
	ed, _ := primitive.ParseSigningKey(primitive.Ed25519, s)
	p256, _ := primitive.ParseSigningKey(primitive.ECDSAP256, s)
	kem, _ := primitive.ParseKEMKey(primitive.X25519, s)
	xwing, _ := primitive.ParseKEMKey(primitive.XWing, s)
	type inner struct{ hidden any }
	values := []any{
		s, &s, k, &k, ed, *ed, p256, *p256, kem, *kem, xwing,
		[]primitive.Secret{s},
		map[string]primitive.Key128{"k": k},
		struct{ s primitive.Secret }{s},
		&struct{ k primitive.Key128 }{k},
		inner{s},
		inner{ed},
		inner{*p256},
		inner{kem},
		inner{*kem},
	}
	needles := []string{"a5a5", "A5A5", "165 165", "165,165", "pbWl", "245,165"}
	for i, v := range values {
		var out []string
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%o"} {
			out = append(out, fmt.Sprintf(verb, v))
		}
		j, err := json.Marshal(v)
		if err == nil {
			out = append(out, string(j))
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
		out = append(out, log.String())
		for _, o := range out {
			for _, n := range needles {
				if strings.Contains(o, n) {
					t.Errorf("value %d (%T) prints its bytes: %s", i, v, o)
				}
			}
		}
	}
	if got := fmt.Sprintf("%v %s %x", s, k, ed); got != "[redacted] [redacted] [redacted]" {
		t.Errorf("got %q", got)
	}
}

func TestSecretLifecycle(t *testing.T) {
	a, b := primitive.NewSecret(), primitive.NewSecret()
	if a.Equal(b) || !a.Equal(a.Clone()) || a.Equal(primitive.Secret{}) || !(primitive.Secret{}).Equal(primitive.Secret{}) {
		t.Error("Equal")
	}
	clone, alias := a.Clone(), a
	if !clone.Equal(a) {
		t.Error("clone differs")
	}
	a.Wipe()
	if !bytes.Equal(alias.Bytes(), make([]byte, 32)) || clone.Equal(a) {
		t.Error("Wipe must clear copies and leave clones")
	}
	k := primitive.DeriveKey128(clone, "l", nil)
	if l := primitive.DeriveKey128(clone, "m", nil); k.Equal(l) || !k.Equal(primitive.DeriveKey128(clone, "l", nil)) {
		t.Error("labels do not separate")
	}
	k.Wipe()
	if !bytes.Equal(k.Bytes(), make([]byte, 16)) {
		t.Error("Wipe")
	}
	(primitive.Secret{}).Wipe()
	(primitive.Key128{}).Wipe()
	if (primitive.Secret{}).Present() || (primitive.Key128{}).Present() || !k.Present() || (primitive.Secret{}).Clone().Present() {
		t.Error("Present")
	}
	for _, n := range []int{0, 31, 33} {
		if s, err := primitive.ParseSecret(make([]byte, n)); !errors.Is(err, primitive.ErrMalformed) || s.Present() {
			t.Errorf("%d bytes: %v", n, err)
		}
		if k, err := primitive.ParseKey128(make([]byte, n)); !errors.Is(err, primitive.ErrMalformed) || k.Present() {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for name, use := range map[string]func(){
		"absent secret": func() { primitive.SealAES256(primitive.Secret{}, nil, nil) },
		"absent key":    func() { primitive.SealAES128(primitive.Key128{}, nil, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s was used", name)
				}
			}()
			use()
		}()
	}
}

func TestAEAD(t *testing.T) {
	s := primitive.NewSecret()
	k := primitive.DeriveKey128(s, "key", nil)
	msg, aad := []byte("message"), []byte("aad")
	for name, f := range map[string]struct {
		seal func(aad, pt []byte) []byte
		open func(aad, ct []byte) ([]byte, error)
	}{
		"AEAD128": {
			func(aad, pt []byte) []byte { return primitive.SealAES128(k, aad, pt) },
			func(aad, ct []byte) ([]byte, error) { return primitive.OpenAES128(k, aad, ct) },
		},
		"AEAD256": {
			func(aad, pt []byte) []byte { return primitive.SealAES256(s, aad, pt) },
			func(aad, ct []byte) ([]byte, error) { return primitive.OpenAES256(s, aad, ct) },
		},
	} {
		ct := f.seal(aad, msg)
		if len(ct) != len(msg)+primitive.NonceSize+primitive.TagSize {
			t.Errorf("%s: %d bytes", name, len(ct))
		}
		if bytes.Equal(ct[:12], f.seal(aad, msg)[:12]) {
			t.Errorf("%s: nonce repeats", name)
		}
		if pt, err := f.open(aad, ct); err != nil || !bytes.Equal(pt, msg) {
			t.Errorf("%s: opens %x, %v", name, pt, err)
		}
		for i := range ct {
			bad := bytes.Clone(ct)
			bad[i] ^= 0x80
			if pt, err := f.open(aad, bad); !errors.Is(err, primitive.ErrOpen) || pt != nil {
				t.Errorf("%s: byte %d altered: %v", name, i, err)
			}
		}
		for n := range len(ct) {
			if pt, err := f.open(aad, ct[:n]); !errors.Is(err, primitive.ErrOpen) || pt != nil {
				t.Errorf("%s: %d bytes: %v", name, n, err)
			}
		}
		if _, err := f.open(nil, ct); !errors.Is(err, primitive.ErrOpen) {
			t.Errorf("%s: other aad: %v", name, err)
		}
	}
	n := primitive.NewNonce()
	ct := primitive.AppendAES128([]byte("head"), k, n, aad, msg)
	if pt, err := primitive.OpenAES128At(k, n, aad, ct[4:]); err != nil || !bytes.Equal(pt, msg) {
		t.Errorf("opens %x, %v", pt, err)
	}
	if pt, err := primitive.OpenAES128At(k, primitive.NewNonce(), aad, ct[4:]); !errors.Is(err, primitive.ErrOpen) || pt != nil {
		t.Errorf("other nonce: %v", err)
	}
	if pt, err := primitive.OpenAES128(k, aad, append(n[:], ct[4:]...)); err != nil || !bytes.Equal(pt, msg) {
		t.Errorf("formats disagree: %x, %v", pt, err)
	}
}

func TestSignatures(t *testing.T) {
	for _, alg := range []primitive.Algorithm{primitive.Ed25519, primitive.ECDSAP256} {
		k, err := primitive.GenerateSigningKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := k.SignWithLabel("MmrRequestTBS", []byte("content"))
		if err != nil {
			t.Fatal(err)
		}
		pub := k.Public()
		if err := pub.VerifyWithLabel("MmrRequestTBS", []byte("content"), sig); err != nil {
			t.Errorf("%v: %v", alg, err)
		}
		other, _ := primitive.GenerateSigningKey(alg)
		bad := bytes.Clone(sig)
		bad[len(bad)-1] ^= 1
		for name, err := range map[string]error{
			"label":     pub.VerifyWithLabel("MmrReceiptTBS", []byte("content"), sig),
			"content":   pub.VerifyWithLabel("MmrRequestTBS", []byte("contenu"), sig),
			"signature": pub.VerifyWithLabel("MmrRequestTBS", []byte("content"), bad),
			"empty":     pub.VerifyWithLabel("MmrRequestTBS", []byte("content"), nil),
			"key":       other.Public().VerifyWithLabel("MmrRequestTBS", []byte("content"), sig),
			"zero key":  primitive.PublicKey{}.VerifyWithLabel("MmrRequestTBS", []byte("content"), sig),
			"trailing":  pub.VerifyWithLabel("MmrRequestTBS", []byte("content"), append(bytes.Clone(sig), 0)),
		} {
			if !errors.Is(err, primitive.ErrVerify) {
				t.Errorf("%v, wrong %s: %v", alg, name, err)
			}
		}
		again, err := primitive.ParseSigningKey(alg, k.Raw().Clone())
		if err != nil || again.Public() != pub {
			t.Errorf("%v: raw form: %v", alg, err)
		}
		std, err := primitive.SigningKeyOf(k.Std())
		if err != nil || std.Public() != pub {
			t.Errorf("%v: standard form: %v", alg, err)
		}
		if again, err := primitive.PublicKeyOf(pub.Std()); err != nil || again != pub {
			t.Errorf("%v: standard public form: %v", alg, err)
		}
		parsed, err := primitive.ParsePublicKey(alg, pub.Bytes())
		if err != nil || parsed != pub || parsed.Algorithm() != alg {
			t.Errorf("%v: public form: %v", alg, err)
		}
	}
}

func TestSignatureKeyRefusals(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, p256 := primitive.Ed25519, primitive.ECDSAP256
	off := make([]byte, 65)
	off[0] = 4
	good, _ := primitive.GenerateSigningKey(p256)
	compressed := append([]byte{2}, good.Public().Bytes()[1:33]...)
	for name, f := range map[string]func() (primitive.PublicKey, error){
		"short Ed25519":     func() (primitive.PublicKey, error) { return primitive.ParsePublicKey(ed, make([]byte, 31)) },
		"P-256 as Ed25519":  func() (primitive.PublicKey, error) { return primitive.ParsePublicKey(ed, good.Public().Bytes()) },
		"off the curve":     func() (primitive.PublicKey, error) { return primitive.ParsePublicKey(p256, off) },
		"compressed":        func() (primitive.PublicKey, error) { return primitive.ParsePublicKey(p256, compressed) },
		"infinity":          func() (primitive.PublicKey, error) { return primitive.ParsePublicKey(p256, []byte{0}) },
		"unknown algorithm": func() (primitive.PublicKey, error) { return primitive.ParsePublicKey(0x0808, make([]byte, 57)) },
		"P-384":             func() (primitive.PublicKey, error) { return primitive.PublicKeyOf(p384.Public()) },
		"nil":               func() (primitive.PublicKey, error) { return primitive.PublicKeyOf(nil) },
		"nil ECDSA":         func() (primitive.PublicKey, error) { return primitive.PublicKeyOf((*ecdsa.PublicKey)(nil)) },
	} {
		if k, err := f(); !errors.Is(err, primitive.ErrMalformed) || k != (primitive.PublicKey{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	zero, ones := secret(t, make([]byte, 32)), secret(t, bytes.Repeat([]byte{0xff}, 32))
	inconsistent := ed25519.NewKeyFromSeed(make([]byte, 32))
	inconsistent[40] ^= 1
	for name, f := range map[string]func() (*primitive.SigningKey, error){
		"zero scalar":       func() (*primitive.SigningKey, error) { return primitive.ParseSigningKey(p256, zero) },
		"large scalar":      func() (*primitive.SigningKey, error) { return primitive.ParseSigningKey(p256, ones) },
		"unknown algorithm": func() (*primitive.SigningKey, error) { return primitive.ParseSigningKey(7, ones) },
		"generate unknown":  func() (*primitive.SigningKey, error) { return primitive.GenerateSigningKey(7) },
		"P-384":             func() (*primitive.SigningKey, error) { return primitive.SigningKeyOf(p384) },
		"nil":               func() (*primitive.SigningKey, error) { return primitive.SigningKeyOf(nil) },
		"mixed halves":      func() (*primitive.SigningKey, error) { return primitive.SigningKeyOf(inconsistent) },
	} {
		if k, err := f(); !errors.Is(err, primitive.ErrMalformed) || k != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if (primitive.PublicKey{}).Std() != nil {
		t.Error("the zero key has a standard form")
	}
	if _, ok := primitive.SuiteAlgorithm(4); ok {
		t.Error("suite 4 is not in the profile")
	}
}

func TestNamesAndWipe(t *testing.T) {
	for got, want := range map[fmt.Stringer]string{
		primitive.Ed25519: "Ed25519", primitive.ECDSAP256: "ECDSA P-256", primitive.Algorithm(1): "unknown",
		primitive.X25519: "X25519", primitive.XWing: "X-Wing", primitive.KEM(1): "unknown",
	} {
		if got.String() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
	for _, k := range []primitive.KEM{0, 0x0010} {
		if k.Valid() || k.EncSize() != 0 || k.PublicKeySize() != 0 {
			t.Errorf("KEM %#x", uint16(k))
		}
	}
	sign, _ := primitive.GenerateSigningKey(primitive.Ed25519)
	kem, _ := primitive.GenerateKEMKey(primitive.X25519)
	// Public keys are identifiers: they do not print either.
	for _, s := range []string{fmt.Sprint(sign.Public()), fmt.Sprint(kem.Public())} {
		if s != "Ed25519 key" && s != "X25519 key" {
			t.Errorf("prints %q", s)
		}
	}
	if kem.Public().KEM() != primitive.X25519 {
		t.Error("KEM of a public key")
	}
	for _, s := range []string{sign.String(), sign.GoString(), kem.String(), kem.GoString(), sign.Raw().String(), sign.Raw().GoString(), primitive.Key128{}.String(), primitive.Key128{}.GoString()} {
		if s != "[redacted]" {
			t.Errorf("prints %q", s)
		}
	}
	sign.Wipe()
	kem.Wipe()
	if !bytes.Equal(sign.Raw().Bytes(), make([]byte, 32)) || !bytes.Equal(kem.Raw().Bytes(), make([]byte, 32)) {
		t.Error("Wipe")
	}
	a := primitive.DeriveSecret(primitive.NewSecret(), "label", nil)
	if !a.Present() || len(a.Bytes()) != 32 {
		t.Error("DeriveSecret")
	}
}
