package treewrap

import "github.com/mmrelay/mmrelay/pkg/primitive"

// Doors for the test vectors and for the attacker of the history test.

// SealNodeAt seals a node with a nonce.
var SealNodeAt = sealNodeAt

// Open opens a node with a key.
func (n Node) Open(groupID []byte, key primitive.Secret) ([]byte, error) {
	return n.open(groupID, key)
}

// Nodes returns the stored ciphertexts.
func (s *State) Nodes() map[uint32]Node { return s.nodes }

// Keys returns everything a member holds.
func (v *View) Keys() map[uint32]primitive.Secret { return v.keys }
