package tree

import (
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// change returns a copy of the tree in which leaf i and the nodes above it are
// fresh copies that f, called from the root down, may change.
func (t *Tree) change(i LeafIndex, f func(t *Tree, n *node, x NodeIndex)) *Tree {
	c := *t
	c.root = c.copyPath(t.root, c.Root(), Leaf(i), f)
	return &c
}

func (t *Tree) copyPath(old *node, x, leaf NodeIndex, f func(t *Tree, n *node, x NodeIndex)) *node {
	n := *old
	f(t, &n, x)
	switch {
	case x == leaf:
	case leaf < x:
		n.left = t.copyPath(n.left, x.Left(), leaf, f)
	default:
		n.right = t.copyPath(n.right, x.Right(), leaf, f)
	}
	n.derive(t.suite, x)
	return &n
}

// setLeaf puts a leaf, or nil, into a copied node.
func (t *Tree) setLeaf(n *node, leaf *wire.LeafNode) {
	if n.leaf != nil {
		t.addLeaf(n.leaf, -1)
	}
	if n.leaf = leaf; leaf != nil {
		t.addLeaf(leaf, 1)
	}
}

// setParent puts a parent, or nil, into a copied node.
func (t *Tree) setParent(n *node, p *wire.ParentNode) {
	if n.parent != nil {
		t.addParent(n.parent, -1)
	}
	if n.parent = p; p != nil {
		t.addParent(p, 1)
	}
}

// Update replaces leaf i and blanks the nodes above it (RFC 9420 §12.1.2).
func (t *Tree) Update(i LeafIndex, leaf *wire.LeafNode) *Tree {
	return t.change(i, func(t *Tree, n *node, x NodeIndex) {
		if x.IsLeaf() {
			t.setLeaf(n, leaf)
		} else {
			t.setParent(n, nil)
		}
	})
}

// Remove blanks leaf i and the nodes above it and truncates the tree (RFC
// 9420 §12.1.3). At least one other leaf must be non-blank.
func (t *Tree) Remove(i LeafIndex) *Tree {
	t = t.Update(i, nil)
	for t.depth > 0 && t.root.right.members == 0 {
		// The root above a blank half is discarded with it (§7.7).
		if t.root.parent != nil {
			t.addParent(t.root.parent, -1)
		}
		t.root = t.root.left
		t.depth--
	}
	return t
}

// Add puts a new member into the leftmost blank leaf and among the unmerged
// leaves of the nodes above it (RFC 9420 §12.1.1).
func (t *Tree) Add(leaf *wire.LeafNode) (*Tree, LeafIndex, error) {
	t, i, err := t.Reserve()
	if err != nil {
		return nil, 0, err
	}
	return t.change(i, func(t *Tree, n *node, x NodeIndex) {
		switch {
		case x.IsLeaf():
			t.setLeaf(n, leaf)
		case n.parent != nil:
			p := *n.parent
			at, _ := slices.BinarySearch(p.UnmergedLeaves, i)
			p.UnmergedLeaves = slices.Insert(slices.Clone(p.UnmergedLeaves), at, i)
			n.parent = &p // the same key: nothing to count
		}
	}), i, nil
}

// Reserve returns the leftmost blank leaf, in a tree that was extended if
// there was none (RFC 9420 §7.7).
func (t *Tree) Reserve() (*Tree, LeafIndex, error) {
	if t.root.members == int(t.Width()) {
		if 2*int64(t.Width()) > int64(t.limit) {
			return nil, 0, wire.RefuseAs(wire.RuleTreeSize, wire.ClassLimit)
		}
		c := *t
		c.depth++
		x := c.Root()
		c.root = &node{left: t.root, right: blank(t.suite, x.Right())}
		c.root.derive(t.suite, x)
		t = &c
	}
	n, x := t.root, t.Root()
	for !x.IsLeaf() {
		if n.left.members < 1<<(x.Level()-1) {
			n, x = n.left, x.Left()
		} else {
			n, x = n.right, x.Right()
		}
	}
	return t, LeafIndex(x / 2), nil
}

// Merge puts an update path into the tree: leaf i, the given nodes of its
// filtered direct path from the leaf upwards, and blank nodes elsewhere above
// it (RFC 9420 §7.5). A nil leaf leaves the leaf as it is.
func (t *Tree) Merge(i LeafIndex, leaf *wire.LeafNode, path []PathStep, nodes []*wire.ParentNode) *Tree {
	next := len(path) - 1
	return t.change(i, func(t *Tree, n *node, x NodeIndex) {
		switch {
		case x.IsLeaf():
			if leaf != nil {
				t.setLeaf(n, leaf)
			}
		case next >= 0 && path[next].Node == x:
			t.setParent(n, nodes[next])
			next--
		default:
			t.setParent(n, nil)
		}
	})
}
