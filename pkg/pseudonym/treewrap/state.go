package treewrap

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// State is what the hub stores (SPEC.md R-90): nothing in it is secret. It is
// immutable. The zero State, also nil, is the one before a room's first delta.
type State struct {
	epoch uint64 // wrap_epoch
	id    [32]byte
	nodes map[uint32]Node     // C_y of the live nodes
	bound map[uint32][32]byte // leaf to the TBS hash its payload was written for
	links []LinkTop
}

// Epoch returns wrap_epoch, the epoch of the last write.
func (s *State) Epoch() uint64 {
	if s == nil {
		return 0
	}
	return s.epoch
}

// ID returns state_id, which the next delta names as its base.
func (s *State) ID() [32]byte {
	if s == nil {
		return [32]byte{}
	}
	return s.id
}

// Occupied returns the leaves that have a payload, ascending.
func (s *State) Occupied() []uint32 {
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.bound))
}

// Bound returns the TBS hash of the credential whose payload a leaf has, and
// whether it has one.
func (s *State) Bound(leaf uint32) ([32]byte, bool) {
	if s == nil {
		return [32]byte{}, false
	}
	h, ok := s.bound[leaf]
	return h, ok
}

// Top returns the top node, and whether there is one.
func (s *State) Top() (uint32, bool) {
	sh := newShape(s.Occupied())
	return sh.top, !sh.empty
}

// Link returns the LinkTop of a join link, and whether there is one.
func (s *State) Link(id [16]byte) (LinkTop, bool) {
	if s != nil {
		for _, l := range s.links {
			if l.LinkID == id {
				return l, true
			}
		}
	}
	return LinkTop{}, false
}

// Touched returns the set T of SPEC.md R-91 for the leaves of an epoch,
// ascending: those whose payload is not the one for the credential now there.
// In rooms where the key is optional it includes the leaves that have none.
func (s *State) Touched(leaves []Leaf) []uint32 {
	var t []uint32
	for _, i := range s.indices(leaves) {
		l := leafAt(leaves, i)
		if h, ok := s.Bound(i); ok != l.current() || ok && h != l.Hash {
			t = append(t, i)
		}
	}
	return t
}

// indices returns every leaf that is present or has a payload, ascending.
func (s *State) indices(leaves []Leaf) []uint32 {
	var v []uint32
	for i, l := range leaves {
		if l.Present {
			v = append(v, uint32(i))
		}
	}
	for _, i := range s.Occupied() {
		if !leafAt(leaves, i).Present {
			v = append(v, i)
		}
	}
	slices.Sort(v)
	return v
}

// transition is what a write makes of a state, before any ciphertext.
type transition struct {
	touched []uint32 // T, as far as the writer acted on it
	shape   shape    // of the leaves that are occupied after it
	bound   map[uint32][32]byte
}

// transition computes T, U and the occupied leaves of SPEC.md R-92 from which
// leaves a write covers and which it leaves unresolved, alike for hub and
// writer. It reports false if unresolved is not within the non-blank leaves of
// T.
func (s *State) transition(leaves []Leaf, written func(leaf uint32) bool, unresolved []uint32) (transition, bool) {
	t := transition{bound: make(map[uint32][32]byte)}
	seen := 0
	for _, i := range s.indices(leaves) {
		l := leafAt(leaves, i)
		h, had := s.Bound(i)
		pending := contains(unresolved, i)
		switch {
		case !l.current():
			if had {
				t.touched = append(t.touched, i)
			}
			continue
		case had && h == l.Hash:
			t.bound[i] = h
			continue
		case pending:
			seen++
			t.touched = append(t.touched, i)
		case l.Rule == pseudonym.KeyRequired || written(i):
			t.touched = append(t.touched, i)
			t.bound[i] = l.Hash
		case had: // keyless now (SPEC.md R-56), the old payload goes
			t.touched = append(t.touched, i)
		}
	}
	t.shape = newShape(slices.Sorted(maps.Keys(t.bound)))
	return t, seen == len(unresolved)
}

// Commit checks the delta that comes with a commit (SPEC.md) and
// returns the state after it. epoch is the one the commit makes, leaves its
// tree, links those of the room's policy after it. Codes: mmr/wrap-stale for
// another epoch or base, mmr/link-key-missing for an added leaf left unresolved
// where a key is required, else mmr/wrap-structure.
func (s *State) Commit(epoch uint64, leaves []Leaf, links []pseudonym.RoomLink, d *Delta) (*State, error) {
	next, _, err := s.advance(epoch, leaves, links, d)
	return next, err
}

// Refresh checks a delta that comes alone in the current epoch (SPEC.md R-98)
// and returns the state after it. full says that it is accepted only because it
// is a full rewrite, of which the caller admits one per leaf and epoch. A
// refresh that nobody needs is mmr/wrap-stale.
func (s *State) Refresh(epoch uint64, leaves []Leaf, links []pseudonym.RoomLink, d *Delta) (next *State, full bool, err error) {
	next, t, err := s.advance(epoch, leaves, links, d)
	if err != nil {
		return nil, false, err
	}
	if s.Epoch() < epoch || len(t.touched) > len(d.Unresolved) {
		return next, false, nil
	}
	if len(d.Nodes) == len(t.shape.live) {
		return next, true, nil
	}
	return nil, false, mmrerr.WrapStale
}

// advance makes the checks of SPEC.md R-95.
func (s *State) advance(epoch uint64, leaves []Leaf, links []pseudonym.RoomLink, d *Delta) (*State, transition, error) {
	if d.Epoch != epoch || d.BaseID != s.ID() {
		return nil, transition{}, mmrerr.WrapStale
	}
	written := make(map[uint32]bool, len(d.Nodes))
	for _, n := range d.Nodes {
		written[n.Index] = true
	}
	t, ok := s.transition(leaves, func(leaf uint32) bool { return written[2*leaf] }, d.Unresolved)
	if !ok {
		return nil, t, mmrerr.WrapStructure
	}
	for _, i := range d.Unresolved {
		if l := leafAt(leaves, i); l.Added && l.Rule == pseudonym.KeyRequired {
			return nil, t, mmrerr.LinkKeyMissing
		}
	}
	if !s.structureOK(t, d, written) || !linksOK(t, links, d) {
		return nil, t, mmrerr.WrapStructure
	}
	next := &State{epoch: epoch, id: d.ID(), nodes: make(map[uint32]Node, len(t.shape.live)), bound: t.bound, links: d.Links}
	for y := range t.shape.live {
		if s != nil {
			next.nodes[y] = s.nodes[y]
		}
	}
	for _, n := range d.Nodes {
		next.nodes[n.Index] = n
	}
	return next, t, nil
}

// structureOK checks that required ⊆ nodes ⊆ live, that nodes is closed
// upwards, and gone.
func (s *State) structureOK(t transition, d *Delta, written map[uint32]bool) bool {
	for _, n := range d.Nodes {
		if _, live := t.shape.live[n.Index]; !live || n.Epoch != d.Epoch || len(n.Ciphertext) != ciphertextSize(n.Index) {
			return false
		}
	}
	for y, sides := range t.shape.live {
		stored := false
		if s != nil {
			_, stored = s.nodes[y]
		}
		if (y == t.shape.top || !stored || covers(y, t.touched)) && !written[y] {
			return false
		}
		if !isLeaf(y) && !written[y] && (written[sides[0]] || written[sides[1]]) {
			return false
		}
	}
	return slices.Equal(d.Gone, s.gone(t))
}

// gone returns the nodes that were live and no longer are, ascending.
func (s *State) gone(t transition) []uint32 {
	var v []uint32
	if s != nil {
		for y := range s.nodes {
			if _, live := t.shape.live[y]; !live {
				v = append(v, y)
			}
		}
	}
	slices.Sort(v)
	return v
}

// linksOK checks one LinkTop per link in the same order. A tree without
// payloads has no top key and no LinkTops (decision).
func linksOK(t transition, links []pseudonym.RoomLink, d *Delta) bool {
	if t.shape.empty {
		return len(d.Links) == 0
	}
	if len(d.Links) != len(links) {
		return false
	}
	for i, l := range links {
		if d.Links[i].LinkID != l.ID {
			return false
		}
	}
	return true
}

// AppendBinary appends the serialized state, which the hub stores and serves:
//
//	struct { uint32 leaf; opaque tbs_hash[32]; } Bound;
//	struct { uint64 wrap_epoch; opaque state_id[32]; WrapNode nodes<V>; Bound bound<V>; LinkTop links<V>; } WrapState;
func (s *State) AppendBinary(b []byte) ([]byte, error) {
	id := s.ID()
	b = binary.BigEndian.AppendUint64(b, s.Epoch())
	b = append(b, id[:]...)
	if s == nil {
		s = &State{}
	}
	nodes := make([]Node, 0, len(s.nodes))
	for _, y := range slices.Sorted(maps.Keys(s.nodes)) {
		nodes = append(nodes, s.nodes[y])
	}
	b = appendNodes(b, nodes)
	b = codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, i := range s.Occupied() {
			h := s.bound[i]
			b = append(binary.BigEndian.AppendUint32(b, i), h[:]...)
		}
		return b
	})
	return appendLinkTops(b, s.links), nil
}

// ParseState reads a serialized state. Lists out of order, and nodes other than
// the live ones over the bound leaves, are mmr/malformed. Ciphertexts alias b.
func ParseState(b []byte) (*State, error) {
	r := codec.NewReader(b)
	s := &State{epoch: r.Uint64(), nodes: map[uint32]Node{}, bound: map[uint32][32]byte{}}
	r.Copy(s.id[:])
	for _, n := range readNodes(r) {
		s.nodes[n.Index] = n
	}
	sub := r.Sub(maxState)
	last := -1
	for !sub.Empty() {
		i := sub.Uint32()
		var h [32]byte
		sub.Copy(h[:])
		if int(i) <= last || i > maxLeaf {
			sub.Fail(codec.ErrMalformed)
		}
		last = int(i)
		s.bound[i] = h
	}
	r.Join(sub)
	s.links = readLinkTops(r)
	if r.Done() != nil || !s.complete() {
		return nil, mmrerr.Malformed
	}
	return s, nil
}

// maxState is the longest part of a serialized state in bytes.
const maxState = 16 << 20

// complete reports whether the nodes are exactly the live ones.
func (s *State) complete() bool {
	sh := newShape(s.Occupied())
	if len(sh.live) != len(s.nodes) {
		return false
	}
	for y := range sh.live {
		if _, ok := s.nodes[y]; !ok {
			return false
		}
	}
	return true
}

// OpenTop opens the key of the top node with the private key of a join link, or
// returns primitive.ErrOpen.
func (s *State) OpenTop(groupID []byte, linkID [16]byte, key *primitive.KEMPrivateKey) (primitive.Secret, error) {
	l, ok := s.Link(linkID)
	if !ok {
		return primitive.Secret{}, primitive.ErrOpen
	}
	pt, err := key.OpenWithLabel(labelTop, topContext(groupID, s.Epoch()), l.TopKey)
	if err != nil {
		return primitive.Secret{}, err
	}
	k, err := primitive.ParseSecret(pt)
	if err != nil {
		return primitive.Secret{}, primitive.ErrOpen
	}
	return k, nil
}
