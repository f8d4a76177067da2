package tree

import (
	"iter"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// LeafIndex is the position of a leaf among all leaves.
type LeafIndex = wire.LeafIndex

// Tree is a ratchet tree. It is immutable and may be used by many goroutines.
type Tree struct {
	suite *suite.Suite
	root  *node
	depth int // 2^depth leaves
	limit int // largest number of leaves

	encryption  pmap[int]          // encryption key -> nodes that have it
	signature   pmap[int]          // signature key -> leaves that have it
	credentials pmap[int]          // credential type -> leaves that use it
	caps        pmap[capabilities] // serialized capabilities -> leaves that have them
}

type capabilities struct {
	*wire.Capabilities
	leaves int
}

// New returns the tree of a group of one member (RFC 9420 §11).
func New(s *suite.Suite, leaf *wire.LeafNode, l *wire.Limits) *Tree {
	t := &Tree{suite: s, root: &node{leaf: leaf}, limit: l.Leaves}
	t.root.derive(s, 0)
	t.addLeaf(leaf, 1)
	return t
}

// Suite returns the cipher suite that hashes the tree.
func (t *Tree) Suite() *suite.Suite { return t.suite }

// Width returns the number of leaves, blank ones included: a power of two.
func (t *Tree) Width() uint32 { return 1 << t.depth }

// Members returns the number of non-blank leaves.
func (t *Tree) Members() int { return t.root.members }

// Hash returns the tree hash (RFC 9420 §7.8). It must not be modified.
func (t *Tree) Hash() []byte { return t.root.hash }

// Root returns the index of the root.
func (t *Tree) Root() NodeIndex { return Root(t.Width()) }

// Leaf returns a leaf, or nil if it is blank or beyond the tree.
func (t *Tree) Leaf(i LeafIndex) *wire.LeafNode {
	if uint32(i) >= t.Width() {
		return nil
	}
	return t.node(Leaf(i)).leaf
}

// Leaves yields the non-blank leaves in ascending order.
func (t *Tree) Leaves() iter.Seq2[LeafIndex, *wire.LeafNode] {
	return func(yield func(LeafIndex, *wire.LeafNode) bool) { t.root.leaves(t.Root(), yield) }
}

func (n *node) leaves(x NodeIndex, yield func(LeafIndex, *wire.LeafNode) bool) bool {
	switch {
	case n.members == 0:
		return true
	case x.IsLeaf():
		return yield(LeafIndex(x/2), n.leaf)
	default:
		return n.left.leaves(x.Left(), yield) && n.right.leaves(x.Right(), yield)
	}
}

// Key returns the encryption key of a node, nil if it is blank or beyond the
// tree.
func (t *Tree) Key(x NodeIndex) []byte {
	if x.Level() > t.depth || uint32(x) > 2*t.Width()-2 {
		return nil
	}
	switch n := t.node(x); {
	case n.leaf != nil:
		return n.leaf.EncryptionKey
	case n.parent != nil:
		return n.parent.EncryptionKey
	}
	return nil
}

// NodeHash returns the tree hash of the subtree of a node within the tree.
func (t *Tree) NodeHash(x NodeIndex) []byte { return t.node(x).hash }

// node returns the node at x, which must be within the tree.
func (t *Tree) node(x NodeIndex) *node {
	n := t.root
	for at := t.Root(); at != x; {
		if x < at {
			n, at = n.left, at.Left()
		} else {
			n, at = n.right, at.Right()
		}
	}
	return n
}

// EncryptionKeys returns how many nodes have an encryption key.
func (t *Tree) EncryptionKeys(key []byte) int { return t.encryption.get(key) }

// SignatureKeys returns how many leaves have a signature key.
func (t *Tree) SignatureKeys(key []byte) int { return t.signature.get(key) }

// EveryCapabilities reports whether f is true for the capabilities of every
// member. f is asked once for members with the same ones.
func (t *Tree) EveryCapabilities(f func(c *wire.Capabilities) bool) bool {
	return t.caps.all(func(c capabilities) bool { return f(c.Capabilities) })
}

// addLeaf counts a leaf in or out of the maps beside the nodes.
func (t *Tree) addLeaf(leaf *wire.LeafNode, delta int) {
	t.encryption = count(t.encryption, leaf.EncryptionKey, delta)
	t.signature = count(t.signature, leaf.SignatureKey, delta)
	t.credentials = count(t.credentials, credentialKey(leaf.Credential.Type), delta)
	raw := leaf.CapabilitiesRaw()
	if n := t.caps.get(raw).leaves + delta; n > 0 {
		t.caps = t.caps.put(raw, capabilities{&leaf.Capabilities, n})
	} else {
		t.caps = t.caps.remove(raw)
	}
}

func (t *Tree) addParent(p *wire.ParentNode, delta int) {
	t.encryption = count(t.encryption, p.EncryptionKey, delta)
}

func credentialKey(c wire.CredentialType) []byte { return []byte{byte(c >> 8), byte(c)} }

// SupportsCredentials reports whether a leaf of the tree supports every
// credential type in use (RFC 9420 §7.3).
func (t *Tree) SupportsCredentials(leaf *wire.LeafNode) bool {
	// As many uses of the types it supports as there are members.
	n := 0
	seen := make(map[wire.CredentialType]bool, len(leaf.Capabilities.Credentials))
	for _, c := range leaf.Capabilities.Credentials {
		if !seen[c] {
			seen[c] = true
			n += t.credentials.get(credentialKey(c))
		}
	}
	return n == t.root.members
}
