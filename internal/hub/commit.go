package hub

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/leafcheck"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// update accepts a commit with its companions (SPEC.md R-121), or stand-alone
// proposals. The steps are numbered as there; gateway was step 1.
func (h *Hub) update(ctx context.Context, c *gateway.Call, req *hubv1.UpdateRequest) (*hubv1.UpdateResponse, error) {
	defer h.locks.lock(c.GroupID)()
	r, l, err := h.authenticate(ctx, c) // step 2
	if err != nil {
		kind, message := updateKind(req)
		if res := new(hubv1.UpdateResponse); h.repeated(ctx, err, kind, message, res) {
			return res, nil
		}
		return nil, err
	}
	if r, l, err = h.opened(ctx, r, l, c.Now); err != nil {
		return nil, err
	}
	if err := h.admitChange(ctx, r, l, len(req.GetCommit()) > 0); err != nil { // step 3
		return nil, err
	}
	if (len(req.GetCommit()) > 0) == (len(req.GetProposals()) > 0) {
		return nil, mmrerr.Malformed
	}
	if len(req.GetProposals()) > 0 {
		return h.propose(ctx, c, r, l, req)
	}
	if res := new(hubv1.UpdateResponse); h.answered(ctx, r, kindCommit, req.GetCommit(), res) { // step 4
		return res, nil
	}
	m, err := h.parse(req.GetCommit()) // step 5
	if err != nil {
		return nil, err
	}
	if m.Format != mls.FormatPublicMessage || m.ContentType() != mls.ContentCommit || !equal(m.GroupID(), r.groupID) {
		return nil, mmrerr.WireFormat
	}
	if s, ok := m.Sender(); !ok || s.Type != mls.SenderMember || s.Index != l.index {
		return nil, mmrerr.WireFormat
	}
	if m.Epoch() != r.head.epoch { // step 6
		return nil, wrongEpoch(r)
	}
	if err := h.loadTree(ctx, r); err != nil {
		return nil, err
	}
	j := &judge{h: h, r: r, now: c.Now, sender: l, message: m, groupInfo: req.GetGroupInfo()}
	t, err := h.transition(j) // steps 7 to 13
	if err != nil {
		return nil, err
	}
	welcome, err := checkWelcome(req.GetWelcome(), j.added) // step 14
	if err != nil {
		return nil, err
	}
	if err := t.checkGroupInfo(l.index); err != nil { // step 15
		return nil, err
	}
	if (j.path != nil) != (len(req.GetDeliverySecret()) > 0) { // step 16
		return nil, mmrerr.Malformed
	}
	next, err := t.nextKey(req.GetNextEarKey())
	if err != nil {
		return nil, err
	}
	res := &hubv1.UpdateResponse{}
	e, err := h.advance(ctx, c, t, advance{ // step 17
		kind: kindCommit, secret: req.GetDeliverySecret(), key: next, welcome: welcome, recipients: notLeaving(r.roster),
		answer: func(e *seal.Event) proto.Message { res.Accepted = accepted(e); return res },
	})
	if err != nil {
		return nil, err
	}
	res.Accepted = accepted(e)
	h.metrics.events.WithLabelValues("commit").Inc()
	return res, nil
}

// parse reads a message: what is larger than may be is mmr/limit, what is none
// mmr/wire-format.
func (h *Hub) parse(b []byte) (*mls.Message, error) {
	m, err := mls.ParseMessage(b, h.limits())
	if errors.Is(err, &mls.Refusal{Rule: mls.RuleLimit}) {
		return nil, mmrerr.Limit
	}
	if err != nil {
		return nil, mmrerr.WireFormat
	}
	return m, nil
}

func (h *Hub) limits() *mls.Limits { l := h.mlsOptions().Limits; return &l }

// transition is a commit that passed, with the state that it leads to.
type transition struct {
	*judge
	tree        *mls.PublicGroup // of the new epoch
	externalPub []byte
}

// transition runs the engine's and the judge's checks.
func (h *Hub) transition(j *judge) (*transition, error) {
	next, _, err := j.r.tree.WithRules(j).Process(j.message.Raw(), j.now)
	if err != nil {
		return nil, j.code(err)
	}
	return &transition{judge: j, tree: next.WithRules(leafcheck.Rules{})}, nil
}

// checkGroupInfo is step 15: the GroupInfo describes exactly the new epoch, is
// signed by the committer, serves external joiners, and leaks nothing.
func (t *transition) checkGroupInfo(signer uint32) error {
	m, err := mls.ParseMessage(t.groupInfo, t.h.limits())
	if err != nil || m.Format != mls.FormatGroupInfo || uint32(m.GroupInfo.Signer) != signer {
		return mmrerr.GroupInfo
	}
	for _, e := range m.GroupInfo.Extensions {
		switch e.Type {
		case mls.ExtensionExternalPub:
		case mls.ExtensionType(pseudonym.ExtensionIdentityLinkWrapper):
			return mmrerr.WrapperKeyLeak // discarded unlogged (SPEC.md R-13)
		case mls.ExtensionType(pseudonym.ExtensionWrapDelta):
			if !wrapped(t.policyAfter()) {
				return mmrerr.GroupInfo
			}
		default:
			return mmrerr.GroupInfo
		}
	}
	pub, ok := mls.FindExtension(m.GroupInfo.Extensions, mls.ExtensionExternalPub)
	if !ok {
		return mmrerr.GroupInfo
	}
	if t.externalPub, err = mls.ParseExternalPub(pub, nil); err != nil {
		return mmrerr.GroupInfo
	}
	if t.tree, err = t.tree.WithGroupInfo(t.groupInfo); err != nil {
		return mmrerr.GroupInfo
	}
	return nil
}

// checkWelcome is step 14: a Welcome iff there are Adds, for exactly their key
// packages.
func checkWelcome(b []byte, added []addedLeaf) (*mls.Message, error) {
	if (len(b) > 0) != (len(added) > 0) {
		return nil, mmrerr.Welcome
	}
	if len(b) == 0 {
		return nil, nil
	}
	m, err := mls.ParseMessage(b, nil)
	if err != nil || m.Format != mls.FormatWelcome || len(m.Welcome.Secrets) != len(added) {
		return nil, mmrerr.Welcome
	}
	for _, a := range added {
		if stripWelcome(m, a.ref) == nil {
			return nil, mmrerr.Welcome
		}
	}
	return m, nil
}

// stripWelcome returns the Welcome with one recipient's entry only (SPEC.md
// R-72), nil if it has none.
func stripWelcome(m *mls.Message, ref []byte) []byte {
	i := -1
	for k, s := range m.Welcome.Secrets {
		if bytes.Equal(s.NewMember, ref) {
			i = k
		}
	}
	if i < 0 {
		return nil
	}
	w := *m.Welcome
	w.Secrets = w.Secrets[i : i+1]
	return w.Message()
}

func notLeaving(ro *roster) []*leaf {
	return slices.DeleteFunc(slices.Clone(ro.leaves), func(l *leaf) bool { return l.leaving })
}

// advance is what a new epoch needs besides the transition.
type advance struct {
	kind       byte         // of the request, for repeats
	secret     []byte       // D of the committer's path
	key        *seal.EARKey // next key at rest, nil: the room keeps its own
	welcome    *mls.Message
	recipients []*leaf // of the commit event, with the K of the old epoch
	used       bool    // the commit used up a connection room's code
	answer     func(*seal.Event) proto.Message
}

// advance makes the new epoch and commits it: one transaction with state, log
// row, snapshot and finished envelopes (step 17).
func (h *Hub) advance(ctx context.Context, c *gateway.Call, t *transition, a advance) (*seal.Event, error) {
	r := t.r
	ch := h.begin(r, c.Now)
	ch.next.head.epoch++
	ch.next.head.endedAt = uint64(c.Now.UnixMilli())
	ch.next.head.removed = len(t.removed) > 0
	ch.next.head.used = r.head.used || a.used
	body := &seal.CommitEvent{Commit: t.message.Raw(), Delta: t.delta, ExternalPub: t.externalPub}
	e := &seal.Event{Epoch: r.head.epoch, Body: body}
	if a.key != nil {
		id := a.key.ID()
		body.EARID = id[:]
	}
	var err error
	if len(t.added) == 0 { // whom the commit welcomes would not know the proposals: they come with the next one
		if t.tree, body.HubProposals, err = h.proposeRemoves(t.tree, t.next, c.Now); err != nil {
			return nil, err
		}
	}
	if err := ch.number(e, c.Now); err != nil {
		return nil, err
	}
	if a.key != nil {
		if err := ch.rotate(*a.key, t.next); err != nil {
			return nil, err
		}
	}
	ch.next.head.epochStart = e.Seq
	hash := primitive.Hash(t.message.Raw())
	if err := ch.rowUnder(r.key, commitRow(r.head.epoch), hash[:], logFor); err != nil {
		return nil, err
	}
	rows, err := sealTo(a.recipients, e, r.head.epoch)
	if err != nil {
		return nil, err
	}
	if err := t.ratchet(a.secret, e.Seq); err != nil {
		return nil, err
	}
	first, err := h.welcomes(t, a.welcome, e, ch)
	if err != nil {
		return nil, err
	}
	rows = append(rows, first...)
	if err := ch.writeEpoch(t, e, c.Now); err != nil {
		return nil, err
	}
	for i := range first {
		ch.firstContact(first[i], c.Now)
	}
	for _, l := range t.removed {
		if l.joining { // it need not learn of the room any more
			ch.ops = append(ch.ops, kv.Op{Key: firstContactKey(r.groupID, l.lane)})
		}
	}
	if len(first) > 0 {
		if err := h.markFirst(ctx, r.groupID); err != nil {
			return nil, err
		}
	}
	if err := ch.remember(a.kind, t.message.Raw(), a.answer(e)); err != nil {
		return nil, err
	}
	if err := h.accept(ctx, ch, rows); err != nil {
		return nil, err
	}
	h.forgetSeals(ctx, r.roster, t.next)
	return e, nil
}

// ratchet gives every leaf of the new epoch its K: the next one of the chain,
// or a fresh one for the committer's path and for added leaves (SPEC.md R-70).
func (t *transition) ratchet(secret []byte, seq uint64) error {
	epoch := t.r.head.epoch
	for _, l := range t.next.leaves {
		l.rewrote = false
		switch {
		case l == t.path:
			d, err := primitive.ParseSecret(secret)
			if err != nil {
				return mmrerr.Malformed
			}
			l.k = seal.NewDeliveryKey(d, t.r.groupID, epoch+1, l.signatureKey).Secret()
			if t.external != nil {
				l.first = seq + 1
			}
		case l.joining && !l.k.Present():
			l.first = seq + 1 // K follows in welcomes
		default:
			l.k = seal.StoredDeliveryKey(epoch, l.k).Next().Secret()
		}
	}
	return nil
}

// welcomes seals each added leaf's first envelope: its part of the Welcome and
// the delivery secret that the hub chose for it (SPEC.md ).
func (h *Hub) welcomes(t *transition, welcome *mls.Message, commit *seal.Event, ch *change) ([]outboxRow, error) {
	var rows []outboxRow
	for _, a := range t.added {
		d := primitive.NewSecret()
		a.k = seal.NewDeliveryKey(d, t.r.groupID, ch.next.head.epoch, a.signatureKey).Secret()
		e := *commit
		e.Epoch = ch.next.head.epoch
		body := &seal.WelcomeEvent{Welcome: stripWelcome(welcome, a.ref), DeliverySecret: d}
		if len(ch.next.record.earID) > 0 {
			body.EARKey = ch.next.key.Secret()
		}
		e.Body = body
		b, err := e.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		env, err := seal.SealFirst(a.checked.Delivery.Key, a.ref, b)
		if err != nil {
			return nil, err
		}
		rows = append(rows, newRow(a.leaf, env))
	}
	return rows, nil
}

// writeEpoch puts the new epoch's rows into the change, and a snapshot if
// somebody was welcomed.
func (ch *change) writeEpoch(t *transition, e *seal.Event, now time.Time) error {
	t.next.policy = t.policyAfter()
	if err := ch.setRoster(t.next); err != nil {
		return err
	}
	if err := ch.setTree(t.tree); err != nil {
		return err
	}
	if err := ch.setLinkKeys(t); err != nil {
		return err
	}
	if err := ch.linkRecords(t.next.policy); err != nil {
		return err
	}
	if len(t.added) == 0 {
		return nil
	}
	return ch.snapshot(t.added, e, now)
}

// setLinkKeys writes what the commit made of the link keys.
func (ch *change) setLinkKeys(t *transition) error {
	if t.next.policy.Scheme == pseudonym.SchemeStatic {
		entries, err := t.newEntries()
		if err != nil {
			return err
		}
		return ch.setEntries(entries)
	}
	if t.wrap == t.r.wrap && (!ch.rotated() || t.wrap == nil) {
		return nil // a commit without delta leaves the tree behind (SPEC.md R-96)
	}
	return ch.setWrap(t.wrap)
}

// updateKind is what a repeat of the request is known by.
func updateKind(req *hubv1.UpdateRequest) (kind byte, message []byte) {
	if len(req.GetCommit()) > 0 {
		return kindCommit, req.GetCommit()
	}
	for _, p := range req.GetProposals() { // a repeat repeats all of them
		message = codec.AppendVector(message, p)
	}
	return kindProposals, message
}
