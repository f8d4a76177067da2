package secret

import (
	"math/bits"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
)

// Ratchet tells the two ratchets of a leaf apart (RFC 9420 §9.1).
type Ratchet uint8

// The ratchets: handshakes (proposals and commits) and application data.
const (
	Handshake Ratchet = iota
	Application
)

// Tree is the secret tree of an epoch. It derives nodes when a leaf below is
// first used, and drops a node's secret as soon as both children exist. It is
// immutable; Next and Take share all untouched nodes with their result.
type Tree struct {
	s       *suite.Suite
	limits  Limits
	root    *node
	depth   int // 2^depth leaves
	skipped int // unused keys held in all ratchets
}

// node is one of three: a secret not used yet, two children, or two ratchets.
type node struct {
	secret      suite.Secret
	left, right *node
	ratchets    *[2]ratchet
}

// NewTree grows the secret tree for a ratchet tree of width leaves, a power of
// two, from the encryption_secret, which it takes over.
func NewTree(s *suite.Suite, encryption suite.Secret, width uint32, l Limits) *Tree {
	return &Tree{s: s, limits: l, root: &node{secret: encryption}, depth: bits.Len32(width) - 1}
}

// Next takes the key for our own next message.
func (t *Tree) Next(leaf uint32, which Ratchet) (*Tree, MessageKey, error) {
	return t.change(leaf, which, func(r ratchet) (MessageKey, ratchet, error) {
		if !r.secret.IsSet() {
			return MessageKey{}, ratchet{}, ErrUsed // 2^32 messages in one epoch.
		}
		key, next := r.step(t.s)
		return key, next, nil
	})
}

// Take takes the key of another member's message. The generation's distance is
// checked before anything is derived for it.
func (t *Tree) Take(leaf uint32, which Ratchet, generation uint32) (*Tree, MessageKey, error) {
	return t.change(leaf, which, func(r ratchet) (MessageKey, ratchet, error) {
		return r.take(t.s, generation, t.limits, t.limits.Total-t.skipped)
	})
}

func (t *Tree) change(leaf uint32, which Ratchet, f func(ratchet) (MessageKey, ratchet, error)) (*Tree, MessageKey, error) {
	if uint64(leaf)>>t.depth != 0 || which > Application {
		return nil, MessageKey{}, ErrLeaf
	}
	next := *t
	var key MessageKey
	root, err := t.descend(t.root, t.depth, leaf, func(r *[2]ratchet) (*[2]ratchet, error) {
		changed := *r
		var err error
		if key, changed[which], err = f(r[which]); err != nil {
			return nil, err
		}
		next.skipped += len(changed[which].skipped) - len(r[which].skipped)
		return &changed, nil
	})
	if err != nil {
		return nil, MessageKey{}, err
	}
	next.root = root
	return &next, key, nil
}

// descend copies the path from n to a leaf, expanding secrets on the way.
func (t *Tree) descend(n *node, height int, leaf uint32, f func(*[2]ratchet) (*[2]ratchet, error)) (*node, error) {
	if height == 0 {
		r := n.ratchets
		if r == nil {
			r = &[2]ratchet{
				{secret: t.s.DeriveSecret(n.secret, "handshake")},
				{secret: t.s.DeriveSecret(n.secret, "application")},
			}
		}
		changed, err := f(r)
		if err != nil {
			return nil, err
		}
		for i := range r {
			if n.ratchets == nil && !changed[i].secret.Is(r[i].secret) {
				r[i].secret.Wipe() // Derived here and consumed already.
			}
		}
		return &node{ratchets: changed}, nil
	}
	left, right := n.left, n.right
	if left == nil {
		left = &node{secret: t.s.DeriveHash(n.secret, "tree", []byte("left"))}
		right = &node{secret: t.s.DeriveHash(n.secret, "tree", []byte("right"))}
	}
	child := &left
	if leaf>>(height-1)&1 == 1 {
		child = &right
	}
	below, err := t.descend(*child, height-1, leaf, f)
	if err != nil {
		return nil, err
	}
	if n.left == nil {
		(*child).secret.Wipe() // Derived here and consumed already.
	}
	*child = below
	return &node{left: left, right: right}, nil
}

// RetireTree wipes what only old holds, after next was adopted. Old and next
// are of the same epoch; nil stands for a tree that is gone altogether. Pass
// them the other way round to drop an attempt that failed.
func RetireTree(old, next *Tree) {
	if old == nil {
		return
	}
	var n *node
	if next != nil {
		n = next.root
	}
	retire(old.root, n)
}

func retire(old, next *node) {
	if old == nil || old == next {
		return
	}
	kept := map[suite.Secret]bool{} // Keyed by address, not by content.
	if next != nil {
		next.own(func(s suite.Secret) { kept[s] = true })
	}
	old.own(func(s suite.Secret) {
		if !kept[s] {
			s.Wipe()
		}
	})
	if next == nil {
		next = &node{}
	}
	retire(old.left, next.left)
	retire(old.right, next.right)
}

// own calls f for the secrets of the node itself.
func (n *node) own(f func(suite.Secret)) {
	if n.secret.IsSet() {
		f(n.secret)
	}
	if n.ratchets != nil {
		n.ratchets[Handshake].secrets(f)
		n.ratchets[Application].secrets(f)
	}
}

// Secrets calls f for every secret in the tree.
func (t *Tree) Secrets(f func(suite.Secret)) {
	var walk func(*node)
	walk = func(n *node) {
		if n != nil {
			n.own(f)
			walk(n.left)
			walk(n.right)
		}
	}
	walk(t.root)
}
