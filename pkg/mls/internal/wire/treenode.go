package wire

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// ParentNode is an inner node of the ratchet tree (RFC 9420 §7.1).
type ParentNode struct {
	EncryptionKey  []byte
	ParentHash     []byte
	UnmergedLeaves []LeafIndex
}

// Node is one entry of a serialized ratchet tree; both fields are nil for a
// blank node.
type Node struct {
	Leaf   *LeafNode
	Parent *ParentNode
}

const (
	nodeLeaf   = 1
	nodeParent = 2
)

// ParseRatchetTree reads the body of a ratchet_tree extension, optional<Node>
// ratchet_tree<V> (RFC 9420 §12.4.3.3). Which node may stand where is for
// package tree to check.
func ParseRatchetTree(b []byte, l *Limits) ([]Node, error) {
	vs, err := parse(b, l.Tree, l, func(r *reader) *[]Node {
		vs := sized(r, l.Tree, 2*l.Leaves, readNode)
		return &vs
	})
	if err != nil {
		return nil, err
	}
	return *vs, nil
}

func readNode(r *reader) (n Node) {
	if !r.Optional() {
		return n
	}
	switch r.Uint8() {
	case nodeLeaf:
		n.Leaf = readLeafNode(r)
	case nodeParent:
		n.Parent = &ParentNode{
			EncryptionKey:  r.opaque(),
			ParentHash:     r.opaque(),
			UnmergedLeaves: uint32s[LeafIndex](r, r.l.Leaves),
		}
	default:
		r.malformed()
	}
	return n
}

// AppendTo appends optional<Node>.
func (n Node) AppendTo(b []byte) []byte {
	switch {
	case n.Leaf != nil:
		return append(append(b, 1, nodeLeaf), n.Leaf.raw...)
	case n.Parent != nil:
		return n.Parent.AppendTo(append(b, 1, nodeParent))
	}
	return append(b, 0)
}

// AppendTo appends the encoding.
func (p *ParentNode) AppendTo(b []byte) []byte {
	b = codec.AppendVector(b, p.EncryptionKey)
	b = codec.AppendVector(b, p.ParentHash)
	b = codec.AppendLength(b, 4*len(p.UnmergedLeaves))
	for _, l := range p.UnmergedLeaves {
		b = binary.BigEndian.AppendUint32(b, uint32(l))
	}
	return b
}

// AppendRatchetTree appends the body of a ratchet_tree extension.
func AppendRatchetTree(b []byte, nodes []Node) []byte {
	return appendList(b, nodes, func(b []byte, n Node) []byte { return n.AppendTo(b) })
}
