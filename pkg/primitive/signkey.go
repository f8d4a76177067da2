package primitive

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog" //nolint:depguard // LogValue, so that secrets refuse to be logged
)

// SigningKey is a private signature key. Its raw form is the 32-byte Ed25519
// seed or P-256 scalar.
type SigningKey struct {
	pub PublicKey
	raw Secret
	std *crypto.Signer // a pointer, which fmt does not follow
}

var _ Signer = (*SigningKey)(nil)

// GenerateSigningKey returns a fresh key, or ErrMalformed for an algorithm that
// the profile does not have.
func GenerateSigningKey(alg Algorithm) (*SigningKey, error) {
	switch alg {
	case Ed25519:
		return ParseSigningKey(alg, NewSecret())
	case ECDSAP256:
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		raw, err := k.Bytes()
		if err != nil {
			return nil, ErrMalformed
		}
		return ParseSigningKey(alg, ownSecret((*[SecretSize]byte)(raw)))
	}
	return nil, ErrMalformed
}

// ParseSigningKey makes a key of its raw form, which the key takes over.
// Secrets that are no scalar of P-256 are ErrMalformed.
func ParseSigningKey(alg Algorithm, raw Secret) (*SigningKey, error) {
	var std crypto.Signer
	switch alg {
	case Ed25519:
		std = ed25519.NewKeyFromSeed(raw.Bytes())
	case ECDSAP256:
		priv, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw.Bytes())
		if err != nil {
			return nil, ErrMalformed
		}
		std = priv
	default:
		return nil, ErrMalformed
	}
	pub, err := PublicKeyOf(std.Public())
	if err != nil {
		return nil, err
	}
	return &SigningKey{pub: pub, raw: raw, std: &std}, nil
}

// SigningKeyOf converts an ed25519.PrivateKey or *ecdsa.PrivateKey over P-256,
// for instance one read from a PKCS #8 file.
func SigningKeyOf(key crypto.PrivateKey) (*SigningKey, error) {
	var alg Algorithm
	var raw []byte
	switch k := key.(type) {
	case ed25519.PrivateKey:
		if len(k) != ed25519.PrivateKeySize || !bytes.Equal(ed25519.NewKeyFromSeed(k.Seed()), k) {
			return nil, ErrMalformed
		}
		alg, raw = Ed25519, k.Seed()
	case *ecdsa.PrivateKey:
		if k == nil || k.Curve != elliptic.P256() {
			return nil, ErrMalformed
		}
		b, err := k.Bytes()
		if err != nil {
			return nil, ErrMalformed
		}
		alg, raw = ECDSAP256, b
	default:
		return nil, ErrMalformed
	}
	s, err := ParseSecret(raw)
	if err != nil {
		return nil, err
	}
	return ParseSigningKey(alg, s)
}

// Public returns the key that verifies.
func (k *SigningKey) Public() PublicKey { return k.pub }

// Raw returns the private form that ParseSigningKey reads.
func (k *SigningKey) Raw() Secret { return k.raw }

// Std returns the key as one of the standard library, for X.509.
func (k *SigningKey) Std() crypto.Signer { return *k.std }

// SignWithLabel implements Signer.
func (k *SigningKey) SignWithLabel(label string, content []byte) ([]byte, error) {
	msg := SignContent(label, content)
	if k.pub.alg == Ed25519 {
		return (*k.std).Sign(rand.Reader, msg, crypto.Hash(0))
	}
	digest := sha256.Sum256(msg)
	return (*k.std).Sign(rand.Reader, digest[:], crypto.SHA256)
}

// Wipe clears the raw form. The expanded key inside the standard library's
// type stays until it is collected.
func (k *SigningKey) Wipe() { k.raw.Wipe() }

// String returns "[redacted]".
func (*SigningKey) String() string { return redacted }

// GoString returns "[redacted]".
func (*SigningKey) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (*SigningKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (*SigningKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]".
func (*SigningKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }
