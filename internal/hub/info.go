package hub

import (
	"context"
	"errors"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// linkInfo returns the link_box of a code, the first thing a joiner asks for
// (SPEC.md R-125): the room's key sealed to the link. It needs no key and opens
// nothing. Rooms with ear = 0 have an empty box; a wrong code answers like an
// unknown room.
func (h *Hub) linkInfo(ctx context.Context, c *gateway.Call, req *hubv1.LinkInfoRequest) (*hubv1.LinkInfoResponse, error) {
	if c.Auth.Kind != seal.AuthNone {
		return nil, mmrerr.Malformed
	}
	// Before the room is looked up: the limit must not tell that it exists.
	if !h.allowCode(c.GroupID) {
		return nil, mmrerr.RateLimited
	}
	secret, err := primitive.ParseSecret(req.GetCode())
	if err != nil || c.EARKey.Present() || len(c.GroupID) != groupIDSize {
		return nil, mmrerr.NoRoom
	}
	rec, err := h.cfg.Store.Get(ctx, roomKey(c.GroupID, nameRecord))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, mmrerr.NoRoom
	}
	if err != nil {
		return nil, err
	}
	record, err := parseRecord(rec.Value)
	if err != nil {
		return nil, err
	}
	hash := pseudonym.CodeHash(secret)
	for _, l := range record.links {
		if equal(l.codeHash[:], hash[:]) && uint64(c.Now.Unix()) <= l.notAfter {
			return &hubv1.LinkInfoResponse{LinkBox: l.box}, nil
		}
	}
	return nil, mmrerr.NoRoom
}

// groupInfo returns what an external joiner needs, to the holder of a code or a
// sibling proof, or to a member (SPEC.md R-125).
func (h *Hub) groupInfo(ctx context.Context, c *gateway.Call, req *hubv1.GroupInfoRequest) (*hubv1.GroupInfoResponse, error) {
	r, err := h.infoCaller(ctx, c, req)
	if err != nil {
		return nil, err
	}
	if err := h.loadTree(ctx, r); err != nil {
		return nil, err
	}
	info, ok := r.tree.GroupInfo()
	if !ok {
		return nil, errors.New("hub: room without GroupInfo")
	}
	res := &hubv1.GroupInfoResponse{
		GroupInfo: info, RatchetTree: r.tree.TreeBytes(), LinkEntries: linkEntries(r.entries), Seq: r.head.seq, Chain: r.head.chain[:],
		Proposals: r.roster.cached,
	}
	if wrapped(r.roster.policy) {
		res.WrapState, err = r.wrap.AppendBinary(nil)
	}
	return res, err
}

// infoCaller authenticates the caller of groupInfo. Every failure is
// mmr/no-room, but for the limits, which do not depend on the room.
func (h *Hub) infoCaller(ctx context.Context, c *gateway.Call, req *hubv1.GroupInfoRequest) (*room, error) {
	if len(req.GetCode()) == 0 && len(req.GetSiblingProof()) == 0 {
		r, l, err := h.authenticate(ctx, c)
		if err != nil {
			return nil, err
		}
		return r, h.admit(r, l, false)
	}
	if !h.allowCode(c.GroupID) { // before the room is looked up, see linkInfo
		return nil, mmrerr.RateLimited
	}
	if len(req.GetSiblingProof()) > 0 {
		return h.siblingCaller(ctx, c, req)
	}
	r, err := h.open(ctx, c.GroupID, c.EARKey)
	if err != nil {
		return nil, err
	}
	if r.roster.policy.JoinRule == pseudonym.JoinByInvite || !liveCode(r.roster.policy, req.GetCode(), c) {
		return nil, mmrerr.NoRoom
	}
	return r, nil
}

// siblingCaller admits a new device by the proof of a leaf of its user (SPEC.md
// R-24, docs/decisions/0010-group-info-by-sibling-proof.md). The request is
// signed with the key that the proof names, so that a proof that was seen on
// the way serves nobody else.
func (h *Hub) siblingCaller(ctx context.Context, c *gateway.Call, req *hubv1.GroupInfoRequest) (*room, error) {
	client, err1 := pseudonym.ParseID(req.GetClientPseudonym())
	user, err2 := pseudonym.ParseID(req.GetUserPseudonym())
	if len(req.GetCode()) > 0 || err1 != nil || err2 != nil || !signedByNew(c, req.GetSignatureKey()) {
		return nil, mmrerr.NoRoom
	}
	r, err := h.open(ctx, c.GroupID, c.EARKey)
	if err != nil {
		return nil, err
	}
	joiner := pseudonym.Credential{TBS: pseudonym.TBS{Client: client, User: user, Key: req.GetSignatureKey()}}
	if err := h.sibling(c, r, joiner, req.GetSiblingProof()); err != nil {
		return nil, mmrerr.NoRoom
	}
	return r, nil
}

// putGroupInfo replaces the stored GroupInfo by one of the current epoch that
// the caller signed (SPEC.md R-126): the hub cannot check an external_pub,
// members can.
func (h *Hub) putGroupInfo(ctx context.Context, c *gateway.Call, req *hubv1.PutGroupInfoRequest) (*hubv1.PutGroupInfoResponse, error) {
	defer h.locks.lock(c.GroupID)()
	r, l, err := h.authenticate(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := h.admitChange(ctx, r, l, true); err != nil {
		return nil, err
	}
	if err := h.loadTree(ctx, r); err != nil {
		return nil, err
	}
	t := &transition{judge: &judge{h: h, r: r, now: c.Now, groupInfo: req.GetGroupInfo()}, tree: r.tree}
	if err := t.checkGroupInfo(l.index); err != nil {
		return nil, err
	}
	ch := h.begin(r, c.Now)
	if err := ch.setTree(t.tree); err != nil {
		return nil, err
	}
	if err := ch.commit(ctx); err != nil {
		return nil, err
	}
	return &hubv1.PutGroupInfoResponse{}, nil
}

var _ mls.Rules = (*judge)(nil)
