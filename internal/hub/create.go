package hub

import (
	"bytes"
	"context"
	"errors"
	"slices"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// createRoom makes a room (SPEC.md R-120), with its checks in order.
func (h *Hub) createRoom(ctx context.Context, c *gateway.Call, req *hubv1.CreateRoomRequest) (*hubv1.CreateRoomResponse, error) {
	defer h.locks.lock(c.GroupID)()
	if len(c.GroupID) != groupIDSize || c.Auth.Kind != seal.AuthNewLeaf {
		return nil, mmrerr.Malformed
	}
	d, err := primitive.ParseSecret(req.GetDeliverySecret())
	if err != nil {
		return nil, mmrerr.Malformed
	}
	if res, err := h.existing(ctx, c, req); res != nil || err != nil {
		return res, err
	}
	m, err := mls.ParseMessage(req.GetGroupInfo(), h.limits())
	if err != nil || m.Format != mls.FormatGroupInfo || !equal(m.GroupInfo.Context.GroupID, c.GroupID) {
		return nil, mmrerr.GroupInfo
	}
	if ctx := m.GroupInfo.Context; ctx.Epoch != 0 || len(ctx.ConfirmedTranscriptHash) != 0 {
		return nil, mmrerr.GroupInfo
	}
	room, err := checkExtensions(m.GroupInfo.Context.Extensions)
	if err != nil {
		return nil, err
	}
	for _, e := range m.GroupInfo.Extensions {
		switch e.Type {
		case mls.ExtensionExternalPub, mls.ExtensionRatchetTree:
		case mls.ExtensionType(pseudonym.ExtensionIdentityLinkWrapper):
			return nil, mmrerr.WrapperKeyLeak
		case mls.ExtensionType(pseudonym.ExtensionWrapDelta):
			if room.Scheme != pseudonym.SchemeTree {
				return nil, mmrerr.GroupInfo
			}
		default:
			return nil, mmrerr.GroupInfo
		}
	}
	if err := h.checkProfile(m.GroupInfo.Context, room); err != nil {
		return nil, err
	}
	g, err := mls.NewPublicGroup(req.GetGroupInfo(), nil, h.mlsOptions())
	if _, ok := mmrerr.Of(err); ok && err != nil {
		return nil, err // the creator's credential, R-3.1 and
	}
	if err != nil || g.Len() != 1 || g.Leaf(0) == nil {
		return nil, mmrerr.GroupInfo
	}
	if _, ok := g.GroupInfo(); !ok { // no external_pub
		return nil, mmrerr.GroupInfo
	}
	return h.found(ctx, c, req, g, room, d)
}

// existing answers a repeat of the creation, and refuses a group id in use.
func (h *Hub) existing(ctx context.Context, c *gateway.Call, req *hubv1.CreateRoomRequest) (*hubv1.CreateRoomResponse, error) {
	recs, err := h.cfg.Store.GetMany(ctx, roomKey(c.GroupID, "").Group, []string{nameRecord, nameTombstone})
	if err != nil {
		return nil, err
	}
	switch {
	case recs[1].Version != 0:
		return nil, mmrerr.RoomExists // it has ended, and is being deleted
	case recs[0].Version == 0:
		return nil, nil
	}
	r := &room{groupID: c.GroupID, key: h.newSecret(c.GroupID, c.EARKey)}
	if res := new(hubv1.CreateRoomResponse); h.answered(ctx, r, kindCreation, req.GetGroupInfo(), res) {
		return res, nil
	}
	return nil, mmrerr.RoomExists
}

// checkProfile is what SPEC.md §4.1 fixes of a room, and what this hub serves.
func (h *Hub) checkProfile(ctx *mls.GroupContext, room *pseudonym.Room) error {
	alg, ok := primitive.SuiteAlgorithm(uint16(ctx.Suite))
	if !ok {
		return mmrerr.PolicyChange
	}
	identity, chain, ok := h.cfg.Keys.IdentityFor(alg)
	if !ok {
		return mmrerr.PolicyChange
	}
	data, _ := ctx.Extension(mls.ExtensionRequiredCapabilities)
	rc, err := mls.ParseRequiredCapabilities(data, nil)
	if err != nil || len(rc.Proposals) != 0 || len(rc.Credentials) == 0 {
		return mmrerr.PolicyChange
	}
	for i, t := range pseudonym.RequiredExtensions() {
		if len(rc.Extensions) != len(pseudonym.RequiredExtensions()) || uint16(rc.Extensions[i]) != t {
			return mmrerr.PolicyChange
		}
	}
	for _, t := range rc.Credentials {
		if !slices.Contains(pseudonym.CapabilityCredentials(), uint16(t)) {
			return mmrerr.PolicyChange
		}
	}
	if !h.cfg.Limits.admits(room) {
		return mmrerr.Limit
	}
	senders, _ := ctx.Extension(mls.ExtensionExternalSenders)
	want := mls.ExternalSendersExtension(mls.ExternalSender{
		SignatureKey: identity.Public().Bytes(), Credential: mls.X509Credential(chain...),
	})
	if !bytes.Equal(senders, want.Data) {
		return mmrerr.PolicyChange
	}
	return nil
}

// found checks the creator's leaf and writes the room.
func (h *Hub) found(ctx context.Context, c *gateway.Call, req *hubv1.CreateRoomRequest, g *mls.PublicGroup, policy *pseudonym.Room, d primitive.Secret) (*hubv1.CreateRoomResponse, error) {
	if policy.EAR != c.EARKey.Present() {
		return nil, mmrerr.EARKey
	}
	base := &room{groupID: c.GroupID, key: h.newSecret(c.GroupID, c.EARKey), tree: g, roster: &roster{suite: uint16(g.Suite()), policy: policy}}
	if policy.EAR {
		id := base.key.ID()
		base.record.earID = id[:]
	}
	j := &judge{h: h, r: base, now: c.Now, next: base.roster.clone()}
	n := g.Leaf(0)
	checked, err := j.check(n, g.Suite())
	if err != nil {
		return nil, err
	}
	l, err := j.unique(0, n, checked)
	if err != nil {
		return nil, err
	}
	if err := policy.CheckCreation(l.user); err != nil {
		return nil, err
	}
	if c.Issuer != l.user.Host() {
		return nil, mmrerr.TokenInvalid // SPEC.md R-85: nobody poses as another provider's user
	}
	key, err := leafKey(uint16(g.Suite()), l.signatureKey)
	if err != nil || c.Verify(key) != nil {
		return nil, mmrerr.Signature
	}
	l.k = seal.NewDeliveryKey(d, c.GroupID, 0, l.signatureKey).Secret()
	l.first = 1
	j.next.put(l)
	setLinkKeys, err := h.foundersKey(req, j.next)
	if err != nil {
		return nil, err
	}
	return h.writeFound(ctx, c, req, base, j.next, setLinkKeys)
}

// foundersKey checks the creator's link key: a delta on nothing (SPEC.md R-95),
// or a static entry. It returns what writes it.
func (h *Hub) foundersKey(req *hubv1.CreateRoomRequest, ro *roster) (func(*change) error, error) {
	policy := ro.policy
	if policy.Scheme == pseudonym.SchemeStatic {
		aad := pseudonym.AddAAD{nil}
		entries := make(map[uint32][]byte)
		if len(req.GetLinkEntry()) > 0 {
			aad[0], entries[0] = req.GetLinkEntry(), req.GetLinkEntry()
		}
		err := pseudonym.CheckAddAAD(aad, []pseudonym.KeyRule{policy.KeyRule(policy.RoleOf(ro.leaves[0].user))})
		return func(ch *change) error { return ch.setEntries(entries) }, err
	}
	if len(req.GetLinkEntry()) > 0 {
		return nil, mmrerr.Malformed
	}
	_, d, err := deltaOf(req.GetGroupInfo(), h.limits())
	if err != nil {
		return nil, err
	}
	if !wrapped(policy) {
		if d != nil {
			return nil, mmrerr.LinkKeyForbidden
		}
		return func(*change) error { return nil }, nil
	}
	if d == nil {
		return nil, mmrerr.WrapMissing
	}
	leaves := wrapLeaves(ro, policy, []addedLeaf{{leaf: ro.leaves[0]}})
	state, err := (*treewrap.State)(nil).Commit(0, leaves, policy.Links, d)
	return func(ch *change) error { return ch.setWrap(state) }, err
}

func (h *Hub) writeFound(ctx context.Context, c *gateway.Call, req *hubv1.CreateRoomRequest, base *room, ro *roster, setLinkKeys func(*change) error) (*hubv1.CreateRoomResponse, error) {
	ch := h.begin(base, c.Now)
	ch.next.head.chain = seal.ChainStart(c.GroupID)
	ch.next.head.keySince = 1
	for _, f := range []func() error{
		func() error { return ch.setRoster(ro) },
		func() error { return ch.setTree(base.tree) },
		func() error { return setLinkKeys(ch) },
		func() error { return ch.linkRecords(ro.policy) },
	} {
		if err := f(); err != nil {
			return nil, err
		}
	}
	a := seal.Accepted{GroupID: c.GroupID, Chain: ch.next.head.chain, AcceptedMS: uint64(c.Now.UnixMilli())}
	receipt, err := a.Sign(h.identity(ro.suite))
	if err != nil {
		return nil, err
	}
	res := &hubv1.CreateRoomResponse{Accepted: &hubv1.Accepted{Chain: a.Chain[:], AcceptedMs: a.AcceptedMS, Receipt: receipt}}
	if err := ch.remember(kindCreation, req.GetGroupInfo(), res); err != nil {
		return nil, err
	}
	if err := ch.commit(ctx); errors.Is(err, kv.ErrConflict) {
		return nil, mmrerr.RoomExists
	} else if err != nil {
		return nil, err
	}
	h.metrics.events.WithLabelValues("create").Inc()
	return res, nil
}
