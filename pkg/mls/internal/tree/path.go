package tree

import "github.com/mmrelay/mmrelay/pkg/mls/internal/wire"

// PathStep is one node of a filtered direct path and its child off the path.
type PathStep struct {
	Node, Copath NodeIndex
}

// FilteredPath returns the filtered direct path of a leaf from the leaf
// upwards: the nodes above it whose other child has a non-empty resolution
// (RFC 9420 §4.1.2).
func (t *Tree) FilteredPath(i LeafIndex) []PathStep {
	path := make([]PathStep, t.depth)
	k := t.depth
	n, x := t.root, t.Root()
	for !x.IsLeaf() {
		l, r := x.Left(), x.Right()
		on, off := l, r
		child, other := n.left, n.right
		if Leaf(i) > x {
			on, off = r, l
			child, other = n.right, n.left
		}
		if other.resolution > 0 {
			k--
			path[k] = PathStep{x, off}
		}
		n, x = child, on
	}
	return path[k:]
}

// Resolution returns the resolution of a node (RFC 9420 §4.1.1) without the
// leaves in except, which a commit has just added (§7.6).
func (t *Tree) Resolution(x NodeIndex, except []LeafIndex) []NodeIndex {
	n := t.node(x)
	skip := make(map[LeafIndex]bool, len(except))
	for _, i := range except {
		skip[i] = true
	}
	return n.resolve(make([]NodeIndex, 0, n.resolution), x, skip)
}

func (n *node) resolve(to []NodeIndex, x NodeIndex, skip map[LeafIndex]bool) []NodeIndex {
	switch {
	case n.resolution == 0:
		return to
	case x.IsLeaf():
		if skip[LeafIndex(x/2)] {
			return to
		}
		return append(to, x)
	case n.parent != nil:
		to = append(to, x)
		for _, i := range n.parent.UnmergedLeaves {
			if !skip[i] {
				to = append(to, Leaf(i))
			}
		}
		return to
	default:
		return n.right.resolve(n.left.resolve(to, x.Left(), skip), x.Right(), skip)
	}
}

// ResolutionSize returns the length of Resolution without computing it. The
// leaves in except must be non-blank and, as added leaves are, unmerged.
func (t *Tree) ResolutionSize(x NodeIndex, except []LeafIndex) int {
	size := t.node(x).resolution
	for _, i := range except {
		if Contains(x, i) {
			size--
		}
	}
	return size
}

// PathNodes returns the parent nodes that public keys give along a filtered
// direct path, with their parent hashes, and the parent hash of the leaf below
// (RFC 9420 §7.9). There must be one key per step.
func (t *Tree) PathNodes(path []PathStep, keys [][]byte) (nodes []*wire.ParentNode, leafHash []byte) {
	nodes = make([]*wire.ParentNode, len(path))
	leafHash = []byte{} // of a leaf with nothing above it
	for k := len(path) - 1; k >= 0; k-- {
		nodes[k] = &wire.ParentNode{EncryptionKey: keys[k], ParentHash: leafHash}
		leafHash = parentHash(t.suite, keys[k], leafHash, t.node(path[k].Copath).hash)
	}
	return nodes, leafHash
}
