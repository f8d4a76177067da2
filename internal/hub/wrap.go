package hub

import (
	"context"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// wrapped reports whether a room has a link key tree. One in which nobody gives
// a link key has none (SPEC.md R-96).
func wrapped(p *pseudonym.Room) bool {
	return p.Scheme == pseudonym.SchemeTree && p.Requirement != pseudonym.RequireNone
}

// wrapLeaves is what a link key tree is over: the leaves of a roster under a
// policy (SPEC.md R-91).
func wrapLeaves(ro *roster, p *pseudonym.Room, added []addedLeaf) []treewrap.Leaf {
	if len(ro.leaves) == 0 {
		return nil
	}
	ls := make([]treewrap.Leaf, ro.leaves[len(ro.leaves)-1].index+1)
	for _, l := range ro.leaves {
		tbs := pseudonym.TBS{Client: l.client, User: l.user, Key: l.signatureKey}
		ls[l.index] = treewrap.Leaf{Present: true, Hash: tbs.Hash(), Rule: p.KeyRule(p.RoleOf(l.user))}
	}
	for _, a := range added {
		ls[a.index].Added = true
	}
	return ls
}

// deltaOf returns the WrapDelta in a GroupInfo, nil if it has none.
func deltaOf(groupInfo []byte, l *mls.Limits) ([]byte, *treewrap.Delta, error) {
	m, err := mls.ParseMessage(groupInfo, l)
	if err != nil || m.Format != mls.FormatGroupInfo {
		return nil, nil, mmrerr.GroupInfo
	}
	raw, ok := mls.FindExtension(m.GroupInfo.Extensions, mls.ExtensionType(pseudonym.ExtensionWrapDelta))
	if !ok {
		return nil, nil, nil
	}
	d, err := treewrap.ParseDelta(raw)
	return raw, d, err
}

// wrapKeys is step 13 of SPEC.md R-121 for the treewrap scheme.
func (j *judge) wrapKeys() error {
	policy := j.policyAfter()
	raw, d, err := deltaOf(j.groupInfo, j.h.limits())
	if err != nil {
		return err
	}
	if !wrapped(policy) {
		if d != nil {
			return mmrerr.LinkKeyForbidden
		}
		return nil
	}
	j.wrap = j.r.wrap
	if d == nil {
		if len(j.added) > 0 || j.rekeyed || addsLink(j.r.roster.policy, policy) {
			return mmrerr.WrapMissing
		}
		return nil
	}
	if j.wrap, err = j.r.wrap.Commit(j.r.head.epoch+1, wrapLeaves(j.next, policy, j.added), policy.Links, d); err != nil {
		return err
	}
	// who replaces its own credential knows its link key.
	if j.rekeyed && policy.KeyRule(policy.RoleOf(j.path.user)) == pseudonym.KeyRequired && !d.HasLeaf(j.path.index) {
		return mmrerr.LinkKeyMissing
	}
	j.delta = raw
	return nil
}

// addsLink reports whether a policy has a link that the one before had not.
func addsLink(before, after *pseudonym.Room) bool {
	for _, l := range after.Links {
		if !hasLink(before, l) {
			return true
		}
	}
	return false
}

func hasLink(p *pseudonym.Room, l pseudonym.RoomLink) bool {
	for _, x := range p.Links {
		if x.ID == l.ID && x.CodeHash == l.CodeHash && equal(x.Pub.Bytes(), l.Pub.Bytes()) {
			return true
		}
	}
	return false
}

// joinerLeaf tells the table of authenticated data where an external commit's
// link key is (SPEC.md R-97, §4.4): the joiner's leaf is the leftmost blank one.
func (j *judge) joinerLeaf(c *pseudonym.AADContext, joiner *mls.LeafNode) {
	cred, err := pseudonym.ParseCredential(uint16(joiner.Credential.Type), joiner.Credential.Body)
	if err != nil || j.r.roster.policy.Scheme != pseudonym.SchemeTree {
		return // refused in its step
	}
	c.Key = j.r.roster.policy.KeyRule(j.r.roster.policy.RoleOf(cred.User))
	_, d, err := deltaOf(j.groupInfo, j.h.limits())
	c.OwnLeafInDelta = err == nil && d != nil && d.HasLeaf(j.firstBlank())
}

func (j *judge) firstBlank() (index uint32) {
	for _, l := range j.r.roster.leaves { // ascending
		if l.index != index || j.external.resync == l {
			break
		}
		index++
	}
	return index
}

// wrapState serves the current link key tree to members (SPEC.md R-105).
func (h *Hub) wrapState(ctx context.Context, c *gateway.Call, _ *hubv1.WrapStateRequest) (*hubv1.WrapStateResponse, error) {
	r, l, err := h.authenticate(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := h.admit(r, l, false); err != nil {
		return nil, err
	}
	if !wrapped(r.roster.policy) {
		return nil, mmrerr.Malformed
	}
	if err := h.loadWrap(ctx, r); err != nil {
		return nil, err
	}
	b, err := r.wrap.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return &hubv1.WrapStateResponse{WrapState: b, Epoch: r.head.epoch, Seq: r.head.seq}, nil
}

// wrapRefresh accepts a delta without a commit (SPEC.md R-98), of any member.
func (h *Hub) wrapRefresh(ctx context.Context, c *gateway.Call, req *hubv1.WrapRefreshRequest) (*hubv1.WrapRefreshResponse, error) {
	defer h.locks.lock(c.GroupID)()
	res := new(hubv1.WrapRefreshResponse)
	r, l, again, err := h.enter(ctx, c, repeat{kindRefresh, req.GetDelta(), res}, true)
	if err != nil {
		return nil, err
	}
	if again {
		return res, nil
	}
	d, err := treewrap.ParseDelta(req.GetDelta())
	if err != nil {
		return nil, err
	}
	if !wrapped(r.roster.policy) {
		return nil, mmrerr.LinkKeyForbidden
	}
	if err := h.loadWrap(ctx, r); err != nil {
		return nil, err
	}
	p := r.roster.policy
	state, full, err := r.wrap.Refresh(r.head.epoch, wrapLeaves(r.roster, p, nil), p.Links, d)
	if err != nil {
		return nil, err
	}
	if full && l.rewrote {
		return nil, mmrerr.WrapStale // one full rewrite per leaf and epoch
	}
	ch := h.begin(r, c.Now)
	e := &seal.Event{Epoch: r.head.epoch, Body: &seal.WrapEvent{Delta: req.GetDelta()}}
	rows, err := h.toOthers(ch, e, l, c.Now)
	if err != nil {
		return nil, err
	}
	if err := ch.setWrap(state); err != nil {
		return nil, err
	}
	if full {
		next := r.roster.clone()
		next.leaf(l.index).rewrote = true
		if err := ch.setRoster(next); err != nil {
			return nil, err
		}
	}
	res.Accepted = accepted(e)
	if err := ch.remember(kindRefresh, req.GetDelta(), res); err != nil {
		return nil, err
	}
	if err := h.accept(ctx, ch, rows); err != nil {
		return nil, err
	}
	h.metrics.events.WithLabelValues("wrap").Inc()
	return res, nil
}

// A snapshot's link keys carry the scheme in front.
func (r *room) wrapBytes() ([]byte, error) {
	p := r.roster.policy
	b := []byte{byte(p.Scheme)}
	switch {
	case p.Scheme == pseudonym.SchemeStatic:
		return append(b, marshalEntries(r.entries)...), nil
	case !wrapped(p):
		return b, nil
	}
	return r.wrap.AppendBinary(b)
}

func servedWrap(b []byte) (entries []*hubv1.LinkEntry, state []byte, err error) {
	if len(b) == 0 || b[0] != byte(pseudonym.SchemeStatic) {
		return nil, b[min(1, len(b)):], nil
	}
	es, err := parseEntries(b[1:])
	return linkEntries(es), nil, err
}
