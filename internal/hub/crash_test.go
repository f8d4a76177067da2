package hub_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// crash stops the hub as a kill does at the moment after the transaction: what
// it would hand to the outbox stays pending. f runs while nothing is handed over.
func (w *world) crash(f func()) {
	w.t.Helper()
	stopped := errFault
	w.store.fail(func(ops []kv.Op) (bool, error) {
		for _, op := range ops {
			if op.Value == nil && strings.HasPrefix(op.Key.Name, hub.PrefixPending) {
				return false, stopped // the hand-over never ends
			}
		}
		return true, nil
	})
	f()
	w.h.Close()
	w.store.fail(nil)
}

// TestCrashBeforeOutbox: accepted and killed before the outboxes had it: the
// next process sends it, once, in order, however long it takes to come back.
func TestCrashBeforeOutbox(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	alice.add("b.example")
	groupID := alice.g.Public().GroupID()
	w.settled(groupID)
	had := len(w.sentTo("b.example", 1))
	var want []uint64
	w.crash(func() {
		for i := range 12 {
			res, err := alice.submit(alice.message(fmt.Sprint(i)))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, res.GetAccepted().GetSeq())
		}
	})
	if n := len(w.records(hub.RoomGroup(groupID), hub.PrefixPending)); n == 0 {
		t.Fatal("nothing is pending: the test tests nothing")
	}
	// A long time passes: the mark is of another age.
	rec, err := w.store.Get(context.Background(), hub.DirtyKey(groupID))
	if err != nil {
		t.Fatalf("the room is not marked: %v", err)
	}
	old := append([]byte(nil), rec.Value...)
	for i := range old {
		old[i] = 0
	}
	if _, err := w.store.Apply(context.Background(), []kv.Op{{Key: hub.DirtyKey(groupID), Value: old}}); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.settled(groupID)
	rows := w.sentTo("b.example", had+12)
	items := make(map[string]bool)
	for _, r := range rows {
		if items[r.Item] {
			t.Error("an item is there twice")
		}
		items[r.Item] = true
	}
	if err := w.h.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.sentTo("b.example", had+12)
	if _, err := w.store.Get(context.Background(), hub.DirtyKey(groupID)); err == nil {
		t.Error("an old mark of a room without pending rows stays")
	}
	if len(want) != 12 {
		t.Fatal("not all were accepted")
	}
}

// TestCrashOrder: what is swept comes in the order of acceptance, also beyond
// nine events.
func TestCrashOrder(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	bob := alice.add("b.example")
	groupID := alice.g.Public().GroupID()
	w.settled(groupID)
	if err := w.outbox.Delete(context.Background(), hub.OutboxID("b.example")); err != nil {
		t.Fatal(err)
	}
	// The outboxes are out of reach while events come.
	w.h.Close()
	broken := &brokenQueue{Memory: w.outbox}
	w.restartWith(broken)
	for i := range 15 {
		if _, err := alice.submit(alice.message(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	broken.repair()
	if err := w.h.Sweep(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.settled(groupID)
	rows := w.sentTo("b.example", 15)
	es, err := bob.catchUp(0)
	if err != nil || len(es) != 15 {
		t.Fatalf("%d events, %v", len(es), err)
	}
	lane := rows[0].Lane
	for _, r := range rows {
		if r.Lane != lane {
			t.Error("a leaf's rows have several lanes")
		}
	}
	if names := w.handedOver(); len(names) < 15 || !slices.IsSorted(names) {
		t.Errorf("pending records were handed over in the order %v", names)
	}
}

// brokenQueue is an outbox out of reach until it is repaired.
type brokenQueue struct {
	*queue.Memory
	mu sync.Mutex // guards ok
	ok bool
}

func (b *brokenQueue) repair() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ok = true
}

func (b *brokenQueue) AppendBatch(ctx context.Context, batch []queue.Append) ([]queue.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ok {
		return nil, errFault
	}
	return b.Memory.AppendBatch(ctx, batch)
}

// TestFailedTransaction: a transaction that fails, or whose answer is lost,
// is never half a change, and the repeat is accepted once.
func TestFailedTransaction(t *testing.T) {
	for _, applied := range []bool{false, true} {
		t.Run(fmt.Sprintf("applied %v", applied), func(t *testing.T) {
			w := newWorld(t)
			alice := w.room()
			alice.add("b.example")
			had := len(w.sentTo("b.example", 1))
			w.settled(alice.g.Public().GroupID())
			before := w.dump()
			var once sync.Once
			fail := func(ops []kv.Op) (bool, error) {
				apply, err := true, error(nil)
				for _, op := range ops {
					if op.Key.Name == "room" {
						once.Do(func() { apply, err = applied, errFault })
					}
				}
				return apply, err
			}
			w.store.fail(fail)
			s := alice.stage(commit{})
			_, err := do(w, s.call, s.req, new(hubv1.UpdateResponse))
			if err == nil {
				t.Fatal("no error")
			}
			if _, ok := mmrerr.Of(err); ok {
				t.Errorf("a store that is away is answered %v: the client would not try again", err)
			}
			if !applied {
				w.unchanged(before)
			}
			res, err := do(w, s.call, s.req, new(hubv1.UpdateResponse))
			if err != nil || res.GetAccepted().GetSeq() != 2 {
				t.Fatalf("the repeat: %v, %v", res, err)
			}
			alice.adopt(s)
			if _, err := alice.submit(alice.message("after")); err != nil {
				t.Fatal(err)
			}
			if applied { // handed over by the sweep
				if err := w.h.Sweep(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			w.sentTo("b.example", had+2)
		})
	}
}

// TestRace: of two commits of one epoch one wins, whatever replica they reach.
func TestRace(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	bob := alice.add("b.example")
	a, b := alice.stage(commit{}), bob.stage(commit{})
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, s := range []*sent{a, b} {
		wg.Go(func() { _, errs[i] = do(w, s.call, s.req, new(hubv1.UpdateResponse)) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			w.wantCode(err, mmrerr.WrongEpoch)
		}
	}
	if won != 1 {
		t.Errorf("%d of two commits of an epoch were accepted: %v", won, errs)
	}
}

// TestStoreRace: the room changed between reading and writing, as with another
// replica: the request is judged again on what is there.
func TestStoreRace(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	bob := alice.add("b.example")
	w.settled(alice.g.Public().GroupID())
	var once sync.Once
	w.store.fail(func(ops []kv.Op) (apply bool, err error) {
		apply = true
		for _, op := range ops {
			if op.Key.Name == "room" && op.Check {
				once.Do(func() { apply, err = false, kv.ErrConflict })
			}
		}
		return apply, err
	})
	res, err := bob.submit(bob.message("through"))
	if err != nil || res.GetAccepted().GetSeq() != 2 {
		t.Errorf("after a conflict: %v, %v", res, err)
	}
}

// TestFirstContact: a Welcome is sent again until its joiner has come.
func TestFirstContact(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	bob := alice.add("b.example")
	alice.add("b.example") // dave never comes
	groupID := alice.g.Public().GroupID()
	w.settled(groupID)
	rows := w.sentTo("b.example", 3) // two Welcomes, one commit for bob
	first := 0
	for _, r := range rows {
		if f, err := seal.EnvelopeForm(r.Envelope); err == nil && f == seal.FormFirst {
			first++
		}
	}
	if first != 2 {
		t.Fatalf("%d first envelopes", first)
	}
	c := bob.call(seal.MethodJoinState)
	c.kind, c.leaf = seal.AuthNewLeaf, 0
	if _, err := do(w, c, &hubv1.JoinStateRequest{Epoch: 1, SignatureKey: bob.signer.Public()}, new(hubv1.JoinStateResponse)); err != nil {
		t.Fatal(err)
	}
	if n := len(w.records(hub.RoomGroup(groupID), hub.PrefixFirst)); n != 1 {
		t.Errorf("%d first contacts are waiting, want dave's", n)
	}
	if err := w.h.RepeatFirstContacts(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.sentTo("b.example", 3) // not due
	w.due(groupID)
	if err := w.h.RepeatFirstContacts(context.Background()); err != nil {
		t.Fatal(err)
	}
	again := w.sentTo("b.example", 4)
	if again[3].Item == again[2].Item || !bytes.Equal(again[3].Envelope, again[2].Envelope) && !bytes.Equal(again[3].Envelope, again[1].Envelope) {
		t.Error("what was sent again is not dave's first envelope as a new item")
	}
	// Removed before he came: nothing more is sent.
	if _, err := alice.commit(commit{proposals: removal(2)}); err != nil {
		t.Fatal(err)
	}
	if n := len(w.records(hub.RoomGroup(groupID), hub.PrefixFirst)); n != 0 {
		t.Errorf("%d first contacts are waiting after the removal", n)
	}
}

// due makes all waiting first contacts due.
func (w *world) due(groupID []byte) {
	w.t.Helper()
	for _, r := range w.records(hub.RoomGroup(groupID), hub.PrefixFirst) {
		v := append([]byte(nil), r.Value...)
		for i := 1; i < 9; i++ {
			v[i] = 0
		}
		if _, err := w.store.Apply(context.Background(), []kv.Op{{Key: r.Key, Value: v, TTL: time.Hour}}); err != nil {
			w.t.Fatal(err)
		}
	}
}
