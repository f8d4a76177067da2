package primitive

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"golang.org/x/crypto/hkdf"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// HashSize is the length of a Hash or HMAC value in bytes.
const HashSize = sha256.Size

// labelPrefix comes before every label of EWL, SWL and HPKE-L (RFC 9420 §5.1.2,
// §5.1.3, §8).
const labelPrefix = "MLS 1.0 "

// Hash is H of SPEC.md §1: SHA-256 of the concatenation of parts.
func Hash(parts ...[]byte) [HashSize]byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	var sum [HashSize]byte
	h.Sum(sum[:0])
	return sum
}

// HMAC is HMAC-SHA256 under key of the concatenation of parts. Compare its
// values with hmac.Equal or subtle.ConstantTimeCompare.
func HMAC(key []byte, parts ...[]byte) [HashSize]byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	var sum [HashSize]byte
	h.Sum(sum[:0])
	return sum
}

// ExpandWithLabel is EWL of SPEC.md §1: RFC 9420 §8 ExpandWithLabel over
// HKDF-SHA256 with n bytes of output. It panics if n is not in 1..8160, which
// is the caller's constant.
func ExpandWithLabel(secret Secret, label string, context []byte, n int) []byte {
	if n < 1 || n > 255*HashSize {
		panic("primitive: internal error: length of derived secret")
	}
	// struct { uint16 length; opaque label<V>; opaque context<V>; } KDFLabel
	info := make([]byte, 0, 2+1+len(labelPrefix)+len(label)+4+len(context))
	info = binary.BigEndian.AppendUint16(info, uint16(n))
	info = codec.AppendVector(info, labelPrefix+label)
	info = codec.AppendVector(info, context)
	out := make([]byte, n)
	if _, err := io.ReadFull(hkdf.Expand(sha256.New, secret.Bytes(), info), out); err != nil {
		panic("primitive: internal error: HKDF limit")
	}
	return out
}

// DeriveSecret is ExpandWithLabel with 32 bytes of output.
func DeriveSecret(secret Secret, label string, context []byte) Secret {
	return ownSecret((*[SecretSize]byte)(ExpandWithLabel(secret, label, context, SecretSize)))
}

// DeriveKey128 is ExpandWithLabel with 16 bytes of output.
func DeriveKey128(secret Secret, label string, context []byte) Key128 {
	return ownKey128((*[Key128Size]byte)(ExpandWithLabel(secret, label, context, Key128Size)))
}
