package tree

import (
	"math/bits"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Parse reads the body of a ratchet_tree extension (RFC 9420 §12.4.3.3). It
// checks where nodes may stand, and nothing else: Validate does.
func Parse(s *suite.Suite, b []byte, l *wire.Limits) (*Tree, error) {
	nodes, err := wire.ParseRatchetTree(b, l)
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		return nil, wire.Refuse(wire.RuleTreeEmpty)
	}
	if last := nodes[len(nodes)-1]; last == (wire.Node{}) {
		return nil, wire.Refuse(wire.RuleTreeLastBlank)
	}
	// Leaves stand at even positions, so that an array which does not end
	// with a parent has an odd length.
	if len(nodes)%2 == 0 {
		return nil, wire.Refuse(wire.RuleTreeNodeType)
	}
	t := &Tree{suite: s, limit: l.Leaves}
	t.depth = bits.Len(uint(len(nodes)+1)/2 - 1)
	if t.Width() > uint32(l.Leaves) {
		return nil, wire.RefuseAs(wire.RuleTreeSize, wire.ClassLimit)
	}
	for x, n := range nodes {
		if n.Leaf != nil && x%2 != 0 || n.Parent != nil && x%2 == 0 {
			return nil, wire.Refuse(wire.RuleTreeNodeType)
		}
		t.countNode(n)
	}
	t.root = t.build(nodes, t.Root())
	return t, nil
}

// countNode counts a node into the maps beside the nodes of a new tree.
func (t *Tree) countNode(n wire.Node) {
	switch {
	case n.Leaf != nil:
		*t.encryption.at(n.Leaf.EncryptionKey)++
		*t.signature.at(n.Leaf.SignatureKey)++
		*t.credentials.at(credentialKey(n.Leaf.Credential.Type))++
		c := t.caps.at(n.Leaf.CapabilitiesRaw())
		c.Capabilities = &n.Leaf.Capabilities
		c.leaves++
	case n.Parent != nil:
		*t.encryption.at(n.Parent.EncryptionKey)++
	}
}

// build makes the subtree with root x from the array.
func (t *Tree) build(nodes []wire.Node, x NodeIndex) *node {
	n := &node{}
	if !x.IsLeaf() {
		n.left, n.right = t.build(nodes, x.Left()), t.build(nodes, x.Right())
	}
	if int(x) < len(nodes) {
		n.leaf, n.parent = nodes[x].Leaf, nodes[x].Parent
	}
	n.derive(t.suite, x)
	return n
}

// AppendTo appends the body of the ratchet_tree extension.
func (t *Tree) AppendTo(b []byte) []byte {
	nodes := make([]wire.Node, 2*t.Width()-1)
	t.root.fill(nodes, t.Root())
	for nodes[len(nodes)-1] == (wire.Node{}) {
		nodes = nodes[:len(nodes)-1]
	}
	return wire.AppendRatchetTree(b, nodes)
}

func (n *node) fill(nodes []wire.Node, x NodeIndex) {
	nodes[x] = wire.Node{Leaf: n.leaf, Parent: n.parent}
	if !x.IsLeaf() {
		n.left.fill(nodes, x.Left())
		n.right.fill(nodes, x.Right())
	}
}
