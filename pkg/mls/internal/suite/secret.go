package suite

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog" //nolint:depguard // LogValue, so that secrets refuse to be logged
)

const redacted = "[redacted]"

// Secret owns the bytes of a secret. Copies of the value share the bytes, and
// Wipe clears them for all copies. The zero value holds nothing.
//
// The bytes are behind two pointers so that fmt, which does not call the methods
// of unexported fields, prints an address and not the secret when a structure
// holds one; it follows one pointer under a verb that does not fit. Wiping is
// best effort: the runtime and the primitives below may have made copies.
type Secret struct{ p *holder }

type holder struct{ b *[]byte }

// NewSecret returns a Secret with a copy of b.
func NewSecret(b []byte) Secret { return TakeSecret(append(make([]byte, 0, len(b)), b...)) }

// TakeSecret returns a Secret that owns b; the caller must not use b again.
func TakeSecret(b []byte) Secret {
	v := &struct {
		holder
		bytes []byte
	}{bytes: b}
	v.b = &v.bytes
	return Secret{&v.holder}
}

// RandomSecret returns n random bytes.
func RandomSecret(n int) Secret {
	b := make([]byte, n)
	rand.Read(b) // Never fails: it ends the program instead.
	return TakeSecret(b)
}

// Bytes returns the secret itself, not a copy, or nil after Wipe.
func (s Secret) Bytes() []byte {
	if s.p == nil {
		return nil
	}
	return *s.p.b
}

// Len returns the number of bytes held, 0 after Wipe.
func (s Secret) Len() int { return len(s.Bytes()) }

// IsSet reports whether s is not the zero value and was not wiped.
func (s Secret) IsSet() bool { return s.p != nil && *s.p.b != nil }

// Is reports whether s and t share their bytes, so that wiping one wipes the
// other. It compares addresses, not contents.
func (s Secret) Is(t Secret) bool { return s.p == t.p }

// Equal compares contents in constant time.
func (s Secret) Equal(t Secret) bool { return subtle.ConstantTimeCompare(s.Bytes(), t.Bytes()) == 1 }

// Clone returns a Secret with its own copy of the bytes.
func (s Secret) Clone() Secret { return NewSecret(s.Bytes()) }

// Wipe clears the bytes and lets go of them. Wiping twice is harmless.
func (s Secret) Wipe() {
	if s.p == nil {
		return
	}
	clear(*s.p.b)
	*s.p.b = nil
}

// String returns a constant.
func (s Secret) String() string { return redacted }

// GoString returns a constant.
func (s Secret) GoString() string { return redacted }

// Format writes a constant, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue returns a constant.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a constant; secrets leave only through Bytes.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
