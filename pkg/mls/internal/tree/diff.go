package tree

import "github.com/mmrelay/mmrelay/pkg/mls/internal/wire"

// ChangedLeaves returns the leaves at which two trees of one group differ, in
// ascending order. Subtrees that the trees share are not looked at, so that the
// cost follows the number of changes.
func ChangedLeaves(a, b *Tree) []LeafIndex {
	d := max(a.depth, b.depth)
	return diff(nil, a.grown(d), b.grown(d), Root(1<<d))
}

// grown returns the root of the tree as part of a tree of the given depth,
// without hashes.
func (t *Tree) grown(depth int) *node {
	n := t.root
	for d := t.depth; d < depth; d++ {
		n = &node{left: n}
	}
	return n
}

// diff appends the changed leaves below x; nil stands for a blank subtree.
func diff(to []LeafIndex, a, b *node, x NodeIndex) []LeafIndex {
	if a == b {
		return to
	}
	if x.IsLeaf() {
		if a.leafOrNil() != b.leafOrNil() {
			to = append(to, LeafIndex(x/2))
		}
		return to
	}
	al, ar := a.children()
	bl, br := b.children()
	return diff(diff(to, al, bl, x.Left()), ar, br, x.Right())
}

func (n *node) children() (left, right *node) {
	if n == nil {
		return nil, nil
	}
	return n.left, n.right
}

func (n *node) leafOrNil() *wire.LeafNode {
	if n == nil {
		return nil
	}
	return n.leaf
}
