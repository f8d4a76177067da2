package secret

import (
	"encoding/binary"
	"math/bits"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
)

// Node kinds of an encoded Tree.
const (
	nodeSecret byte = iota
	nodeParent
	nodeLeaf
)

// AppendSecret appends a secret as opaque<V>.
func AppendSecret(b []byte, s suite.Secret) []byte { return codec.AppendVector(b, s.Bytes()) }

// ReadSecret reads an opaque<V> of exactly n bytes into a Secret of its own.
func ReadSecret(r *codec.Reader, n int) suite.Secret {
	v := r.Vector(n)
	if r.Err() == nil && len(v) != n {
		r.Fail(codec.ErrMalformed)
	}
	return suite.NewSecret(v)
}

// AppendBinary appends the tree's state: nodes in preorder, each with its kind.
func (t *Tree) AppendBinary(b []byte) []byte {
	return t.appendNode(append(b, byte(t.depth)), t.root)
}

func (t *Tree) appendNode(b []byte, n *node) []byte {
	switch {
	case n.ratchets != nil:
		b = append(b, nodeLeaf)
		for _, r := range n.ratchets {
			b = r.append(b)
		}
		return b
	case n.left != nil:
		b = append(b, nodeParent)
		return t.appendNode(t.appendNode(b, n.left), n.right)
	}
	return AppendSecret(append(b, nodeSecret), n.secret)
}

func (r ratchet) append(b []byte) []byte {
	b = codec.AppendOptional(b, r.secret.IsSet())
	if r.secret.IsSet() {
		b = AppendSecret(binary.BigEndian.AppendUint32(b, r.next), r.secret)
	}
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, k := range r.skipped {
			b = binary.BigEndian.AppendUint32(b, k.Generation)
			b = AppendSecret(b, k.Key)
			b = AppendSecret(b, k.Nonce)
		}
		return b
	})
}

// ReadTree reads what AppendBinary wrote for a tree of the given width, or of
// any width if it is 0. It reports failures through r. The limits hold for what
// comes: a state that was saved under wider ones stays readable.
func ReadTree(r *codec.Reader, s *suite.Suite, width uint32, l Limits) *Tree {
	t := &Tree{s: s, limits: l, depth: int(r.Uint8())}
	if t.depth > 31 || width != 0 && t.depth != bits.Len32(width)-1 {
		r.Fail(codec.ErrMalformed)
	}
	t.root = t.readNode(r, t.depth)
	if r.Err() != nil {
		return nil
	}
	return t
}

func (t *Tree) readNode(r *codec.Reader, height int) *node {
	switch kind := r.Uint8(); {
	case r.Err() != nil:
	case kind == nodeSecret:
		return &node{secret: ReadSecret(r, t.s.HashSize())}
	case kind == nodeParent && height > 0:
		left := t.readNode(r, height-1)
		return &node{left: left, right: t.readNode(r, height-1)}
	case kind == nodeLeaf && height == 0:
		return &node{ratchets: &[2]ratchet{t.readRatchet(r), t.readRatchet(r)}}
	default:
		r.Fail(codec.ErrMalformed)
	}
	return &node{}
}

func (t *Tree) readRatchet(r *codec.Reader) ratchet {
	var v ratchet
	limit := uint64(1) << 32 // After the last generation, all are in the past.
	if r.Optional() {
		v.next = r.Uint32()
		v.secret = ReadSecret(r, t.s.HashSize())
		limit = uint64(v.next)
	}
	sub := r.Sub(codec.MaxVector)
	for !sub.Empty() {
		k := MessageKey{Generation: sub.Uint32()}
		k.Key = ReadSecret(sub, t.s.KeySize())
		k.Nonce = ReadSecret(sub, t.s.NonceSize())
		n := len(v.skipped)
		if uint64(k.Generation) >= limit || n > 0 && v.skipped[n-1].Generation >= k.Generation {
			sub.Fail(codec.ErrMalformed)
		}
		v.skipped = append(v.skipped, k)
	}
	r.Join(sub)
	t.skipped += len(v.skipped)
	return v
}
