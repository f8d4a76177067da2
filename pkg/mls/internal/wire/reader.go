package wire

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// reader is a codec.Reader that knows the limits.
type reader struct {
	*codec.Reader
	l *Limits
}

// parse runs f over one private copy of b and requires that f consumed all of
// it. The results alias the copy, never b.
func parse[T any](b []byte, limit int, l *Limits, f func(r *reader) *T) (*T, error) {
	if len(b) > limit {
		return nil, RefuseAs(RuleLimit, ClassLimit)
	}
	r := &reader{codec.NewReader(bytes.Clone(b)), l}
	v := f(r)
	if err := r.Done(); err != nil {
		return nil, parseError(err)
	}
	return v, nil
}

// mark remembers a position; since returns the bytes read after it.
func (r *reader) mark() []byte { return r.Rest() }

func (r *reader) since(mark []byte) []byte {
	n := len(mark) - len(r.Rest())
	return mark[:n:n]
}

// bytes reads an opaque<V> bounded by the message itself.
func (r *reader) opaque() []byte { return r.Vector(codec.MaxVector) }

// malformed makes the structure fail to parse.
func (r *reader) malformed() { r.Fail(codec.ErrMalformed) }

// list reads a vector of elements, at most limit of them. The slice grows with
// the elements that were read and the bytes that are there, never with what a
// header announces.
func list[T any](r *reader, limit int, element func(r *reader) T) []T {
	return sized(r, codec.MaxVector, limit, element)
}

func sized[T any](r *reader, bytes, limit int, element func(r *reader) T) []T {
	v := r.Vector(bytes)
	if len(v) == 0 {
		return nil
	}
	sub := &reader{codec.NewReader(v), r.l}
	var vs []T
	for !sub.Empty() {
		if len(vs) == limit {
			sub.Fail(codec.ErrLimit)
			break
		}
		vs = append(vs, element(sub))
		if len(vs) == 1 {
			// Elements of one list are mostly of one size.
			vs = slices.Grow(vs, min(limit, len(v)/(len(v)-len(sub.Rest())))-1)
		}
	}
	r.Join(sub.Reader)
	return vs
}

// uint16s reads a vector of 16-bit values.
func uint16s[T ~uint16](r *reader, limit int) []T {
	v := r.Vector(codec.MaxVector)
	switch {
	case len(v)%2 != 0:
		r.malformed()
	case len(v)/2 > limit:
		r.Fail(codec.ErrLimit)
	}
	if r.Err() != nil || len(v) == 0 {
		return nil
	}
	vs := make([]T, len(v)/2)
	for i := range vs {
		vs[i] = T(binary.BigEndian.Uint16(v[2*i:]))
	}
	return vs
}

func appendUint16s[T ~uint16](b []byte, vs []T) []byte {
	b = codec.AppendLength(b, 2*len(vs))
	for _, v := range vs {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return b
}

// uint32s reads a vector of 32-bit values.
func uint32s[T ~uint32](r *reader, limit int) []T {
	v := r.Vector(codec.MaxVector)
	switch {
	case len(v)%4 != 0:
		r.malformed()
	case len(v)/4 > limit:
		r.Fail(codec.ErrLimit)
	}
	if r.Err() != nil || len(v) == 0 {
		return nil
	}
	vs := make([]T, len(v)/4)
	for i := range vs {
		vs[i] = T(binary.BigEndian.Uint32(v[4*i:]))
	}
	return vs
}

// appendList appends a vector of elements that append themselves.
func appendList[T any](b []byte, vs []T, element func(b []byte, v T) []byte) []byte {
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, v := range vs {
			b = element(b, v)
		}
		return b
	})
}
