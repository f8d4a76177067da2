package primitive

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog" //nolint:depguard // LogValue, so that secrets refuse to be logged
)

// Sizes of the two secret types in bytes.
const (
	SecretSize = 32
	Key128Size = 16
)

const redacted = "[redacted]"

// Secret is 32 secret bytes: a KDF input, an HMAC or AES-256 key, a seed, a
// bearer token. Its methods never print the bytes, and as they are behind two
// pointers, fmt does not reach them in unexported fields of other structures
// either, where it cannot call methods. Copies share the bytes. The zero Secret
// is absent: it has no bytes to use.
type Secret struct{ p **[SecretSize]byte }

// Key128 is a 16-byte secret key, for AES-128. It behaves like Secret.
type Key128 struct{ p **[Key128Size]byte }

func ownSecret(b *[SecretSize]byte) Secret { return Secret{&b} }

func ownKey128(b *[Key128Size]byte) Key128 { return Key128{&b} }

// NewSecret returns 32 random bytes.
func NewSecret() Secret {
	b := new([SecretSize]byte)
	fill(b[:])
	return ownSecret(b)
}

// ParseSecret copies b, which must be 32 bytes, else ErrMalformed.
func ParseSecret(b []byte) (Secret, error) {
	if len(b) != SecretSize {
		return Secret{}, ErrMalformed
	}
	c := [SecretSize]byte(b)
	return ownSecret(&c), nil
}

// ParseKey128 copies b, which must be 16 bytes, else ErrMalformed.
func ParseKey128(b []byte) (Key128, error) {
	if len(b) != Key128Size {
		return Key128{}, ErrMalformed
	}
	c := [Key128Size]byte(b)
	return ownKey128(&c), nil
}

// Present reports whether s has bytes, that is, is not the zero Secret.
func (s Secret) Present() bool { return s.p != nil }

// Present reports whether k has bytes, that is, is not the zero Key128.
func (k Key128) Present() bool { return k.p != nil }

// Bytes returns the bytes themselves, not a copy. It panics on the zero
// Secret: using an absent key as if it were zeros must not succeed.
func (s Secret) Bytes() []byte {
	if s.p == nil {
		panic("primitive: internal error: use of an absent secret")
	}
	return (*s.p)[:]
}

// Bytes returns the bytes themselves, not a copy. It panics on the zero Key128.
func (k Key128) Bytes() []byte {
	if k.p == nil {
		panic("primitive: internal error: use of an absent key")
	}
	return (*k.p)[:]
}

// Equal compares in constant time. Absent secrets are equal to each other only.
func (s Secret) Equal(t Secret) bool {
	if s.p == nil || t.p == nil {
		return s.p == t.p
	}
	return subtle.ConstantTimeCompare(s.Bytes(), t.Bytes()) == 1
}

// Equal compares in constant time. Absent keys are equal to each other only.
func (k Key128) Equal(l Key128) bool {
	if k.p == nil || l.p == nil {
		return k.p == l.p
	}
	return subtle.ConstantTimeCompare(k.Bytes(), l.Bytes()) == 1
}

// Clone returns a Secret with bytes of its own, which survives Wipe of s.
func (s Secret) Clone() Secret {
	if s.p == nil {
		return Secret{}
	}
	c := **s.p
	return ownSecret(&c)
}

// Wipe clears the bytes of s and of all its copies.
func (s Secret) Wipe() {
	if s.p != nil {
		clear(s.Bytes())
	}
}

// Wipe clears the bytes of k and of all its copies.
func (k Key128) Wipe() {
	if k.p != nil {
		clear(k.Bytes())
	}
}

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]": secrets are stored through Bytes only.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// String returns "[redacted]".
func (Key128) String() string { return redacted }

// GoString returns "[redacted]".
func (Key128) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (Key128) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns "[redacted]".
func (Key128) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]": keys are stored through Bytes only.
func (Key128) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// fill reads from the system's generator, which does not fail (crypto/rand
// ends the process if it ever does).
func fill(b []byte) { _, _ = rand.Read(b) }
