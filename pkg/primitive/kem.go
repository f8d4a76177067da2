package primitive

import (
	"fmt"
	"io"
	"log/slog" //nolint:depguard // LogValue, so that secrets refuse to be logged

	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
)

// KEM names an HPKE key encapsulation mechanism by its RFC 9180 identifier.
type KEM uint16

// The KEMs of the profile.
const (
	X25519 KEM = 0x0020 // DHKEM(X25519, HKDF-SHA256), the default
	XWing  KEM = 0x647a // X25519 with ML-KEM-768
)

// String returns the KEM's name.
func (k KEM) String() string {
	switch k {
	case X25519:
		return "X25519"
	case XWing:
		return "X-Wing"
	}
	return "unknown"
}

// Valid reports whether the profile has this KEM.
func (k KEM) Valid() bool { return k == X25519 || k == XWing }

// PublicKeySize returns the length of a public key in bytes, 0 for an unknown
// KEM.
func (k KEM) PublicKeySize() int {
	switch k {
	case X25519:
		return 32
	case XWing:
		return 1216
	}
	return 0
}

// EncSize returns the length of an encapsulated key in bytes, 0 for an unknown
// KEM.
func (k KEM) EncSize() int {
	switch k {
	case X25519:
		return 32
	case XWing:
		return 1120
	}
	return 0
}

func (k KEM) scheme() kem.Scheme { return hpke.KEM(k).Scheme() }

// KEMPublicKey is an HPKE public key that has been checked to be one. It can
// be compared with ==; the zero KEMPublicKey seals nothing.
type KEMPublicKey struct {
	kem KEM
	raw string
}

// ParseKEMPublicKey reads an HPKEPublicKey. A wrong size, an unknown KEM or an
// ML-KEM key that is not reduced is ErrMalformed.
func ParseKEMPublicKey(k KEM, raw []byte) (KEMPublicKey, error) {
	if !k.Valid() {
		return KEMPublicKey{}, ErrMalformed
	}
	if _, err := k.scheme().UnmarshalBinaryPublicKey(raw); err != nil {
		return KEMPublicKey{}, ErrMalformed
	}
	return KEMPublicKey{kem: k, raw: string(raw)}, nil
}

// KEM returns the key's KEM, 0 for the zero KEMPublicKey.
func (p KEMPublicKey) KEM() KEM { return p.kem }

// String returns the KEM's name: a key is an identifier and is not printed.
func (p KEMPublicKey) String() string { return p.kem.String() + " key" }

// Bytes returns the encoding that ParseKEMPublicKey reads.
func (p KEMPublicKey) Bytes() []byte { return []byte(p.raw) }

// KEMPrivateKey is an HPKE private key. Its raw form has 32 bytes for both
// KEMs: the X25519 scalar or the X-Wing seed.
type KEMPrivateKey struct {
	pub KEMPublicKey
	raw Secret
}

// GenerateKEMKey returns a fresh key pair, or ErrMalformed for an unknown KEM.
func GenerateKEMKey(k KEM) (*KEMPrivateKey, error) { return ParseKEMKey(k, NewSecret()) }

// ParseKEMKey makes a key of its raw form, which the key takes over, or returns
// ErrMalformed for an unknown KEM.
func ParseKEMKey(k KEM, raw Secret) (*KEMPrivateKey, error) {
	if !k.Valid() {
		return nil, ErrMalformed
	}
	sk, err := k.scheme().UnmarshalBinaryPrivateKey(raw.Bytes())
	if err != nil {
		return nil, ErrMalformed
	}
	pub, err := sk.Public().MarshalBinary()
	if err != nil {
		return nil, ErrMalformed
	}
	return &KEMPrivateKey{pub: KEMPublicKey{kem: k, raw: string(pub)}, raw: raw}, nil
}

// DeriveX25519Key is DeriveKeyPair of RFC 9180 §7.1.3 for X25519: the key pair
// that a seed determines (SPEC.md R-20).
func DeriveX25519Key(seed Secret) *KEMPrivateKey {
	// A seed has the KEM's seed length, which is what circl insists on.
	_, sk := X25519.scheme().DeriveKeyPair(seed.Bytes())
	raw, err := sk.MarshalBinary()
	if err != nil {
		panic("primitive: internal error: derived key")
	}
	k, err := ParseKEMKey(X25519, ownSecret((*[SecretSize]byte)(raw)))
	if err != nil {
		panic("primitive: internal error: derived key")
	}
	return k
}

// Public returns the public half.
func (k *KEMPrivateKey) Public() KEMPublicKey { return k.pub }

// Raw returns the private form that ParseKEMKey reads.
func (k *KEMPrivateKey) Raw() Secret { return k.raw }

// Wipe clears the private half.
func (k *KEMPrivateKey) Wipe() { k.raw.Wipe() }

// String returns "[redacted]".
func (*KEMPrivateKey) String() string { return redacted }

// GoString returns "[redacted]".
func (*KEMPrivateKey) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (*KEMPrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (*KEMPrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]".
func (*KEMPrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }
