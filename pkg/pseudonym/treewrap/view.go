package treewrap

import (
	"maps"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// View is a state that a member has opened: its node keys and payloads. It is
// immutable. What it holds beyond the key of the top node follows from the
// state, so that a member stores State, TopKey and its payloads.
type View struct {
	groupID  []byte
	state    *State
	keys     map[uint32]primitive.Secret // K_y of live nodes
	payloads map[uint32]primitive.Secret // link keys by leaf
	suspect  bool
}

// New returns the view of a room that is being created.
func New(groupID []byte) *View {
	return &View{groupID: groupID, keys: map[uint32]primitive.Secret{}, payloads: map[uint32]primitive.Secret{}}
}

// Read opens a state with R_w of its epoch (SPEC.md R-93). With ErrSuspect
// comes a view with what could be opened.
func Read(groupID []byte, s *State, r primitive.Secret) (*View, error) {
	top, ok := s.Top()
	if !ok {
		v := New(groupID)
		v.state = s
		return v, nil
	}
	return ReadTop(groupID, s, NodeKey(r, top))
}

// ReadTop opens a state with the key of its top node, from State.OpenTop or
// TopKey.
func ReadTop(groupID []byte, s *State, top primitive.Secret) (*View, error) {
	v := New(groupID)
	v.state = s
	sh := newShape(s.Occupied())
	if !sh.empty {
		v.descend(&sh, sh.top, top)
	}
	return v.checked(&sh)
}

// descend opens the ciphertext of node y with its key, and those below.
func (v *View) descend(sh *shape, y uint32, key primitive.Secret) {
	pt, err := v.state.nodes[y].open(v.groupID, key)
	if err != nil {
		return
	}
	v.keys[y] = key
	if isLeaf(y) {
		v.learn(y/2, pt)
		return
	}
	for side, z := range sh.live[y] {
		if k, err := primitive.ParseSecret(pt[side*primitive.SecretSize : (side+1)*primitive.SecretSize]); err == nil {
			v.descend(sh, z, k)
		}
	}
	clear(pt)
}

func (v *View) learn(leaf uint32, payload []byte) {
	if s, err := primitive.ParseSecret(payload); err == nil {
		v.payloads[leaf] = s
	}
	clear(payload)
}

// checked sets suspect if a live node is not open.
func (v *View) checked(sh *shape) (*View, error) {
	for y := range sh.live {
		if _, ok := v.keys[y]; !ok {
			v.suspect = true
		}
	}
	if v.suspect {
		return v, ErrSuspect
	}
	return v, nil
}

// State returns the state that the view is of; nil before a room's first delta.
func (v *View) State() *State { return v.state }

// With returns the view with payloads known elsewhere, for occupied leaves whose
// own are not open: a member that keeps them can repair a suspect state. The
// caller has checked them against the leaves' credentials.
func (v *View) With(known map[uint32]primitive.Secret) *View {
	w := *v
	w.payloads = maps.Clone(v.payloads)
	for i, p := range known {
		if _, occupied := v.state.Bound(i); !occupied {
			continue
		}
		if _, open := w.payloads[i]; !open {
			w.payloads[i] = p
		}
	}
	return &w
}

// Suspect reports whether the state needs a full rewrite (SPEC.md R-98).
func (v *View) Suspect() bool { return v.suspect }

// Payload returns the link key of a leaf, and whether it is known. The caller
// checks it against the leaf's credential.
func (v *View) Payload(leaf uint32) (primitive.Secret, bool) {
	s, ok := v.payloads[leaf]
	return s, ok
}

// TopKey returns the key of the top node, with which ReadTop opens the state
// again; absent if the tree is empty or the node is not open.
func (v *View) TopKey() primitive.Secret {
	top, ok := v.state.Top()
	if !ok {
		return primitive.Secret{}
	}
	return v.keys[top]
}

// Apply processes a delta that the hub has accepted (SPEC.md R-93): r is R_e of
// its epoch, leaves and links are the room's in that epoch. It returns ErrMissed
// for a delta on another state, a mmrerr.Code for one that the hub should have
// refused, and both a view and ErrSuspect if its ciphertexts do not fit.
func (v *View) Apply(r primitive.Secret, leaves []Leaf, links []pseudonym.RoomLink, d *Delta) (*View, error) {
	if d.BaseID != v.state.ID() {
		return nil, ErrMissed
	}
	next, t, err := v.state.advance(d.Epoch, leaves, links, d)
	if err != nil {
		return nil, err
	}
	w := &View{groupID: v.groupID, state: next, keys: map[uint32]primitive.Secret{}, payloads: map[uint32]primitive.Secret{}}
	written := map[uint32]bool{}
	for _, n := range d.Nodes {
		written[n.Index] = true
	}
	for y := range t.shape.live {
		if k, ok := v.keys[y]; ok && !written[y] {
			w.keys[y] = k
		}
	}
	for i := range t.bound {
		// Payloads held are kept, also where the state turns out suspect.
		if p, ok := v.payloads[i]; ok && !contains(t.touched, i) {
			w.payloads[i] = p
		}
	}
	// Ascending is not bottom-up, but the children's keys are known before.
	for _, n := range d.Nodes {
		w.keys[n.Index] = NodeKey(r, n.Index)
	}
	for _, n := range d.Nodes {
		w.open(&t.shape, n)
	}
	return w.checked(&t.shape)
}

// open checks one written node: a leaf's payload, or that a parent holds the
// keys of its children. A clean child whose key was not known is read.
func (v *View) open(sh *shape, n Node) {
	pt, err := n.open(v.groupID, v.keys[n.Index])
	if err != nil {
		v.suspect = true
		return
	}
	defer clear(pt)
	if isLeaf(n.Index) {
		if old, ok := v.payloads[n.Index/2]; ok {
			if p, err := primitive.ParseSecret(pt); err != nil || !p.Equal(old) {
				v.suspect = true // a refresh of a clean leaf does not change its payload
			}
			return
		}
		v.learn(n.Index/2, pt)
		return
	}
	for side, z := range sh.live[n.Index] {
		k, err := primitive.ParseSecret(pt[side*primitive.SecretSize : (side+1)*primitive.SecretSize])
		if err != nil {
			v.suspect = true
			return
		}
		held, ok := v.keys[z]
		switch {
		case !ok:
			v.descend(sh, z, k)
		case !held.Equal(k):
			v.suspect = true
		}
	}
}

// Write describes a delta to be made.
type Write struct {
	Epoch  uint64                      // the epoch that the commit makes, or the current one
	R      primitive.Secret            // R_e: exporter LabelTreeWrap of that epoch
	Leaves []Leaf                      // the tree of that epoch
	Links  []pseudonym.RoomLink        // of the room's policy in that epoch
	Known  map[uint32]primitive.Secret // link keys of touched leaves by leaf index
	// Refresh lists clean leaves to write anew, such as the own one on a path
	// commit (SPEC.md R-92). Leaves without known payload are skipped.
	Refresh []uint32
	// Full writes every live node: the repair of a suspect state.
	Full bool
}

// Write makes a delta for the view's state, and the view after it (SPEC.md
// Touched leaves without known link key become unresolved where the room
// requires one. It fails with ErrSuspect on a suspect state unless the write is
// full, and with ErrUnknownPayload if a full write lacks a payload.
func (v *View) Write(w Write) (*Delta, *View, error) {
	if v.suspect && !w.Full {
		return nil, nil, ErrSuspect
	}
	d := &Delta{Epoch: w.Epoch, BaseID: v.state.ID()}
	for _, i := range v.state.Touched(w.Leaves) {
		_, known := w.Known[i]
		if l := leafAt(w.Leaves, i); l.current() && !known && l.Rule == pseudonym.KeyRequired {
			d.Unresolved = append(d.Unresolved, i)
		}
	}
	t, ok := v.state.transition(w.Leaves, func(i uint32) bool { _, known := w.Known[i]; return known }, d.Unresolved)
	if !ok {
		return nil, nil, mmrerr.WrapStructure
	}
	next := &View{groupID: v.groupID, keys: map[uint32]primitive.Secret{}, payloads: map[uint32]primitive.Secret{}}
	for i := range t.bound {
		if p, ok := w.Known[i]; ok && contains(t.touched, i) {
			next.payloads[i] = p
		} else if p, ok := v.payloads[i]; ok {
			next.payloads[i] = p
		}
	}
	dirty, err := v.dirty(t, next, w)
	if err != nil {
		return nil, nil, err
	}
	for y := range t.shape.live {
		if contains(dirty, y) {
			next.keys[y] = NodeKey(w.R, y)
		} else {
			next.keys[y] = v.keys[y]
		}
	}
	for _, y := range dirty {
		d.Nodes = append(d.Nodes, sealNode(v.groupID, w.Epoch, y, next.keys[y], next.content(&t.shape, y)))
	}
	d.Gone = v.state.gone(t)
	if !t.shape.empty {
		if d.Links, err = sealTops(v.groupID, w.Epoch, w.Links, next.keys[t.shape.top]); err != nil {
			return nil, nil, err
		}
	}
	if next.state, _, err = v.state.advance(w.Epoch, w.Leaves, w.Links, d); err != nil {
		return nil, nil, err
	}
	return d, next, nil
}

// dirty returns the nodes to write, ascending.
func (v *View) dirty(t transition, next *View, w Write) ([]uint32, error) {
	cause := slices.Clone(t.touched)
	for _, i := range w.Refresh {
		_, known := next.payloads[i]
		if _, occupied := t.bound[i]; occupied && known {
			cause = append(cause, i)
		}
	}
	slices.Sort(cause)
	var dirty []uint32
	for _, y := range t.shape.sorted() {
		_, held := v.keys[y]
		if w.Full || y == t.shape.top || !held || covers(y, cause) {
			if _, known := next.payloads[y/2]; isLeaf(y) && !known {
				return nil, ErrUnknownPayload
			}
			dirty = append(dirty, y)
		}
	}
	return dirty, nil
}

// content returns P_y (SPEC.md R-90).
func (v *View) content(sh *shape, y uint32) []byte {
	if isLeaf(y) {
		return v.payloads[y/2].Bytes()
	}
	sides := sh.live[y]
	return slices.Concat(v.keys[sides[0]].Bytes(), v.keys[sides[1]].Bytes())
}

func sealTops(groupID []byte, epoch uint64, links []pseudonym.RoomLink, top primitive.Secret) ([]LinkTop, error) {
	var tops []LinkTop
	for _, l := range links {
		c, err := l.Pub.SealWithLabel(labelTop, topContext(groupID, epoch), top.Bytes())
		if err != nil {
			return nil, err
		}
		tops = append(tops, LinkTop{LinkID: l.ID, TopKey: c})
	}
	return tops, nil
}

// WipeReplaced clears the node keys and payloads of v that next does not hold
// any more (SPEC.md R-99). v must not be used after it.
func (v *View) WipeReplaced(next *View) {
	for y, k := range v.keys {
		if n, ok := next.keys[y]; !ok || !n.Equal(k) {
			k.Wipe()
		}
	}
	for i, p := range v.payloads {
		if n, ok := next.payloads[i]; !ok || !n.Equal(p) {
			p.Wipe()
		}
	}
	v.keys, v.payloads = nil, nil
}

// Payloads returns all known link keys by leaf, in a map of the caller's own.
func (v *View) Payloads() map[uint32]primitive.Secret { return maps.Clone(v.payloads) }

// JoinerLinkContext returns the HPKE context of the item AADJoinerLink:
// {group_id<V>, opaque tbs_hash<V>}. Label and context are LabelJoinerLink and
// this; the seal is the MLS suite's to external_pub of the epoch the external
// commit is made in (SPEC.md R-97).
func JoinerLinkContext(groupID []byte, tbsHash [32]byte) []byte {
	return codec.AppendVector(codec.AppendVector(nil, groupID), tbsHash[:])
}

// LabelJoinerLink is the HPKE label of the item AADJoinerLink.
const LabelJoinerLink = "mmr joiner link"
