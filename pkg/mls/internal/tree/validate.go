package tree

import (
	"bytes"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Validate checks the structure of a tree that somebody sent (RFC 9420
// §12.4.3.1): unmerged leaves, unique and valid keys, parent hashes. It does
// not look into leaves.
func (t *Tree) Validate() error {
	if t.root.members == 0 {
		return wire.Refuse(wire.RuleTreeEmpty)
	}
	if err := t.unique(); err != nil {
		return err
	}
	// Parent hashes are computed from unmerged leaves, which must be sound.
	if err := t.validate(t.root, t.Root(), t.checkParent); err != nil {
		return err
	}
	return t.validate(t.root, t.Root(), func(n *node, x NodeIndex) error {
		if !t.parentHashValid(n, x) {
			return wire.Refuse(wire.RuleTreeParentHash)
		}
		return nil
	})
}

// unique checks that no key occurs twice (RFC 9420 §7.3, §12.4.3.1).
func (t *Tree) unique() error {
	once := func(n int) bool { return n == 1 }
	if !t.encryption.all(once) {
		return wire.Refuse(wire.RuleDuplicateEncryption)
	}
	if !t.signature.all(once) {
		return wire.Refuse(wire.RuleDuplicateSignatureKey)
	}
	return nil
}

// validate calls check for every parent that is not blank.
func (t *Tree) validate(n *node, x NodeIndex, check func(n *node, x NodeIndex) error) error {
	if x.IsLeaf() {
		return nil
	}
	if err := t.validate(n.left, x.Left(), check); err != nil {
		return err
	}
	if err := t.validate(n.right, x.Right(), check); err != nil {
		return err
	}
	if n.parent == nil {
		return nil
	}
	return check(n, x)
}

// checkParent checks a parent's key and unmerged leaves.
func (t *Tree) checkParent(n *node, x NodeIndex) error {
	if t.suite.CheckPublicKey(n.parent.EncryptionKey) != nil {
		return wire.Refuse(wire.RuleTreeKey)
	}
	if !n.unmergedValid(x) {
		return wire.Refuse(wire.RuleTreeUnmerged)
	}
	return nil
}

// unmergedValid checks that the unmerged leaves ascend, are non-blank leaves
// below x, and are unmerged in every non-blank node between.
func (n *node) unmergedValid(x NodeIndex) bool {
	for k, i := range n.parent.UnmergedLeaves {
		if k > 0 && n.parent.UnmergedLeaves[k-1] >= i || uint32(i) >= 1<<31 || !Contains(x, i) {
			return false
		}
		m, y := n, x
		for !y.IsLeaf() {
			if Leaf(i) < y {
				m, y = m.left, y.Left()
			} else {
				m, y = m.right, y.Right()
			}
			if m.parent == nil {
				continue
			}
			if _, ok := slices.BinarySearch(m.parent.UnmergedLeaves, i); !ok {
				return false
			}
		}
		if m.leaf == nil {
			return false
		}
	}
	return true
}

// parentHashValid checks that exactly one node below P chains to it (RFC 9420
// §7.9.2). Unmerged leaves have been checked before.
func (t *Tree) parentHashValid(p *node, x NodeIndex) bool {
	split := slices.IndexFunc(p.parent.UnmergedLeaves, func(i LeafIndex) bool { return Leaf(i) > x })
	if split < 0 {
		split = len(p.parent.UnmergedLeaves)
	}
	left, right := p.parent.UnmergedLeaves[:split], p.parent.UnmergedLeaves[split:]
	return t.chains(p, p.left, x.Left(), left, p.right, x.Right(), right) !=
		t.chains(p, p.right, x.Right(), right, p.left, x.Left(), left)
}

// chains reports whether a node D in the resolution of P's child C has the
// parent hash of P with copath child S: D is all of the resolution but the
// unmerged leaves of P below C.
func (t *Tree) chains(p, c *node, cx NodeIndex, cUnmerged []LeafIndex, s *node, sx NodeIndex, sUnmerged []LeafIndex) bool {
	if c.resolution != 1+len(cUnmerged) {
		return false
	}
	var have []byte
	found := 0
	for _, d := range c.resolve(nil, cx, nil) {
		if d.IsLeaf() {
			if _, ok := slices.BinarySearch(cUnmerged, LeafIndex(d/2)); ok {
				continue
			}
		}
		found++
		n := t.node(d)
		switch {
		case n.parent != nil:
			have = n.parent.ParentHash
		case n.leaf.Source == wire.SourceCommit:
			have = n.leaf.ParentHash
		}
	}
	if found != 1 || have == nil {
		return false
	}
	original := t.originalHash(s, sx, sUnmerged)
	return bytes.Equal(have, parentHash(t.suite, p.parent.EncryptionKey, p.parent.ParentHash, original))
}

// originalHash returns the tree hash of a subtree without the given leaves,
// which are also taken out of all unmerged_leaves (RFC 9420 §7.9).
func (t *Tree) originalHash(n *node, x NodeIndex, without []LeafIndex) []byte {
	if len(without) == 0 {
		return n.hash
	}
	if x.IsLeaf() {
		return leafHash(t.suite, x, nil)
	}
	split := slices.IndexFunc(without, func(i LeafIndex) bool { return Leaf(i) > x })
	if split < 0 {
		split = len(without)
	}
	p := n.parent
	if p != nil {
		p = &wire.ParentNode{EncryptionKey: p.EncryptionKey, ParentHash: p.ParentHash}
		for _, i := range n.parent.UnmergedLeaves {
			if _, ok := slices.BinarySearch(without, i); !ok {
				p.UnmergedLeaves = append(p.UnmergedLeaves, i)
			}
		}
	}
	return parentTreeHash(t.suite, p,
		t.originalHash(n.left, x.Left(), without[:split]),
		t.originalHash(n.right, x.Right(), without[split:]))
}
