package pseudonym

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// maxAAD is the most authenticated data of one message in bytes (SPEC.md §19).
const maxAAD = 65536

// AADItem is one item of a message's authenticated data.
type AADItem struct {
	Type uint16 // one of the AAD code points
	Data []byte
}

// AAD is the authenticated_data of an MLS message in a room (SPEC.md §4.4),
// ascending by type.
type AAD []AADItem

// AppendBinary appends the serialized items; an empty list is one zero byte.
// Items that are unknown or not strictly ascending are mmr/aad.
func (a AAD) AppendBinary(b []byte) ([]byte, error) {
	if !a.valid() {
		return b, mmrerr.AAD
	}
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, i := range a {
			b = binary.BigEndian.AppendUint16(b, i.Type)
			b = codec.AppendVector(b, i.Data)
		}
		return b
	}), nil
}

// ParseAAD reads authenticated_data. What is not a list of known items,
// strictly ascending, or longer than 65,536 bytes, is mmr/aad. Data aliases b.
func ParseAAD(b []byte) (AAD, error) {
	r := codec.NewReader(b)
	sub := r.Sub(maxAAD)
	a := AAD{}
	for !sub.Empty() {
		a = append(a, AADItem{Type: sub.Uint16(), Data: sub.Vector(maxAAD)})
	}
	r.Join(sub)
	if r.Done() != nil || len(b) > maxAAD || !a.valid() {
		return nil, mmrerr.AAD
	}
	return a, nil
}

// Get returns the data of the item of a type, and whether there is one.
func (a AAD) Get(itemType uint16) ([]byte, bool) {
	for _, i := range a {
		if i.Type == itemType {
			return i.Data, true
		}
	}
	return nil, false
}

func (a AAD) valid() bool {
	last := uint16(0)
	for _, i := range a {
		switch i.Type {
		case AADAddAAD, AADConnectionResponse, AADJoinerLink, AADSiblingProof, AADFrank:
		default:
			return false
		}
		if i.Type <= last {
			return false
		}
		last = i.Type
	}
	return true
}

// Carrier says which kind of message authenticated data is in.
type Carrier uint8

// The columns of the table in SPEC.md §4.4.
const (
	MemberCommit Carrier = iota + 1
	ExternalCommit
	Proposal
	Application
)

// AADContext is what decides which items a message must and may have. Fields
// that do not concern the carrier are ignored.
type AADContext struct {
	Carrier Carrier

	// LinkKeys: a member commit has Adds or changes its own credential.
	LinkKeys bool
	// Resync: an external commit that removes the sender's own old leaf.
	Resync bool
	// KnownUser: an external commit whose user_pseudonym has a leaf already.
	KnownUser bool
	// OwnLeafInDelta: the WrapDelta of an external commit has the joiner's leaf.
	OwnLeafInDelta bool
	// Key is Room.KeyRule for the user of an external commit.
	Key KeyRule
}

// Check is the table of SPEC.md §4.4 for a message in room r: items that are
// missing or misplaced are mmr/aad. The content of items is checked where it is
// used.
func (a AAD) Check(r *Room, c AADContext) error {
	for _, itemType := range []uint16{AADAddAAD, AADConnectionResponse, AADJoinerLink, AADSiblingProof, AADFrank} {
		_, present := a.Get(itemType)
		must, may := aadRule(itemType, r, c)
		if must && !present || present && !must && !may {
			return mmrerr.AAD
		}
	}
	return nil
}

func aadRule(itemType uint16, r *Room, c AADContext) (must, may bool) {
	external := c.Carrier == ExternalCommit
	switch itemType {
	case AADAddAAD:
		must = r.Scheme == SchemeStatic && (external || c.Carrier == MemberCommit && c.LinkKeys)
	case AADConnectionResponse:
		must = external && r.JoinRule == JoinByConnection && !c.Resync && !c.KnownUser
	case AADJoinerLink:
		if !external || r.Scheme != SchemeTree || c.OwnLeafInDelta {
			return false, false
		}
		must, may = c.Key == KeyRequired, c.Key == KeyOptional
	case AADSiblingProof:
		must = external && c.KnownUser && !c.Resync
	case AADFrank:
		may = c.Carrier == Application
	}
	return must, may
}
