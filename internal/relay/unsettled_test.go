package relay_test

import (
	"sync/atomic"
	"testing"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// meanwhile restarts the relay so that f runs once, before the n-th call of a
// method of its stores.
func (w *world) meanwhile(method string, n int32, f func()) {
	w.t.Helper()
	w.stop()
	var calls atomic.Int32
	w.start(func(op string) (bool, error) {
		if op == method && calls.Add(1) == n {
			f()
		}
		return true, nil
	})
}

// TestDeletedMeanwhile: a request or a delivery that was under way when its mailbox
// or pool was deleted brings nothing of it back, and tells the hub nothing.
func TestDeletedMeanwhile(t *testing.T) {
	t.Run("a push token", func(t *testing.T) {
		w := newWorld(t)
		m := w.mailbox()
		w.meanwhile("Apply", 2, func() { w.mustAsk(w.deleteBox(m)) })
		if err := w.setPush(m, []byte("token")).send(w); codeOf(err) != mmrerr.NoConsent {
			t.Errorf("the owner is answered %v", err)
		}
		w.sound()
	})
	t.Run("a blocked handle", func(t *testing.T) {
		w := newWorld(t)
		m := w.mailbox()
		w.meanwhile("Apply", 2, func() { w.mustAsk(w.deleteBox(m)) })
		if err := w.block(m, [16]byte{1}).send(w); codeOf(err) != mmrerr.NoConsent {
			t.Errorf("the owner is answered %v", err)
		}
		w.sound()
	})
	t.Run("a delivery", func(t *testing.T) {
		w := newWorld(t)
		m := w.mailbox()
		w.meanwhile("AppendBatch", 1, func() { w.mustAsk(w.deleteBox(m)) })
		if st := w.deliver(w.to(m, random(16))); st[0] != 0 {
			t.Errorf("on the day of the deletion a delivery is answered %d", st[0])
		}
		if ids := w.queueIDs(); len(ids) != 0 {
			t.Error("the queue is back")
		}
		w.sound()
	})
	t.Run("a listener", func(t *testing.T) {
		w := newWorld(t)
		m := w.mailbox()
		w.must(w.r.Settle(t.Context(), time.Now().Add(relay.SettleAfter))) // its creation is long over
		w.meanwhile("Apply", 1, func() { w.mustAsk(w.deleteBox(m)) })
		s, err := w.listen(m, 0)
		w.must(err)
		if _, err := s.Recv(); codeOf(err) != mmrerr.NoConsent {
			t.Errorf("the reader is answered %v", err)
		}
		w.sound()
	})
	t.Run("slots of a pool that is written", func(t *testing.T) {
		w := newWorld(t)
		p := w.pool(1)
		b, _ := w.upload(p, 1)
		w.meanwhile("Apply", 2, func() { w.mustAsk(b) })
		w.mustAsk(w.ask(seal.MethodPoolSlots, seal.AuthPool, p.key, false, &relayv1.PoolSlotsRequest{PoolId: p.id, Slots: [][]byte{p.slot}}, new(relayv1.PoolSlotsResponse)))
		if got := w.adders(p); len(got) != 2 {
			t.Errorf("%d sets were served, want 2", len(got))
		}
	})
	t.Run("an upload", func(t *testing.T) {
		w := newWorld(t)
		p := w.pool(1)
		a, _ := w.upload(p, 1)
		w.meanwhile("Apply", 3, func() {
			w.mustAsk(w.ask(seal.MethodPoolDelete, seal.AuthPool, p.key, false, &relayv1.PoolDeleteRequest{PoolId: p.id}, new(relayv1.PoolDeleteResponse)))
		})
		if err := a.send(w); codeOf(err) != mmrerr.NoConsent {
			t.Errorf("the owner is answered %v", err)
		}
		w.sound()
	})
	t.Run("an upload into a pool that is written", func(t *testing.T) {
		w := newWorld(t)
		p := w.pool(1)
		a, res := w.upload(p, 1)
		b, _ := w.upload(p, 1)
		w.meanwhile("Apply", 3, func() { w.mustAsk(b) })
		w.mustAsk(a)
		if res.GetAvailable() != 3 {
			t.Errorf("%d sets are available, want 3", res.GetAvailable())
		}
	})
	t.Run("the repeat of its creation", func(t *testing.T) {
		w := newWorld(t)
		m, res := &mailbox{key: newKey(w)}, new(relayv1.QueueCreateResponse)
		a := w.ask(seal.MethodQueueCreate, seal.AuthQueue, m.key, true, &relayv1.QueueCreateRequest{ReadKey: m.key.Public().Bytes()}, res)
		w.mustAsk(a)
		m.id = res.GetQueueId()
		w.mustAsk(w.deleteBox(m))
		if err := a.send(w); codeOf(err) != mmrerr.NoConsent {
			t.Errorf("the owner is answered %v", err)
		}
		w.must(w.r.Settle(t.Context(), time.Now().Add(relay.SettleAfter)))
		if ids := w.queueIDs(); len(ids) != 0 {
			t.Error("the queue is back")
		}
		w.sound()
	})
}

// TestSettleLeaves: a sweep does not touch what is whole, or on its way.
func TestSettleLeaves(t *testing.T) {
	w := newWorld(t)
	m := w.mailbox()
	w.mustAsk(w.setPush(m, []byte("token")))
	w.must(w.r.Settle(t.Context(), time.Now().Add(relay.SettleAfter-time.Minute)))
	if n := len(w.records(w.mailboxes, relay.UnsettledGroup, "")); n != 1 {
		t.Errorf("%d marks, want the one that a repeat looks for", n)
	}
	w.must(w.r.Settle(t.Context(), time.Now().Add(relay.SettleAfter)))
	if n := len(w.records(w.mailboxes, relay.UnsettledGroup, "")); n != 0 {
		t.Errorf("%d marks are left", n)
	}
	w.deliver(w.to(m, random(16)))
	w.has(m, 1)
	if n := len(w.records(w.mailboxes, relay.MailboxGroup(m.id), "")); n != 2 {
		t.Errorf("the mailbox has %d records, want key and push token", n)
	}
	// Cut before the key: the queue is nobody's, and goes when nobody can come any more.
	p := noFault()
	p.N, p.Halt = 4, true // after the request, the token, the mark and the queue
	w.restart(p)
	key := newKey(w)
	a := w.ask(seal.MethodQueueCreate, seal.AuthQueue, key, true, &relayv1.QueueCreateRequest{ReadKey: key.Public().Bytes()}, new(relayv1.QueueCreateResponse))
	if err := a.send(w); err == nil {
		t.Fatal("no error")
	}
	p = noFault()
	p.N, p.Halt = 5, true
	w.restart(p)
	b := w.ask(seal.MethodQueueCreate, seal.AuthQueue, key, true, a.body, new(relayv1.QueueCreateResponse))
	if err := b.send(w); err == nil {
		t.Fatal("no error")
	}
	w.restart(noFault())
	if ids := w.queueIDs(); len(ids) != 2 {
		t.Fatalf("%d queues: the test tests nothing", len(ids))
	}
	w.sound() // on its way is no orphan
	w.must(w.r.Settle(t.Context(), time.Now().Add(relay.SettleAfter)))
	if ids := w.queueIDs(); len(ids) != 1 || ids[0] != queue.ID(m.id) {
		t.Errorf("%d queues, want the one that is whole", len(ids))
	}
	w.sound()
}

// TestPoolLives: a pool that is used does not end with its first 400 days.
func TestPoolLives(t *testing.T) {
	w := newWorld(t)
	p := w.pool(1)
	w.advance(300 * 24 * time.Hour)
	a, _ := w.upload(p, 1)
	w.mustAsk(a)
	w.advance(300 * 24 * time.Hour)
	if a, _ = w.upload(p, 1); a.send(w) != nil {
		t.Error("a pool in use has ended")
	}
	w.advance(401 * 24 * time.Hour)
	id := pseudonym.PoolID(p.token)
	if n := len(w.records(w.packages, relay.PoolGroup(id[:]), "")); n != 0 {
		t.Errorf("%d records of a pool that nobody uses", n)
	}
}
