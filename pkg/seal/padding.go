package seal

import (
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// minMessage is the smallest length of R-133 for MLS application messages.
const minMessage = 256

// checkBucket refuses lengths outside B (SPEC.md R-133).
func checkBucket(n int) error {
	if n > primitive.MaxBucket {
		return mmrerr.TooLarge
	}
	if !primitive.IsBucket(n) {
		return mmrerr.PaddingBucket
	}
	return nil
}

// pad returns Padded(x, bucket - overhead) for the smallest bucket that holds
// it.
func pad(x []byte, overhead int) ([]byte, error) {
	bucket, ok := primitive.Bucket(overhead + primitive.PaddedOverhead(min(len(x), primitive.MaxBucket)) + len(x))
	if !ok {
		return nil, mmrerr.TooLarge
	}
	p, ok := primitive.AppendPadded(nil, x, bucket-overhead)
	if !ok {
		return nil, mmrerr.TooLarge
	}
	return p, nil
}

func unpad(b []byte) ([]byte, error) {
	x, err := primitive.ParsePadded(b)
	if err != nil {
		return nil, mmrerr.Malformed
	}
	return x, nil
}

// MessageLength returns the PrivateMessage.ciphertext length that SPEC.md R-133
// wants for a ciphertext of at least n bytes, tag included: 16 + 256·2^k. The
// MLS content padding makes up the difference.
func MessageLength(n int) int {
	m := minMessage
	for m < n-primitive.TagSize {
		m *= 2
	}
	return m + primitive.TagSize
}

// IsMessageLength reports whether a PrivateMessage.ciphertext of n bytes is
// padded as SPEC.md R-133 wants.
func IsMessageLength(n int) bool { return n > 0 && MessageLength(n) == n }
