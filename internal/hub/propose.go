package hub

import (
	"context"
	"errors"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/leafcheck"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// maxProposals bounds one request's stand-alone proposals.
const maxProposals = 16

// propose accepts stand-alone proposals: an Update of the own leaf, or Removes
// of leaves of the own user, which are leaving from then on (SPEC.md R-113,
//
func (h *Hub) propose(ctx context.Context, c *gateway.Call, r *room, l *leaf, req *hubv1.UpdateRequest) (*hubv1.UpdateResponse, error) {
	if len(req.GetProposals()) > maxProposals || len(req.GetWelcome())+len(req.GetGroupInfo())+len(req.GetDeliverySecret())+len(req.GetNextEarKey()) > 0 {
		return nil, mmrerr.Malformed
	}
	_, all := updateKind(req)
	if res := new(hubv1.UpdateResponse); h.answered(ctx, r, kindProposals, all, res) {
		return res, nil
	}
	if err := h.loadTree(ctx, r); err != nil {
		return nil, err
	}
	next := r.roster.clone()
	tree := r.tree
	for _, raw := range req.GetProposals() {
		var err error
		if tree, err = h.proposal(c, r, l, raw, tree, next); err != nil {
			return nil, err
		}
	}
	next.cached = append(next.cached, req.GetProposals()...)
	ch := h.begin(r, c.Now)
	e := &seal.Event{Epoch: r.head.epoch, Body: &seal.ProposalEvent{Proposals: req.GetProposals()}}
	if err := ch.number(e, c.Now); err != nil {
		return nil, err
	}
	res := &hubv1.UpdateResponse{Accepted: accepted(e)}
	if allLeaving(next) {
		ch.end()
		if err := h.accept(ctx, ch, nil); err != nil {
			return nil, err
		}
		h.metrics.events.WithLabelValues("end").Inc()
		return res, nil
	}
	rows, err := sealTo(others(next, l.index), e, r.head.epoch)
	if err != nil {
		return nil, err
	}
	for _, n := range next.leaves {
		if n.leaving && !r.roster.leaf(n.index).leaving {
			ch.stopped = append(ch.stopped, n.lane)
		}
	}
	if err := ch.setRoster(next); err != nil {
		return nil, err
	}
	if err := ch.setTree(tree.WithRules(leafcheck.Rules{})); err != nil {
		return nil, err
	}
	if err := ch.remember(kindProposals, all, res); err != nil {
		return nil, err
	}
	if err := h.accept(ctx, ch, rows); err != nil {
		return nil, err
	}
	h.metrics.events.WithLabelValues("proposal").Inc()
	return res, nil
}

// proposal checks one message and returns the tree that caches it; leaving
// leaves are marked in next.
func (h *Hub) proposal(c *gateway.Call, r *room, l *leaf, raw []byte, tree *mls.PublicGroup, next *roster) (*mls.PublicGroup, error) {
	m, err := h.parse(raw)
	if err != nil {
		return nil, err
	}
	if m.Format != mls.FormatPublicMessage || m.ContentType() != mls.ContentProposal || !equal(m.GroupID(), r.groupID) {
		return nil, mmrerr.WireFormat
	}
	if s, ok := m.Sender(); !ok || s.Type != mls.SenderMember || s.Index != l.index {
		return nil, mmrerr.WireFormat
	}
	if m.Epoch() != r.head.epoch {
		return nil, wrongEpoch(r)
	}
	cached, _, refused := tree.Process(raw, c.Now)
	if errors.Is(refused, &mls.Refusal{Rule: mls.RuleSignature}) {
		return nil, mmrerr.Signature // before anything that the message says is judged
	}
	aad, err := pseudonym.ParseAAD(m.AAD())
	if err != nil {
		return nil, err
	}
	if err := aad.Check(r.roster.policy, pseudonym.AADContext{Carrier: pseudonym.Proposal}); err != nil {
		return nil, err
	}
	p := m.Public.Content.Proposal
	j := &judge{h: h, r: r, now: c.Now, sender: l, phase: mls.PhaseSigned, next: r.roster.clone()}
	switch p.Type {
	case mls.ProposalUpdate:
		if err := j.replace(l.index, p.Update, false); err != nil {
			return nil, err
		}
	case mls.ProposalRemove:
		target := next.leaf(uint32(p.Remove))
		if target == nil {
			return nil, mmrerr.ProposalList
		}
		// A second Remove of a leaf could not be committed beside the first.
		if target.leaving {
			return nil, mmrerr.ProposalList
		}
		if target.user != l.user {
			return nil, mmrerr.Role
		}
		target.leaving = true
	default:
		return nil, mmrerr.ProposalType
	}
	if refused != nil {
		return nil, j.code(refused)
	}
	return cached, nil
}
