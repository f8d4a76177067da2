package hub

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// admission is why an external commit is let in (SPEC.md R-116).
type admission struct {
	resync    *leaf // the joiner's own old leaf
	knownUser bool  // the user pseudonym has a leaf already
	link      bool  // by a code
}

// externalJoin accepts an external commit (SPEC.md R-122).
func (h *Hub) externalJoin(ctx context.Context, c *gateway.Call, req *hubv1.ExternalJoinRequest) (*hubv1.ExternalJoinResponse, error) {
	defer h.locks.lock(c.GroupID)()
	m, err := h.joinCommit(c, req.GetCommit())
	if err != nil {
		return nil, err
	}
	r, err := h.open(ctx, c.GroupID, c.EARKey)
	if errors.Is(err, errOtherKey) {
		old := &room{groupID: c.GroupID, key: h.newSecret(c.GroupID, c.EARKey)}
		if res := new(hubv1.ExternalJoinResponse); h.answered(ctx, old, kindJoin, req.GetCommit(), res) {
			return res, nil
		}
	}
	if err != nil {
		own := m.Public.Content.Commit.Path.Leaf.SignatureKey
		return nil, h.refusal(ctx, c, err, func(l *pastLeaf) bool { return equal(l.signatureKey, own) })
	}
	if key, err := leafKey(r.roster.suite, m.Public.Content.Commit.Path.Leaf.SignatureKey); err != nil || c.Verify(key) != nil {
		return nil, mmrerr.NoRoom // of another suite than the room's
	}
	if err := h.notFrozen(ctx); err != nil {
		return nil, err
	}
	if res := new(hubv1.ExternalJoinResponse); h.answered(ctx, r, kindJoin, req.GetCommit(), res) {
		return res, nil
	}
	if r, err = h.settle(ctx, r, c.Now); err != nil {
		return nil, err
	}
	if m.Epoch() != r.head.epoch {
		return nil, wrongEpoch(r)
	}
	if err := h.loadTree(ctx, r); err != nil {
		return nil, err
	}
	a, err := h.admission(c, r, m, req.GetCode())
	if err != nil {
		return nil, err
	}
	j := &judge{h: h, r: r, now: c.Now, message: m, external: a, groupInfo: req.GetGroupInfo()}
	t, err := h.transition(j)
	if err != nil {
		return nil, err
	}
	if err := t.checkGroupInfo(j.path.index); err != nil {
		return nil, err
	}
	if len(req.GetDeliverySecret()) != primitive.SecretSize {
		return nil, mmrerr.Malformed
	}
	res := &hubv1.ExternalJoinResponse{LeafIndex: j.path.index}
	recipients := notLeaving(r.roster)
	if a.resync != nil { // its old leaf cannot read any more
		recipients = slices.DeleteFunc(recipients, func(l *leaf) bool { return l.index == a.resync.index })
	}
	e, err := h.advance(ctx, c, t, advance{
		kind: kindJoin, secret: req.GetDeliverySecret(), recipients: recipients, used: a.link && r.roster.policy.JoinRule == pseudonym.JoinByConnection,
		answer: func(e *seal.Event) proto.Message {
			res.Accepted = accepted(e)
			if body, ok := e.Body.(*seal.CommitEvent); ok {
				res.HubProposals = body.HubProposals
			}
			return res
		},
	})
	if err != nil {
		return nil, err
	}
	res.Accepted = accepted(e)
	h.metrics.events.WithLabelValues("join").Inc()
	return res, nil
}

// joinCommit checks all that does not depend on the room, form and request
// signature, before the room is looked up: what a stranger is told must not
// tell whether there is one (SPEC.md R-67).
func (h *Hub) joinCommit(c *gateway.Call, commit []byte) (*mls.Message, error) {
	if c.Auth.Kind != seal.AuthNewLeaf {
		return nil, mmrerr.NoRoom
	}
	m, err := h.parse(commit)
	if err != nil {
		return nil, err
	}
	if m.Format != mls.FormatPublicMessage || m.ContentType() != mls.ContentCommit || !equal(m.GroupID(), c.GroupID) {
		return nil, mmrerr.WireFormat
	}
	s, _ := m.Sender()
	path := m.Public.Content.Commit.Path
	if s.Type != mls.SenderNewMemberCommit || path == nil {
		return nil, mmrerr.WireFormat
	}
	if !signedByNew(c, path.Leaf.SignatureKey) {
		return nil, mmrerr.NoRoom
	}
	return m, nil
}

// signedByNew reports whether the request is signed, kind new_leaf, with a key
// that it brings itself, before the suite of the room is known.
func signedByNew(c *gateway.Call, raw []byte) bool {
	if c.Auth.Kind != seal.AuthNewLeaf {
		return false
	}
	for _, alg := range []primitive.Algorithm{primitive.Ed25519, primitive.ECDSAP256} { // keys of one are never keys of the other
		if key, err := primitive.ParsePublicKey(alg, raw); err == nil && c.Verify(key) == nil {
			return true
		}
	}
	return false
}

// admission decides why the joiner may enter, in the order of SPEC.md R-116:
// resync, sibling proof, code of a link, code of a connection room.
func (h *Hub) admission(c *gateway.Call, r *room, m *mls.Message, code []byte) (*admission, error) {
	joiner := m.Public.Content.Commit.Path.Leaf
	cred, err := pseudonym.ParseCredential(uint16(joiner.Credential.Type), joiner.Credential.Body)
	if err != nil {
		return nil, err
	}
	a := &admission{knownUser: r.roster.participant(cred.User)}
	for _, p := range m.Public.Content.Commit.Proposals {
		if p.Proposal == nil || p.Proposal.Type != mls.ProposalRemove {
			continue
		}
		old := r.roster.leaf(uint32(p.Proposal.Remove))
		node := r.tree.Leaf(p.Proposal.Remove)
		if old == nil || node == nil || !bytes.Equal(old.signatureKey, joiner.SignatureKey) || !node.Credential.Equal(joiner.Credential) {
			return nil, mmrerr.JoinNotAllowed
		}
		if old.leaving {
			return nil, mmrerr.Leaving
		}
		if !h.rates.allow(r.groupID, old.index, true) || !h.resyncs.Allow(string(r.groupID)+old.client.String()) {
			return nil, mmrerr.RateLimited
		}
		a.resync = old
		return a, nil
	}
	aad, err := pseudonym.ParseAAD(m.AAD())
	if err != nil {
		return nil, err
	}
	if data, ok := aad.Get(pseudonym.AADSiblingProof); ok {
		return a, h.sibling(c, r, cred, data)
	}
	return a, h.byCode(c, r, a, cred, code)
}

// sibling checks a SiblingProof (SPEC.md R-24).
func (h *Hub) sibling(c *gateway.Call, r *room, joiner pseudonym.Credential, data []byte) error {
	p, err := pseudonym.ParseSiblingProof(data)
	if err != nil {
		return mmrerr.JoinNotAllowed
	}
	l := r.roster.leaf(p.Leaf)
	if l == nil || l.leaving || l.user != joiner.User {
		return mmrerr.JoinNotAllowed
	}
	key, err := leafKey(r.roster.suite, l.signatureKey)
	if err != nil {
		return err
	}
	return p.Verify(r.groupID, joiner.TBS, key, uint64(c.Now.Unix()))
}

// byCode admits by a join code, in link rooms and, once, in connection rooms
// (SPEC.md ). A user who is in the room already needs a sibling proof.
func (h *Hub) byCode(c *gateway.Call, r *room, a *admission, joiner pseudonym.Credential, code []byte) error {
	policy := r.roster.policy
	if policy.JoinRule == pseudonym.JoinByInvite || a.knownUser {
		return mmrerr.JoinNotAllowed
	}
	if !liveCode(policy, code, c) {
		return mmrerr.JoinNotAllowed
	}
	if policy.JoinRule == pseudonym.JoinByConnection && (r.head.used || !oneUser(r.roster)) {
		return mmrerr.NotConnectionRoom
	}
	if c.Issuer != joiner.User.Host() {
		return mmrerr.TokenInvalid // SPEC.md R-85
	}
	a.link = true
	return nil
}

func liveCode(p *pseudonym.Room, code []byte, c *gateway.Call) bool {
	secret, err := primitive.ParseSecret(code)
	if err != nil {
		return false
	}
	_, ok := p.Link(pseudonym.CodeHash(secret), uint64(c.Now.Unix()))
	return ok
}

func oneUser(ro *roster) bool {
	for _, l := range ro.leaves {
		if l.user != ro.leaves[0].user {
			return false
		}
	}
	return true
}

// joiner is R-3 for the leaf of an external commit.
func (j *judge) joiner(index uint32, n *mls.LeafNode) error {
	c, err := j.check(n, mls.CipherSuite(j.r.roster.suite))
	if err != nil {
		return err
	}
	l, err := j.unique(index, n, c)
	if err != nil {
		return err
	}
	if err := j.limits(l.user); err != nil {
		return err
	}
	j.next.put(l)
	j.path = l
	return nil
}
