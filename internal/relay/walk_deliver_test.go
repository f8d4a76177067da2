package relay_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	deliveryv1 "github.com/mmrelay/mmrelay/gen/mmr/delivery/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// item is one envelope on its way to a mailbox.
type item struct {
	id       []byte
	config   seal.QueueConfig
	sealed   []byte // made of config when it is first sent
	keyID    uint8
	envelope []byte
	box      *mailbox
}

// to makes an item. Its envelope is found again in the mailbox.
func (w *world) to(m *mailbox, id []byte) *item {
	w.t.Helper()
	k := seal.NewDeliveryKey(primitive.NewSecret(), random(32), 0, newKey(w).Public().Bytes())
	e, err := seal.SealEnvelope(k, []byte("event"))
	w.must(err)
	it := &item{id: id, envelope: e, box: m}
	copy(it.config.QueueID[:], m.id)
	it.config.NotAfterDay = seal.Day(time.Now()) + 30
	return it
}

func (w *world) address(it *item) {
	w.t.Helper()
	if it.sealed != nil {
		return
	}
	p, err := w.keys.Published(time.Now())
	w.must(err)
	c, err := seal.ParseKeyConfig(p.GetQueueKeys()[0].GetConfig())
	w.must(err)
	it.keyID = c.ID
	it.sealed, err = seal.SealQueue(c.Key, own, c.ID, it.config)
	w.must(err)
}

// batch sends items as a hub does, once, and returns a status for each.
func (w *world) batch(items []*item) ([]byte, error) {
	w.t.Helper()
	req := new(deliveryv1.DeliverRequest)
	for _, it := range items {
		w.address(it)
		req.Items = append(req.Items, &deliveryv1.Item{ItemId: it.id, KeyId: uint32(it.keyID), Sealed: it.sealed, Envelope: it.envelope})
	}
	s, err := deliveryv1.NewDeliveryServiceClient(w.hub()).Deliver(w.t.Context())
	w.must(err)
	if err := s.Send(req); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	res, err := s.Recv()
	if err != nil {
		return nil, err
	}
	if len(res.GetStatus()) != len(items) {
		w.t.Fatalf("%d answers to %d items", len(res.GetStatus()), len(items))
	}
	return res.GetStatus(), s.CloseSend()
}

func (w *world) deliver(items ...*item) []byte {
	w.t.Helper()
	st, err := w.batch(items)
	w.must(err)
	return st
}

// entries are what a mailbox holds.
func (w *world) entries(m *mailbox) (out []string) {
	w.t.Helper()
	es, err := w.queues.Read(w.t.Context(), queue.ID(m.id), 0, 10_000)
	w.must(err)
	for _, e := range es {
		out = append(out, string(e.Data))
	}
	return out
}

func (w *world) has(m *mailbox, n int) {
	w.t.Helper()
	if es := w.entries(m); len(es) != n {
		w.t.Errorf("%d entries in the mailbox, want %d", len(es), n)
	}
}

// deliveryWalk: a batch to several mailboxes in several states. What is answered
// "later" comes again under the same id, as hubs do. In the end every item has one
// answer, what was answered ok and nothing else is there, once and in order.
func deliveryWalk(w *world) walked {
	w.limits.Queue = queue.Limits{MaxEntries: 3}
	w.stop()
	w.start(noFault().Fault)
	anna, ben, full, deleted := w.mailbox(), w.mailbox(), w.mailbox(), w.mailbox()
	blocked := [16]byte(random(16))
	w.mustAsk(w.block(ben, blocked))
	w.mustAsk(w.deleteBox(deleted))
	for range 3 {
		w.deliver(w.to(full, random(16)))
	}
	type wanted struct {
		*item
		status byte
		there  bool
	}
	items := []wanted{
		{w.to(anna, random(16)), 0, true},
		{w.to(ben, random(16)), 0, true},
		{w.to(full, random(16)), 0, false},
		{w.to(anna, random(16)), 0, true},
		{w.to(deleted, random(16)), 0, false},
		{w.to(ben, random(16)), 0, false},
		{w.to(anna, random(5)), 2, false},
		{w.to(ben, random(16)), 0, true},
		{w.to(&mailbox{id: random(16)}, random(16)), 1, false},
	}
	items[5].config.Handle = blocked
	items = append(items, items[0]) // twice in a batch
	left := slices.Clone(items)
	return walked{send: func(w *world) error {
		var its []*item
		for _, x := range left {
			its = append(its, x.item)
		}
		st, err := w.batch(its)
		if err != nil {
			return err
		}
		var later []wanted
		for i, s := range st {
			switch {
			case s == 3:
				later = append(later, left[i])
			case s != left[i].status:
				w.t.Errorf("an item is answered %d, want %d", s, left[i].status)
			}
		}
		if left = later; len(left) > 0 {
			return errLater
		}
		return nil
	}, after: func(w *world, worked bool) {
		if !worked {
			w.t.Error("something is answered later for ever")
		}
		for name, m := range map[string]*mailbox{"anna": anna, "ben": ben} {
			var want []string
			for _, x := range items[:len(items)-1] {
				if x.box == m && x.there {
					want = append(want, string(x.envelope))
				}
			}
			if got := w.entries(m); !slices.Equal(got, want) {
				w.t.Errorf("%s has %d entries, want %d, each once and in order", name, len(got), len(want))
			}
		}
		w.has(full, 3)
		if ids := w.queueIDs(); len(ids) != 3 {
			w.t.Errorf("%d queues, want 3", len(ids))
		}
		st, err := w.queues.Stat(w.t.Context(), queue.ID(full.id))
		w.must(err)
		if st.Dropped == 0 {
			w.t.Error("the owner of the full mailbox is not told")
		}
	}}
}

// TestDeliverOrder: where the look at one item's mailbox fails, nothing of that
// mailbox overtakes it, and other mailboxes do not wait for it.
func TestDeliverOrder(t *testing.T) {
	for n := range int32(6) {
		w := newWorld(t)
		anna, ben := w.mailbox(), w.mailbox()
		items := []*item{w.to(anna, random(16)), w.to(ben, random(16)), w.to(anna, random(16)), w.to(ben, random(16)), w.to(anna, random(16)), w.to(ben, random(16))}
		w.stop()
		var looks atomic.Int32
		w.start(func(op string) (bool, error) {
			if op == "GetMany" && looks.Add(1) == n+1 {
				return false, queuetest.ErrFault
			}
			return true, nil
		})
		status := w.deliver(items...)
		var left []*item
		for i, s := range status {
			want := byte(0)
			if i >= int(n) && items[i].box == items[n].box {
				want = 3
				left = append(left, items[i])
			}
			if s != want {
				t.Errorf("look %d fails: item %d is answered %d, want %d", n, i, s, want)
			}
		}
		w.deliver(left...)
		for b, m := range []*mailbox{anna, ben} {
			want := []string{string(items[b].envelope), string(items[b+2].envelope), string(items[b+4].envelope)}
			if got := w.entries(m); !slices.Equal(got, want) {
				t.Errorf("look %d fails: mailbox %d has %d entries, want 3 in order", n, b, len(got))
			}
		}
	}
}

// reader is one Listen stream of a mailbox's owner.
type reader struct {
	relayv1.MailboxService_ListenClient
	after uint64
}

func (w *world) listen(m *mailbox, after uint64) (*reader, error) {
	w.t.Helper()
	s, err := relayv1.NewMailboxServiceClient(w.dial(w.clients, nil)).Listen(w.t.Context())
	w.must(err)
	send := func(r *relayv1.ListenRequest) error {
		if err := s.Send(r); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return nil // what it ended with comes from Recv
	}
	if err := send(&relayv1.ListenRequest{Message: &relayv1.ListenRequest_Open{Open: &relayv1.ListenOpen{QueueId: m.id, After: after}}}); err != nil {
		return nil, err
	}
	res, err := s.Recv()
	if err != nil {
		return nil, err
	}
	q := seal.ListenChallenge(own, m.id, res.GetChallenge().GetNonce())
	w.must(q.Sign(seal.AuthQueue, 0, m.key))
	return &reader{s, after}, send(&relayv1.ListenRequest{Message: &relayv1.ListenRequest_Proof{Proof: &relayv1.ListenProof{Signature: q.Auth.Signature}}})
}

// listenWalk: a reader that reads all and acknowledges all, and comes again
// with its cursor when the stream ends, gets every entry once, and in the end the
// mailbox is empty and has this reader as its only one.
func listenWalk(w *world) walked {
	const n = 5
	m := w.mailbox()
	for i := range n {
		w.deliver(w.to(m, fmt.Appendf(nil, "item %11d", i)))
	}
	old, err := w.listen(m, 0)
	w.must(err)
	if _, err := old.Recv(); err != nil {
		w.t.Fatal(err)
	}
	want, got := w.entries(m), []string(nil)
	var after uint64
	return walked{send: func(w *world) error {
		s, err := w.listen(m, after)
		if err != nil {
			return err
		}
		for {
			res, err := s.Recv()
			if err != nil {
				return err
			}
			for _, e := range res.GetBatch().GetEntries() {
				if e.GetId() != after+1 {
					w.t.Errorf("entry %d comes after %d", e.GetId(), after)
				}
				after, got = e.GetId(), append(got, string(e.GetEnvelope()))
			}
			// Acknowledged when it is stored; acknowledging again does no harm.
			if err := s.Send(&relayv1.ListenRequest{Message: &relayv1.ListenRequest_Ack{Ack: &relayv1.ListenAck{UpTo: after}}}); err != nil {
				continue // what it ended with comes from Recv
			}
			if after < n {
				continue
			}
			if err := s.CloseSend(); err != nil {
				return err
			}
			for err == nil {
				_, err = s.Recv()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}, after: func(w *world, worked bool) {
		if !worked {
			w.t.Error("the reader is never done")
		}
		if !slices.Equal(got, want) {
			w.t.Errorf("the reader got %d entries, want %d, each once and in order", len(got), len(want))
		}
		w.has(m, 0)
	}}
}
