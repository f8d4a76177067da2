// Package treewrap is the key tree by which the members of a room share
// identity link keys (SPEC.md §7, scheme 2). The hub stores one ciphertext per
// live node and cannot open any; a change costs a number of ciphertexts that
// grows with the logarithm of the members; somebody who has left opens nothing
// that was written later, whatever it kept and whatever the hub ever stored.
//
//	              hub                                 member
//	State ◀── State.Commit, Refresh ◀── Delta ◀── View.Write(R_e, ...)
//	  │                                  └──────▶ View.Apply(R_e, delta)
//	  └── served to joiners ──▶ ParseState ──────▶ Read(R_w) or ReadTop(link)
//
// Leaf i of the tree carries the link key of the client at MLS leaf i, its
// payload. Node numbers are those of RFC 9420 appendix C; the tree's size
// follows the highest leaf that has a payload, not the MLS tree's. A node is
// live if it is such a leaf, or a parent with payloads on both sides; the
// others have no key. The ciphertext of a live parent holds the keys of the
// nearest live nodes on its two sides, that of a leaf the payload. The key of
// the top node always comes from R_w, a secret exported from the MLS epoch w
// of the last write (SPEC.md R-90).
//
// A Delta is what one writer changes. It names the state it was made for, so
// that of two concurrent writers one loses and tries again. A writer that
// does not know the payload of a leaf leaves it unresolved for the next writer
//
//
// State is public and what the hub holds; View is a member's opened state. Both
// are immutable: an operation returns a new value, so that a commit that loses
// the race leaves no trace. View.Wipe deletes what the next View has replaced
//
//
// The tree tells the hub which leaves changed and which payloads are pending,
// both public already. It does not un-reveal a payload that a member has seen.
package treewrap

import (
	"encoding/binary"
	"errors"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// LabelTreeWrap is the MLS exporter label of R_e; the context is empty and the
// length 32 (SPEC.md §4.2).
const LabelTreeWrap = "mmr treewrap"

const labelTop = "mmr TreeWrap top"

var (
	// ErrMissed reports a delta for another state than the one held: the member
	// fetches the hub's (SPEC.md R-93).
	ErrMissed = errors.New("treewrap: delta is for another state")
	// ErrSuspect reports a state in which a ciphertext does not open or does not
	// fit its neighbours (SPEC.md R-93). The View that comes with it keeps every
	// payload that is known. A full rewrite repairs the state.
	ErrSuspect = errors.New("treewrap: state is suspect")
	// ErrUnknownPayload reports a full rewrite by a member that does not know
	// all payloads.
	ErrUnknownPayload = errors.New("treewrap: payload is not known")
)

// Leaf is what decides over the payload of one MLS leaf in the tree of the
// epoch that a delta is for. The zero Leaf is blank.
type Leaf struct {
	Present bool
	Hash    [32]byte          // TBS.Hash of the credential
	Rule    pseudonym.KeyRule // Room.KeyRule for the user's role
	Added   bool              // added by the commit that the delta rides with
}

// current reports whether the leaf has, or may have, a payload.
func (l Leaf) current() bool {
	return l.Present && (l.Rule == pseudonym.KeyRequired || l.Rule == pseudonym.KeyOptional)
}

func leafAt(leaves []Leaf, i uint32) Leaf {
	if int(i) < len(leaves) {
		return leaves[i]
	}
	return Leaf{}
}

// NodeKey returns the key that a node has if it is written in the epoch of r
// (SPEC.md §4.2).
func NodeKey(r primitive.Secret, node uint32) primitive.Secret {
	return primitive.DeriveSecret(r, "TreeWrap node", binary.BigEndian.AppendUint32(nil, node))
}

// sealNode makes C_y (SPEC.md R-90).
func sealNode(groupID []byte, epoch uint64, node uint32, key primitive.Secret, payload []byte) Node {
	return sealNodeAt(groupID, epoch, node, key, payload, primitive.NewNonce())
}

func sealNodeAt(groupID []byte, epoch uint64, node uint32, key primitive.Secret, payload []byte, nonce primitive.Nonce) Node {
	k := primitive.DeriveKey128(key, "TreeWrap key", nil)
	defer k.Wipe()
	return Node{Index: node, Epoch: epoch, Nonce: nonce, Ciphertext: primitive.AppendAES128(nil, k, nonce, nodeAAD(groupID, epoch, node), payload)}
}

func (n Node) open(groupID []byte, key primitive.Secret) ([]byte, error) {
	k := primitive.DeriveKey128(key, "TreeWrap key", nil)
	defer k.Wipe()
	return primitive.OpenAES128At(k, n.Nonce, nodeAAD(groupID, n.Epoch, n.Index), n.Ciphertext)
}

// nodeAAD is {opaque group_id<V>; uint64 epoch; uint32 y}.
func nodeAAD(groupID []byte, epoch uint64, node uint32) []byte {
	b := codec.AppendVector(nil, groupID)
	b = binary.BigEndian.AppendUint64(b, epoch)
	return binary.BigEndian.AppendUint32(b, node)
}

// topContext is {group_id<V>, uint64 epoch} of SPEC.md R-94.
func topContext(groupID []byte, epoch uint64) []byte {
	return binary.BigEndian.AppendUint64(codec.AppendVector(nil, groupID), epoch)
}
