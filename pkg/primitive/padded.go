package primitive

import "github.com/mmrelay/mmrelay/pkg/codec"

// The buckets B of SPEC.md §1: MinBucket times 2^k for k = 0..11, in bytes.
const (
	MinBucket = 512
	MaxBucket = 1 << 20
)

// Bucket returns the smallest member of B that is at least n; false if n is
// negative or larger than MaxBucket.
func Bucket(n int) (int, bool) {
	if n < 0 || n > MaxBucket {
		return 0, false
	}
	b := MinBucket
	for b < n {
		b *= 2
	}
	return b, true
}

// IsBucket reports whether n is a member of B.
func IsBucket(n int) bool {
	b, ok := Bucket(n)
	return ok && b == n
}

// PaddedOverhead returns how many bytes Padded needs besides the n bytes of its
// content.
func PaddedOverhead(n int) int { return len(codec.AppendLength(nil, n)) }

// AppendPadded appends Padded(x, n) of SPEC.md §1: the vector x followed by
// zeros, n bytes in all. It reports false, and appends nothing, if x does not
// fit.
func AppendPadded(b, x []byte, n int) ([]byte, bool) {
	if len(x) > codec.MaxVector {
		return b, false
	}
	zeros := n - PaddedOverhead(len(x)) - len(x)
	if zeros < 0 {
		return b, false
	}
	b = codec.AppendVector(b, x)
	return append(b, make([]byte, zeros)...), true
}

// ParsePadded returns the content of Padded bytes, which it does not copy, or
// ErrMalformed if the length does not fit or a byte of the padding is not zero.
func ParsePadded(b []byte) ([]byte, error) {
	r := codec.NewReader(b)
	x := r.Vector(codec.MaxVector)
	if r.Err() != nil {
		return nil, ErrMalformed
	}
	var nonzero byte
	for _, c := range r.Rest() {
		nonzero |= c
	}
	if nonzero != 0 {
		return nil, ErrMalformed
	}
	return x, nil
}
