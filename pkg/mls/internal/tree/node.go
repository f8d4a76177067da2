package tree

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// node is one node and, through its children, the subtree below it. Once it is
// part of a Tree it never changes.
type node struct {
	left, right *node // nil in a leaf
	leaf        *wire.LeafNode
	parent      *wire.ParentNode

	members    int // non-blank leaves in the subtree
	resolution int // length of the resolution (RFC 9420 §4.1.1)
	hash       []byte
}

// derive computes the cached values from the node and its children.
func (n *node) derive(s *suite.Suite, x NodeIndex) {
	if x.IsLeaf() {
		n.members, n.resolution = 0, 0
		if n.leaf != nil {
			n.members, n.resolution = 1, 1
		}
	} else {
		n.members = n.left.members + n.right.members
		if n.parent != nil {
			n.resolution = 1 + len(n.parent.UnmergedLeaves)
		} else {
			n.resolution = n.left.resolution + n.right.resolution
		}
	}
	n.hash = n.treeHash(s, x)
}

// treeHash hashes TreeHashInput (RFC 9420 §7.8).
func (n *node) treeHash(s *suite.Suite, x NodeIndex) []byte {
	if x.IsLeaf() {
		return leafHash(s, x, n.leaf)
	}
	return parentTreeHash(s, n.parent, n.left.hash, n.right.hash)
}

func leafHash(s *suite.Suite, x NodeIndex, leaf *wire.LeafNode) []byte {
	var head [6]byte
	head[0] = 1 // NodeType leaf
	binary.BigEndian.PutUint32(head[1:], uint32(x/2))
	if leaf == nil {
		return s.Hash(head[:])
	}
	head[5] = 1 // present
	return s.Hash(head[:], leaf.Raw())
}

func parentTreeHash(s *suite.Suite, p *wire.ParentNode, left, right []byte) []byte {
	b := make([]byte, 0, 512)
	b = append(b, 2) // NodeType parent
	b = codec.AppendOptional(b, p != nil)
	if p != nil {
		b = p.AppendTo(b)
	}
	b = codec.AppendVector(b, left)
	b = codec.AppendVector(b, right)
	return s.Hash(b)
}

// parentHash hashes ParentHashInput: the parent hash of a node with this key
// and parent_hash, given the original tree hash of the copath child (§7.9).
func parentHash(s *suite.Suite, key, above, sibling []byte) []byte {
	b := make([]byte, 0, 256)
	b = codec.AppendVector(b, key)
	b = codec.AppendVector(b, above)
	b = codec.AppendVector(b, sibling)
	return s.Hash(b)
}

// blank returns a blank subtree with root x.
func blank(s *suite.Suite, x NodeIndex) *node {
	n := &node{}
	if !x.IsLeaf() {
		n.left, n.right = blank(s, x.Left()), blank(s, x.Right())
	}
	n.derive(s, x)
	return n
}
