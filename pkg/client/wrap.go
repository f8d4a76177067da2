package client

import (
	"context"
	"errors"
	"fmt"
	"maps"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/leafcheck"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// wrapState is what is stored of a room's link key tree (SPEC.md §7): the hub's
// state and the key of its top node, from which all others follow.
type wrapState struct {
	State []byte `json:",omitempty"`
	Top   []byte `json:",omitempty"`
	// R is R_w of the write in REpoch, kept while that state has not been read
	// (SPEC.md R-99).
	R      []byte `json:",omitempty"`
	REpoch uint64 `json:",omitempty"`
}

// errUnread reports that the link keys of a room have not been read yet.
var errUnread = errors.New("client: the identities of this room cannot be read yet; try again")

// unread is an error that says so.
func unread(err error) error {
	if errors.Is(err, errUnread) {
		return err
	}
	return errors.Join(errUnread, err)
}

// wraps reports whether a room has a link key tree.
func wraps(p *pseudonym.Room) bool {
	return p.Scheme == pseudonym.SchemeTree && p.Requirement != pseudonym.RequireNone
}

// newWrapState returns what to store of a view.
func newWrapState(v *treewrap.View) (*wrapState, error) {
	b, err := v.State().AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return &wrapState{State: b, Top: stored(v.TopKey())}, nil
}

// view opens what was stored, with the link keys held besides; nil if the state
// was not read yet.
func (w *wrapState) view(groupID []byte, held map[uint32][]byte) (*treewrap.View, error) {
	if w == nil || len(w.State) == 0 {
		return nil, nil
	}
	s, err := treewrap.ParseState(w.State)
	if err != nil {
		return nil, err
	}
	var top primitive.Secret
	if len(w.Top) > 0 {
		if top, err = primitive.ParseSecret(w.Top); err != nil {
			return nil, err
		}
	}
	v, err := treewrap.ReadTop(groupID, s, top)
	if err != nil && !errors.Is(err, treewrap.ErrSuspect) {
		return nil, err
	}
	return v.With(secretsOf(held)), nil
}

// secretsOf reads link keys.
func secretsOf(keys map[uint32][]byte) map[uint32]primitive.Secret {
	out := make(map[uint32]primitive.Secret, len(keys))
	for i, k := range keys {
		if s, err := primitive.ParseSecret(k); err == nil {
			out[i] = s
		}
	}
	return out
}

// setView adopts a view of the hub's current state and the link keys in it.
func (r *room) setView(v *treewrap.View) error {
	st, err := newWrapState(v)
	if err != nil {
		return err
	}
	if r.view != nil && r.view != v {
		r.view.WipeReplaced(v)
	}
	r.view, r.st.Wrap = v, st
	for i, k := range v.Payloads() {
		if h, ok := v.State().Bound(i); ok && r.holds(i, h) {
			r.st.LinkKeys[i] = stored(k)
		}
	}
	return nil
}

// dropView forgets a state that cannot be followed any more; R of the epoch in
// which the hub's was written is kept until it was read.
func (r *room) dropView(secret primitive.Secret, epoch uint64) {
	r.view = nil
	r.st.Wrap = &wrapState{R: stored(secret), REpoch: epoch}
}

// holds reports whether a leaf holds the credential of that hash.
func (r *room) holds(leaf uint32, hash [32]byte) bool {
	l := r.g.Public().Leaf(mls.LeafIndex(leaf))
	if l == nil {
		return false
	}
	c, err := credentialOf(l)
	return err == nil && c.Hash() == hash
}

// exporter is what derives secrets of an epoch: a Group, or a Staged.
type exporter interface {
	Export(label string, context []byte, n int) ([]byte, error)
}

func exportSecret(e exporter, label string) (primitive.Secret, error) {
	b, err := e.Export(label, nil, primitive.SecretSize)
	if err != nil {
		return primitive.Secret{}, err
	}
	return primitive.ParseSecret(b)
}

// applyDelta follows a delta that the hub accepted for the room's current epoch
// (SPEC.md R-93). added are the leaves its commit added. A delta for another
// state than ours means that we missed one.
func (r *room) applyDelta(raw []byte, added []mls.LeafIndex) error {
	policy, err := r.policy()
	if err != nil {
		return err
	}
	secret, err := exportSecret(r.g, treewrap.LabelTreeWrap)
	if err != nil {
		return err
	}
	d, err := treewrap.ParseDelta(raw)
	if err != nil {
		r.dropView(secret, r.g.Epoch()) // what the hub should have refused
		return nil                      //nolint:nilerr // the state is read from the hub instead
	}
	if r.view != nil && r.view.State().ID() == d.ID() {
		return nil // read from the hub before its event came
	}
	if r.view != nil {
		leaves, err := leafcheck.WrapLeaves(r.g.Public(), policy, added)
		if err != nil {
			return err
		}
		v, err := r.view.Apply(secret, leaves, policy.Links, d)
		if err == nil || errors.Is(err, treewrap.ErrSuspect) {
			return r.setView(v)
		}
	}
	r.dropView(secret, d.Epoch)
	return nil
}

// readState opens a serialized state of a room whose epoch we are in.
func (r *room) readState(raw []byte) error {
	s, err := treewrap.ParseState(raw)
	if err != nil {
		return err
	}
	var secret primitive.Secret
	switch w := r.st.Wrap; {
	case s.Epoch() == r.g.Epoch():
		secret, err = exportSecret(r.g, treewrap.LabelTreeWrap)
	case w != nil && len(w.R) > 0 && w.REpoch == s.Epoch():
		secret, err = primitive.ParseSecret(w.R)
	default:
		return errUnread // written before we came, or after where we are
	}
	if err != nil {
		return err
	}
	v, err := treewrap.Read(r.st.GroupID, s, secret)
	if err != nil && !errors.Is(err, treewrap.ErrSuspect) {
		return err
	}
	return r.setView(v.With(secretsOf(r.st.LinkKeys)))
}

// readWrap reads the state from the hub where we do not follow it. mu is held.
func (c *Client) readWrap(ctx context.Context, r *room) error {
	policy, err := r.policy()
	if err != nil {
		return err
	}
	if !wraps(policy) || r.view != nil {
		return nil
	}
	var res hubv1.WrapStateResponse
	if err := c.roomCall(ctx, r, seal.MethodWrapState, &hubv1.WrapStateRequest{}, &res); err != nil {
		return err
	}
	if err := r.readState(res.GetWrapState()); err != nil {
		return err
	}
	return c.write(r)
}

// wrapWrite is a delta to be made for an epoch.
type wrapWrite struct {
	epoch uint64
	keys  exporter
	tree  *mls.PublicGroup
	added []mls.LeafIndex
	known map[uint32]primitive.Secret
	own   uint32
	full  bool
}

// writeDelta makes a delta for a view, and the view after it.
func writeDelta(v *treewrap.View, w wrapWrite) (*treewrap.Delta, *treewrap.View, error) {
	data, _ := w.tree.Extension(mls.ExtensionType(pseudonym.ExtensionRoom))
	policy, err := pseudonym.ParseRoom(data)
	if err != nil {
		return nil, nil, err
	}
	leaves, err := leafcheck.WrapLeaves(w.tree, policy, w.added)
	if err != nil {
		return nil, nil, err
	}
	secret, err := exportSecret(w.keys, treewrap.LabelTreeWrap)
	if err != nil {
		return nil, nil, err
	}
	known := maps.Clone(w.known)
	for i := range known { // where policy forbids a link key there is none to give
		if int(i) >= len(leaves) || leaves[i].Rule == pseudonym.KeyForbidden {
			delete(known, i)
		}
	}
	d, next, err := v.Write(treewrap.Write{
		Epoch: w.epoch, R: secret, Leaves: leaves, Links: policy.Links, Known: known, Refresh: []uint32{w.own}, Full: w.full,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("wrapping link keys: %w", err)
	}
	return d, next, nil
}

// deltaExtension is the GroupInfo extension that carries a delta (SPEC.md R-96).
func deltaExtension(d *treewrap.Delta) (mls.Extension, []byte, error) {
	b, err := d.AppendBinary(nil)
	return mls.Extension{Type: mls.ExtensionType(pseudonym.ExtensionWrapDelta), Data: b}, b, err
}

// refreshable reports whether a refresh would bring the hub's state forward
// (SPEC.md R-98): it is of an earlier epoch, it lacks a link key that we know, or
// it is suspect and we know every key.
func (r *room) refreshable() (full, ok bool) {
	policy, err := r.policy()
	if err != nil || !wraps(policy) || r.view == nil || r.st.Pending != nil {
		return false, false
	}
	if r.view.Suspect() {
		for _, i := range r.view.State().Occupied() {
			if _, known := r.view.Payload(i); !known {
				return false, false
			}
		}
		return true, true
	}
	if r.view.State().Epoch() < r.g.Epoch() {
		return false, true
	}
	leaves, err := leafcheck.WrapLeaves(r.g.Public(), policy, nil)
	if err != nil {
		return false, false
	}
	for _, i := range r.view.State().Touched(leaves) {
		_, known := r.st.LinkKeys[i]
		present := int(i) < len(leaves) && leaves[i].Present
		if known && present || !present {
			return false, true
		}
	}
	return false, false
}

// refreshWrap writes the state anew if that brings it forward. mu is held.
func (c *Client) refreshWrap(ctx context.Context, r *room) error {
	full, ok := r.refreshable()
	if !ok {
		return nil
	}
	d, _, err := writeDelta(r.view, wrapWrite{
		epoch: r.g.Epoch(), keys: r.g, tree: r.g.Public(), known: secretsOf(r.st.LinkKeys), own: uint32(r.g.OwnLeaf()), full: full,
	})
	if err != nil {
		return err
	}
	raw, err := d.AppendBinary(nil)
	if err != nil {
		return err
	}
	var res hubv1.WrapRefreshResponse
	err = c.roomCall(ctx, r, seal.MethodWrapRefresh, &hubv1.WrapRefreshRequest{Delta: raw}, &res)
	if errors.Is(err, mmrerr.WrapStale) || errors.Is(err, mmrerr.EARStale) {
		return c.catchUp(ctx, r) // another member was first
	}
	if err != nil {
		return err
	}
	return c.adopt(ctx, r, res.GetAccepted(), &seal.WrapEvent{Delta: raw})
}
