package client

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// heldEnvelope is an envelope that no room's key opens yet (SPEC.md R-75).
type heldEnvelope struct {
	Envelope []byte
	Until    int64 // Unix seconds

	after    time.Time // when a first envelope is tried again
	failures int
}

// envelope takes one mailbox entry: whatever it changes and the cursor are
// written in one step, and only then may it be acknowledged. An error means
// that nothing changed and the entry is to be read again; what can never be
// read is dropped.
func (c *Client) envelope(ctx context.Context, id uint64, env []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.store.broken(); err != nil {
		return err
	}
	if id <= c.mailbox.Cursor {
		return nil
	}
	b := make(batch)
	rooms := len(c.rooms)
	form, err := seal.EnvelopeForm(env)
	switch {
	case err != nil:
	case form == seal.FormFirst:
		if err := c.firstContact(ctx, env, b); err != nil {
			if err := c.postpone(env, err, b); err != nil {
				return err
			}
		}
	default:
		if err := c.open(ctx, env, b); err != nil {
			return err
		}
	}
	c.mailbox.Cursor = id
	if err := b.put(recMailbox, c.mailbox); err != nil {
		return err
	}
	if err := c.store.Write(b); err != nil {
		return err
	}
	if len(c.rooms) < rooms {
		if err := c.retryFirst(ctx); err != nil { // maybe to the room we were removed from
			return err
		}
	}
	if err := c.tidy(ctx); err != nil {
		c.opts.log.Warn("a connection room is not tidied yet")
	}
	return nil
}

// open finds the room whose K opens an envelope of form 2 and hands the event
// on. An envelope that fits no room is held.
func (c *Client) open(ctx context.Context, env []byte, b batch) error {
	for _, r := range c.rooms {
		if done, err := c.openIn(ctx, r, env, b); done || err != nil {
			return err
		}
	}
	return c.hold(env, b)
}

// openIn opens an envelope with a room's K and hands the event on, if it is one
// of that room.
func (c *Client) openIn(ctx context.Context, r *room, env []byte, b batch) (bool, error) {
	if r.st.Removed {
		return false, nil
	}
	raw, pending := r.tryOpen(env)
	if pending {
		// Our own commit was accepted, and the event is on its way (SPEC.md R-77).
		if err := c.catchUp(ctx, r); err != nil && c.store.broken() != nil {
			return false, err
		}
		// What b has of the room, and of the mailbox, is older than what that wrote.
		if err := c.refreshBatch(r, b); err != nil {
			return false, err
		}
		raw, _ = r.tryOpen(env) // if the hub is out of reach, it is held
	}
	if raw == nil {
		return false, nil
	}
	e, err := seal.ParseEvent(raw)
	if err != nil || string(e.GroupID) != string(r.st.GroupID) {
		return false, nil //nolint:nilerr // none of this room
	}
	return true, c.arrived(ctx, r, e, b)
}

// refreshBatch puts the present state of a room into a batch that is to be
// written later than it.
func (c *Client) refreshBatch(r *room, b batch) error {
	if _, ok := b[recMailbox]; ok {
		if err := b.put(recMailbox, c.mailbox); err != nil {
			return err
		}
	}
	if _, ok := b[recRoom+r.id()]; !ok {
		return nil
	}
	if c.rooms[r.id()] != r {
		return c.forgetRoom(r, b)
	}
	return r.save(b, true)
}

// postpone keeps a first envelope whose hub is out of reach, so that one hub
// does not hold up what comes from the others, or whose room we are still in.
// Failures of the store are not postponed.
func (c *Client) postpone(env []byte, cause error, b batch) error {
	switch {
	case c.store.broken() != nil:
		return cause
	case errors.Is(cause, errStillIn):
		c.opts.log.Info("a Welcome waits until we are out of the room")
	default:
		c.opts.log.Warn("a Welcome waits for its hub")
	}
	return c.hold(env, b)
}

// hold keeps an envelope for a day.
func (c *Client) hold(env []byte, b batch) error {
	c.mailbox.NextHeld++
	n := c.mailbox.NextHeld
	h := &heldEnvelope{Envelope: env, Until: time.Now().Unix() + heldFor}
	c.held[n] = h
	if len(c.held) > maxHeld {
		c.unheld(c.leastHeld(), b)
	}
	return b.put(recHeld+strconv.FormatUint(n, 10), h)
}

// leastHeld is the held envelope that is worth the least: the oldest one, of those
// that a log has too, if there is one.
func (c *Client) leastHeld() uint64 {
	ns := slices.Sorted(maps.Keys(c.held))
	if i := slices.IndexFunc(ns, func(n uint64) bool { return !c.held[n].first() }); i >= 0 {
		return ns[i]
	}
	return ns[0]
}

// first reports whether it is the first envelope of a room.
func (h *heldEnvelope) first() bool {
	form, err := seal.EnvelopeForm(h.Envelope)
	return err == nil && form == seal.FormFirst
}

// tryOpen opens an envelope with the room's K of this epoch, of up to 32 later
// ones, or of the one before. pending reports that the K of our own staged
// commit would open it.
func (r *room) tryOpen(env []byte) (raw []byte, pending bool) {
	if len(r.st.K) == 0 {
		return nil, false // a join that was not answered yet
	}
	if raw, ok := r.laterKeys().Open(env); ok {
		return raw, false
	}
	if len(r.st.PrevK) > 0 && time.Now().Unix() <= r.st.PrevUntil {
		if s, err := primitive.ParseSecret(r.st.PrevK); err == nil {
			if raw, err := seal.OpenEnvelope(seal.StoredDeliveryKey(r.st.PrevEpoch, s), env); err == nil {
				return raw, false
			}
		}
	}
	if p := r.st.Pending; p != nil && !p.Join {
		if d, err := primitive.ParseSecret(p.D); err == nil {
			return nil, seal.NewDeliveryKey(d, r.st.GroupID, r.st.Epoch+1, p.LeafKey).Hints(env)
		}
	}
	return nil, false
}

// laterKeys are the room's K of this epoch and of the 32 later ones.
func (r *room) laterKeys() *seal.Lookup {
	if k := r.deliveryKey(); r.lookup == nil || !r.lookup.Begins(k) {
		if r.lookup != nil {
			r.lookup.Wipe()
		}
		r.lookup = seal.NewLookup(k, laterEpochs)
	}
	return r.lookup
}

// unhold tries what was held again, after a room came or moved on: the others have
// no more keys than when it was held.
func (c *Client) unhold(ctx context.Context, moved *room, b batch) {
	now := time.Now().Unix()
	for n, h := range c.held {
		if h.first() && now <= h.Until {
			continue // retryFirst's
		}
		done := now > h.Until
		if !done {
			opened, err := c.openIn(ctx, moved, h.Envelope, b)
			done = opened && err == nil
		}
		if done {
			c.unheld(n, b)
		}
	}
}

func (c *Client) unheld(n uint64, b batch) {
	delete(c.held, n)
	b.del(recHeld + strconv.FormatUint(n, 10))
}

// retryFirst tries held first envelopes again. mu is held.
func (c *Client) retryFirst(ctx context.Context) error {
	for _, n := range slices.Sorted(maps.Keys(c.held)) {
		h, ok := c.held[n]
		if !ok || time.Now().Before(h.after) {
			continue
		}
		if !h.first() || time.Now().Unix() > h.Until {
			continue
		}
		b := make(batch)
		if err := c.firstContact(ctx, h.Envelope, b); err != nil {
			if err := c.store.broken(); err != nil {
				return err
			}
			h.after = time.Now().Add(pause(c.opts.gapWait, h.failures)) // it still waits
			h.failures++
			continue
		}
		c.unheld(n, b)
		if err := c.store.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// arrived puts an event into the room's order and processes what is next
// (SPEC.md R-76).
func (c *Client) arrived(ctx context.Context, r *room, e *seal.Event, b batch) error {
	if _, ok := e.Body.(*seal.CoverEvent); ok || e.Seq <= r.st.Seq || r.st.Forked || r.st.Stuck != nil {
		return nil
	}
	raw, err := e.AppendBinary(nil)
	if err != nil {
		return err
	}
	if e.Seq == r.st.Seq+1 || r.roomFor(len(raw)) {
		r.st.Buffer[e.Seq] = raw
	}
	moved := false // the public state of the group is another one
	for {
		raw, ok := r.st.Buffer[r.st.Seq+1]
		if !ok || r.st.Removed || r.st.Forked || r.st.Stuck != nil {
			break
		}
		next, err := seal.ParseEvent(raw)
		if err != nil {
			return err
		}
		public, err := c.process(ctx, r, next, b)
		if err != nil {
			return err
		}
		moved = moved || public
		delete(r.st.Buffer, r.st.Seq)
	}
	switch {
	case e.Seq <= r.st.Seq && len(r.st.Buffer) == 0:
		r.st.GapSince = 0
	case r.st.GapSince == 0:
		r.st.GapSince = time.Now().UnixMilli()
	}
	if r.st.Removed {
		return c.forgetRoom(r, b)
	}
	if err := r.save(b, moved); err != nil { // with messages, a large room's tree stays as it is
		return err
	}
	if moved && len(c.held) > 0 {
		c.unhold(ctx, r, b)
	}
	return nil
}

// roomFor reports whether an event of that size may wait for earlier ones.
func (r *room) roomFor(size int) bool {
	for _, raw := range r.st.Buffer {
		size += len(raw)
	}
	return len(r.st.Buffer) < maxEarly && size <= maxEarlySize
}

// process applies the room's next event. It reports whether the public state of
// the group changed: by a commit, or a proposal.
func (c *Client) process(ctx context.Context, r *room, e *seal.Event, b batch) (bool, error) {
	if !r.genuine(e) {
		r.st.Forked = true
		return false, c.emit(b, Event{Kind: KindForked, Room: r.st.uri(), Seq: e.Seq})
	}
	r.st.Seq, r.st.Chain = e.Seq, slices.Clone(e.Chain[:])
	r.st.Heard = time.Now().Unix()
	r.remember()
	switch body := e.Body.(type) {
	case *seal.CommitEvent:
		return true, c.commitEvent(ctx, r, e, body, b)
	case *seal.ProposalEvent:
		for _, p := range body.Proposals {
			r.propose(p)
		}
		c.plan(r)
		return true, nil
	case *seal.WrapEvent:
		if err := r.applyDelta(body.Delta, nil); err != nil {
			return false, err
		}
		c.plan(r)
	case *seal.MessageEvent:
		return false, c.messageEvent(r, e, body, b)
	}
	return false, nil
}

// genuine checks an event's receipt and its place in the hash chain (SPEC.md
//
func (r *room) genuine(e *seal.Event) bool {
	core, err := e.Core()
	if err != nil {
		return false
	}
	want := seal.ChainNext([32]byte(r.st.Chain), e.Seq, core)
	if want != e.Chain {
		return false
	}
	key, err := r.hub()
	return err == nil && e.Accepted().Verify(key, e.Receipt) == nil
}

func messageHash(m []byte) string {
	h := primitive.Hash(m)
	return b64(h[:16])
}

// messageEvent decrypts an application message. Our own ones only advance the
// room's order.
func (c *Client) messageEvent(r *room, e *seal.Event, body *seal.MessageEvent, b batch) error {
	if h := messageHash(body.Message); r.st.Sent[h] {
		delete(r.st.Sent, h)
		if r.st.Outgoing != nil && string(r.st.Outgoing.Message) == string(body.Message) {
			r.st.Outgoing = nil
		}
		return nil
	}
	g, ev, err := r.process(body.Message, mls.ContentApplication)
	if err != nil {
		c.opts.log.Warn("a message could not be read")
		return nil //nolint:nilerr // dropped on purpose: it can never be read
	}
	r.g = g
	hub, err := r.hub()
	if err != nil {
		return err
	}
	m, err := r.openContent(e, body, ev, hub)
	if err != nil {
		c.opts.log.Warn("a message that is not what it says was dropped")
		return nil //nolint:nilerr // dropped on purpose: it could not be reported
	}
	if r.forkedFrom(m.seq, m.chain) {
		r.st.Forked = true
		return c.emit(b, Event{Kind: KindForked, Room: r.st.uri(), Seq: e.Seq})
	}
	sender := c.resolve(r)[ev.Sender.Index]
	if m.kind == contentDevice {
		if !r.st.Device || sender == nil || !sender.verified || sender.real.User != c.self || c.lost(sender.real.Client) {
			return nil
		}
		return c.deviceEvent(m.body, b)
	}
	if m.kind != contentText || r.st.Device {
		return nil
	}
	out := Event{Kind: KindMessage, Room: r.st.uri(), Seq: e.Seq, Data: m.body, Accepted: time.UnixMilli(int64(e.AcceptedMS)).UTC()}
	if out.Evidence, err = evidence(ev.Data, body.Frank, e.AcceptedMS); err != nil {
		return err
	}
	if cred, err := credentialOf(ev.Leaf); err == nil {
		if sender != nil && sender.verified && sender.cred.Hash() == cred.Hash() {
			out.User = sender.real.User.String()
		}
	}
	return c.emit(b, out)
}

// catchUp reads the room's log from the hub, from the next event on (SPEC.md
// It writes what it did. mu is held.
func (c *Client) catchUp(ctx context.Context, r *room) error {
	for range maxRounds {
		if r.st.Removed || r.st.Forked || r.st.Locked || r.st.Stuck != nil || r.g.Status() != member.Active {
			return nil
		}
		res, err := c.readEvents(ctx, r)
		if err != nil {
			return err
		}
		before, key := r.st.Seq, string(r.st.EAR)
		b := make(batch)
		failed := c.readLog(ctx, r, res.GetEvents(), b)
		if r.st.Seq >= res.GetLastSeq() || r.st.Seq == before {
			r.st.GapSince = 0
		}
		if !r.st.Removed {
			if err := r.save(b, true); err != nil {
				return err
			}
		}
		if err := errors.Join(c.store.Write(b), failed); err != nil {
			return err
		}
		if string(r.st.EAR) != key {
			continue // with the next key: the old one opens the log up to its rotation
		}
		if r.st.Seq >= res.GetLastSeq() || r.st.Seq == before {
			return nil
		}
	}
	r.st.GapSince = time.Now().UnixMilli() // later more
	return nil
}

// readLog takes events from the room's log. What came before one that is none is
// taken all the same, and to be written.
func (c *Client) readLog(ctx context.Context, r *room, events [][]byte, b batch) error {
	for _, raw := range events {
		e, err := seal.ParseEvent(raw)
		if err != nil || string(e.GroupID) != string(r.st.GroupID) {
			return mmrerr.Malformed
		}
		if err := c.arrived(ctx, r, e, b); err != nil {
			return err
		}
	}
	return nil
}

// forgetRoom deletes everything of a room but the fact that it was left. A Welcome
// to it may be waiting for that.
func (c *Client) forgetRoom(r *room, b batch) error {
	for _, h := range c.held {
		h.after = time.Time{}
	}
	r.g.Retire(nil)
	if r.lookup != nil {
		r.lookup.Wipe()
		r.lookup = nil
	}
	id := r.id()
	b.del(recPublic + id)
	b.del(recPrivate + id)
	b.del(recRoom + id)
	delete(c.rooms, id)
	return nil
}
