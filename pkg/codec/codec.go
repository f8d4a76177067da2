// Package codec reads and writes the TLS presentation language as RFC 9420
// uses it: big-endian integers, fixed arrays, optional<T>, and vectors with a
// variable-size length header (RFC 9420 §2.1.2).
//
// Decoding is strict. A length header has exactly one valid encoding, the
// prefix 0b11 is refused, an optional's presence byte is 0 or 1, and Done
// refuses trailing bytes, so that bytes that decode re-encode to themselves.
// No length is trusted before the bytes it promises are known to be present:
// memory use is bounded by the input.
//
// A Reader has a sticky error: after the first failure every method returns
// zero values, so that a parser reads a whole structure and asks once.
//
//	r := codec.NewReader(b)
//	version := r.Uint16()
//	id := r.Vector(255)
//	if err := r.Done(); err != nil { … }
//
// Writing appends to a byte slice; the integers are encoding/binary's
// BigEndian.AppendUint16 and friends.
package codec

import (
	"encoding/binary"
	"errors"
)

// ErrMalformed is what every failed read reports. It says nothing about the
// input, so that it can be shown to anybody.
var ErrMalformed = errors.New("codec: malformed input")

// ErrLimit is reported when a vector is longer than its caller allows.
var ErrLimit = errors.New("codec: length limit exceeded")

// MaxVector is the longest vector the length header can express, 2^30-1 bytes.
const MaxVector = 1<<30 - 1

// Reader decodes one structure from a byte slice. Its slices alias the input.
type Reader struct {
	b   []byte
	err error
}

// NewReader returns a Reader over b, which it does not copy.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns the first failure, ErrMalformed or ErrLimit or one given to Fail.
func (r *Reader) Err() error { return r.err }

// Fail makes err the sticky error unless there is one already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
		r.b = nil
	}
}

// Done returns the sticky error, or ErrMalformed if input is left over.
func (r *Reader) Done() error {
	if r.err == nil && len(r.b) != 0 {
		r.Fail(ErrMalformed)
	}
	return r.err
}

// Empty reports whether nothing is left to read. It is true after a failure,
// so that loops over Empty end.
func (r *Reader) Empty() bool { return len(r.b) == 0 }

// Rest returns what has not been read without consuming it.
func (r *Reader) Rest() []byte { return r.b }

// Bytes reads n bytes (opaque x[n]).
func (r *Reader) Bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.Fail(ErrMalformed)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// Copy fills dst from the input.
func (r *Reader) Copy(dst []byte) {
	if v := r.Bytes(len(dst)); v != nil {
		copy(dst, v)
	}
}

// Uint8 reads a uint8.
func (r *Reader) Uint8() uint8 {
	if v := r.Bytes(1); v != nil {
		return v[0]
	}
	return 0
}

// Uint16 reads a uint16.
func (r *Reader) Uint16() uint16 {
	if v := r.Bytes(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

// Uint32 reads a uint32.
func (r *Reader) Uint32() uint32 {
	if v := r.Bytes(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

// Uint64 reads a uint64.
func (r *Reader) Uint64() uint64 {
	if v := r.Bytes(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// Optional reads the presence byte of an optional<T> (RFC 9420 §2.1.1).
func (r *Reader) Optional() bool {
	switch r.Uint8() {
	case 0:
		return false
	case 1:
		return r.err == nil
	}
	r.Fail(ErrMalformed)
	return false
}

// Length reads a vector's length header (RFC 9420 §2.1.2) and checks that the
// vector's bytes are present.
func (r *Reader) Length() int {
	if len(r.b) == 0 {
		r.Fail(ErrMalformed)
		return 0
	}
	size := 1 << (r.b[0] >> 6)
	if size == 8 || len(r.b) < size {
		r.Fail(ErrMalformed)
		return 0
	}
	n := int(r.b[0] & 0x3f)
	for _, c := range r.b[1:size] {
		n = n<<8 | int(c)
	}
	if headerSize(n) != size || n > len(r.b)-size {
		r.Fail(ErrMalformed)
		return 0
	}
	r.b = r.b[size:]
	return n
}

// Vector reads an opaque<V> of at most limit bytes. The result is non-nil
// unless reading failed.
func (r *Reader) Vector(limit int) []byte {
	n := r.Length()
	if n > limit {
		r.Fail(ErrLimit)
	}
	if r.err != nil {
		return nil
	}
	return r.Bytes(n)
}

// Sub reads a vector of at most limit bytes and returns a Reader over its
// elements. Failures of the sub-reader do not reach r: call r.Join with it,
// or check it with Done.
func (r *Reader) Sub(limit int) *Reader {
	v := r.Vector(limit)
	return &Reader{b: v, err: r.err}
}

// Join requires that sub was read to its end without failure.
func (r *Reader) Join(sub *Reader) {
	if err := sub.Done(); err != nil {
		r.Fail(err)
	}
}

func headerSize(n int) int {
	switch {
	case n < 1<<6:
		return 1
	case n < 1<<14:
		return 2
	default:
		return 4
	}
}

// AppendLength appends the shortest length header for a vector of n bytes.
// It panics if n is not in 0..MaxVector, which no bounded message reaches.
func AppendLength(b []byte, n int) []byte {
	if n < 0 || n > MaxVector {
		panic("codec: internal error: vector too long")
	}
	switch headerSize(n) {
	case 1:
		return append(b, byte(n))
	case 2:
		return binary.BigEndian.AppendUint16(b, 0x4000|uint16(n))
	default:
		return binary.BigEndian.AppendUint32(b, 0x8000_0000|uint32(n))
	}
}

// AppendVector appends v as opaque<V>.
func AppendVector[T ~[]byte | ~string](b []byte, v T) []byte {
	b = AppendLength(b, len(v))
	return append(b, v...)
}

// AppendVectorFunc appends a vector whose content f appends to its argument.
func AppendVectorFunc(b []byte, f func([]byte) []byte) []byte {
	start := len(b)
	b = f(b)
	n := len(b) - start
	size := headerSize(n)
	b = append(b, make([]byte, size)...)
	copy(b[start+size:], b[start:start+n])
	AppendLength(b[start:start], n)
	return b
}

// AppendOptional appends the presence byte of an optional<T>.
func AppendOptional(b []byte, present bool) []byte {
	if present {
		return append(b, 1)
	}
	return append(b, 0)
}
