package seal

import (
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// Fields that several bodies of events and requests share.

func appendMessage(b, msg []byte) ([]byte, error) {
	if err := checkMLSMessage(msg); err != nil {
		return nil, err
	}
	return append(b, msg...), nil
}

func appendMessages(b []byte, msgs [][]byte) ([]byte, error) {
	for _, m := range msgs {
		if err := checkMLSMessage(m); err != nil {
			return nil, err
		}
	}
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, m := range msgs {
			b = append(b, m...)
		}
		return b
	}), nil
}

func readMessages(r *codec.Reader) [][]byte {
	sub := r.Sub(maxMessage)
	var msgs [][]byte
	for !sub.Empty() {
		msgs = append(msgs, readMLSMessage(sub))
	}
	r.Join(sub)
	return msgs
}

// readDelta reads one WrapDelta of SPEC.md R-94, whose meaning is the pseudonym
// package's, and returns its bytes.
func readDelta(r *codec.Reader) []byte {
	start := r.Rest()
	r.Uint64()           // epoch
	r.Bytes(32)          // base_id
	r.Vector(maxMessage) // nodes
	r.Vector(maxMessage) // gone
	r.Vector(maxMessage) // unresolved
	r.Vector(maxMessage) // links
	if r.Err() != nil {
		return nil
	}
	return start[: len(start)-len(r.Rest()) : len(start)-len(r.Rest())]
}

func appendDelta(b, delta []byte) ([]byte, error) {
	r := codec.NewReader(delta)
	readDelta(r)
	if r.Done() != nil {
		return nil, mmrerr.Malformed
	}
	return append(b, delta...), nil
}

// appendSecret appends a secret as opaque<V>, empty if it is absent.
func appendSecret(b []byte, s primitive.Secret) []byte {
	if !s.Present() {
		return codec.AppendVector(b, "")
	}
	return codec.AppendVector(b, s.Bytes())
}

// readSecret copies a secret out of the input.
func readSecret(r *codec.Reader, v []byte, optional bool) primitive.Secret {
	if len(v) == 0 && optional {
		return primitive.Secret{}
	}
	s, err := primitive.ParseSecret(v)
	if err != nil {
		r.Fail(codec.ErrMalformed)
	}
	return s
}
