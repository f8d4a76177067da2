package treewrap

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// Lengths of ciphertexts in bytes (SPEC.md R-94).
const (
	leafCiphertext   = primitive.SecretSize + primitive.TagSize
	parentCiphertext = 2*primitive.SecretSize + primitive.TagSize
	maxEncoded       = 1 << 20
)

// Node is WrapNode: C_y with its node number.
type Node struct {
	Index      uint32
	Epoch      uint64 // in which it was written
	Nonce      primitive.Nonce
	Ciphertext []byte
}

// LinkTop is the key of the top node for the holders of one join link.
type LinkTop struct {
	LinkID [16]byte
	TopKey primitive.HPKECiphertext
}

// Delta is WrapDelta (SPEC.md R-94): what one write changes. It travels in the
// GroupInfo extension pseudonym.ExtensionWrapDelta or in a refresh.
type Delta struct {
	Epoch      uint64
	BaseID     [32]byte  // ID of the state it changes; zeros for the first
	Nodes      []Node    // ascending by index
	Gone       []uint32  // nodes that are no longer live, ascending
	Unresolved []uint32  // leaves whose payload the writer lacks, ascending
	Links      []LinkTop // one per link of the room, in its order
}

// ID returns the ID of the state that the delta leads to: H of the serialized
// delta.
func (d *Delta) ID() [32]byte {
	b, _ := d.AppendBinary(nil)
	return primitive.Hash(b)
}

// HasLeaf reports whether the delta writes the payload of a leaf, as that of a
// replaced credential (SPEC.md R-9) and a link joiner's must.
func (d *Delta) HasLeaf(leaf uint32) bool {
	_, ok := slices.BinarySearchFunc(d.Nodes, 2*leaf, func(n Node, y uint32) int { return cmp.Compare(n.Index, y) })
	return ok
}

// AppendBinary appends the serialized delta.
func (d *Delta) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(b, d.Epoch)
	b = append(b, d.BaseID[:]...)
	b = appendNodes(b, d.Nodes)
	b = appendUint32s(b, d.Gone)
	b = appendUint32s(b, d.Unresolved)
	return appendLinkTops(b, d.Links), nil
}

// ParseDelta reads a serialized delta. Lists out of order and ciphertexts of
// another length than their node's are mmr/malformed. Ciphertexts alias b.
func ParseDelta(b []byte) (*Delta, error) {
	r := codec.NewReader(b)
	d := &Delta{Epoch: r.Uint64()}
	r.Copy(d.BaseID[:])
	d.Nodes = readNodes(r)
	d.Gone = readUint32s(r)
	d.Unresolved = readUint32s(r)
	d.Links = readLinkTops(r)
	if r.Done() != nil || len(b) > maxEncoded {
		return nil, mmrerr.Malformed
	}
	return d, nil
}

func appendNodes(b []byte, nodes []Node) []byte {
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, n := range nodes {
			b = binary.BigEndian.AppendUint32(b, n.Index)
			b = binary.BigEndian.AppendUint64(b, n.Epoch)
			b = append(b, n.Nonce[:]...)
			b = codec.AppendVector(b, n.Ciphertext)
		}
		return b
	})
}

func readNodes(r *codec.Reader) []Node {
	sub := r.Sub(maxEncoded)
	var nodes []Node
	for !sub.Empty() {
		n := Node{Index: sub.Uint32(), Epoch: sub.Uint64()}
		sub.Copy(n.Nonce[:])
		n.Ciphertext = sub.Vector(parentCiphertext)
		if len(n.Ciphertext) != ciphertextSize(n.Index) || n.Index > 2*maxLeaf {
			sub.Fail(codec.ErrMalformed)
		}
		nodes = append(nodes, n)
	}
	r.Join(sub)
	if !ascending(nodes, func(a, b Node) int { return cmp.Compare(a.Index, b.Index) }) {
		r.Fail(codec.ErrMalformed)
	}
	return nodes
}

func ciphertextSize(node uint32) int {
	if isLeaf(node) {
		return leafCiphertext
	}
	return parentCiphertext
}

func appendUint32s(b []byte, v []uint32) []byte {
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, x := range v {
			b = binary.BigEndian.AppendUint32(b, x)
		}
		return b
	})
}

func readUint32s(r *codec.Reader) []uint32 {
	sub := r.Sub(maxEncoded)
	var v []uint32
	for !sub.Empty() {
		v = append(v, sub.Uint32())
	}
	r.Join(sub)
	if !ascending(v, cmp.Compare[uint32]) {
		r.Fail(codec.ErrMalformed)
	}
	return v
}

func appendLinkTops(b []byte, links []LinkTop) []byte {
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, l := range links {
			b = append(b, l.LinkID[:]...)
			b = l.TopKey.Append(b)
		}
		return b
	})
}

func readLinkTops(r *codec.Reader) []LinkTop {
	sub := r.Sub(maxEncoded)
	var links []LinkTop
	for !sub.Empty() {
		var l LinkTop
		sub.Copy(l.LinkID[:])
		l.TopKey = primitive.ReadHPKECiphertext(sub, leafCiphertext)
		if len(l.TopKey.KEMOutput) != primitive.X25519.EncSize() || len(l.TopKey.Ciphertext) != leafCiphertext {
			sub.Fail(codec.ErrMalformed)
		}
		links = append(links, l)
	}
	r.Join(sub)
	return links
}

// ascending reports whether v is strictly ascending.
func ascending[T any](v []T, compare func(a, b T) int) bool {
	for i := 1; i < len(v); i++ {
		if compare(v[i-1], v[i]) >= 0 {
			return false
		}
	}
	return true
}

// contains searches an ascending list.
func contains(v []uint32, x uint32) bool {
	_, ok := slices.BinarySearch(v, x)
	return ok
}
