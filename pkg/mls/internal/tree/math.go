package tree

import "math/bits"

// NodeIndex is the position of a node in the array representation of RFC 9420
// Appendix C: leaf i is node 2i, parents are odd.
type NodeIndex uint32

// Leaf returns the node of a leaf.
func Leaf[T ~uint32](i T) NodeIndex { return NodeIndex(2 * i) }

// IsLeaf reports whether the node is a leaf.
func (x NodeIndex) IsLeaf() bool { return x&1 == 0 }

// Level returns the height of the node above the leaves.
func (x NodeIndex) Level() int { return bits.TrailingZeros32(^uint32(x)) }

// Left returns the left child of a parent, and a leaf itself.
func (x NodeIndex) Left() NodeIndex {
	k := x.Level()
	if k == 0 {
		return x
	}
	return x ^ 1<<(k-1)
}

// Right returns the right child of a parent, and a leaf itself.
func (x NodeIndex) Right() NodeIndex {
	k := x.Level()
	if k == 0 {
		return x
	}
	return x ^ 3<<(k-1)
}

// Root returns the root of a tree of the given number of leaves, a power of
// two.
func Root(leaves uint32) NodeIndex { return NodeIndex(leaves - 1) }

// Parent returns the parent of a node in an unbounded tree; the caller knows
// where its root is.
func (x NodeIndex) Parent() NodeIndex {
	k := x.Level()
	return (x | 1<<k) &^ (1 << (k + 1))
}

// Sibling returns the other child of the node's parent.
func (x NodeIndex) Sibling() NodeIndex {
	if p := x.Parent(); x < p {
		return p.Right()
	} else {
		return p.Left()
	}
}

// CommonAncestor returns the lowest node above both leaves.
func CommonAncestor[T ~uint32](a, b T) NodeIndex {
	x, y := Leaf(a), Leaf(b)
	for k := 0; x != y; k++ {
		x, y = x.Parent(), y.Parent()
	}
	return x
}

// Contains reports whether the leaf is below the node, or the node itself.
func Contains[T ~uint32](x NodeIndex, leaf T) bool {
	k := x.Level()
	return uint32(Leaf(leaf))>>(k+1) == uint32(x)>>(k+1)
}
