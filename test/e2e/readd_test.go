package e2e_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// lanes is a store of mailboxes in which all envelopes but first ones wait while
// they are held up: the lanes of a hub have no order among each other.
type lanes struct {
	queue.Store
	held  atomic.Bool
	lost  atomic.Bool  // instead, the mailbox is as if it had been full
	first atomic.Int64 // how many first envelopes came while others waited

	refused atomic.Uint64 // by the full mailbox
}

var errHeldUp = errors.New("held up")

func (l *lanes) AppendBatch(ctx context.Context, batch []queue.Append) ([]queue.Result, error) {
	if !l.held.Load() {
		return l.Store.AppendBatch(ctx, batch)
	}
	res := make([]queue.Result, len(batch))
	for i, a := range batch {
		if res[i].Err = errHeldUp; l.lost.Load() {
			res[i].Err = queue.ErrFull
			l.refused.Add(1)
		}
		if form, err := seal.EnvelopeForm(a.Entry); err != nil || form != seal.FormFirst {
			continue
		}
		one, err := l.Store.AppendBatch(ctx, batch[i:i+1])
		if err != nil {
			return nil, err
		}
		res[i] = one[0]
		l.first.Add(1)
	}
	return res, nil
}

func (l *lanes) Stat(ctx context.Context, id queue.ID) (queue.Stat, error) {
	st, err := l.Store.Stat(ctx, id)
	st.Dropped += l.refused.Load()
	return st, err
}

// TestRefusedWhileListening: who listens is told at once that its full mailbox has
// refused something, though nothing else comes, and catches up (SPEC.md ).
func TestRefusedWhileListening(t *testing.T) {
	t.Parallel()
	l := new(lanes)
	w := newPair(t, func(c *relay.Config) {
		if c.Domain == "b.example" {
			l.Store = c.Queues
			c.Queues = l
		}
	})
	l.lost.Store(true)
	l.held.Store(true)
	for _, text := range []string{"refused", "and again"} {
		if err := w.alice.Send(within(t), w.room, []byte(text)); err != nil {
			t.Fatal(err)
		}
		w.bob.waitFor(text, func(e client.Event) bool { return string(e.Data) == text })
	}
}

// TestAddedAgain: who is removed and added again, and gets the Welcome before the
// removal, is in the room at the end, and has got what was sent before and after
// (SPEC.md ).
func TestAddedAgain(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"by itself": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			l := new(lanes)
			w := newPair(t, func(c *relay.Config) {
				if c.Domain == "b.example" {
					l.Store = c.Queues
					c.Queues = l
				}
			})
			ctx := within(t)
			l.held.Store(true)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(w.alice.Send(ctx, w.room, []byte("before")))
			must(w.alice.Remove(ctx, w.room, w.bob.User()))
			must(w.alice.Add(ctx, w.room, w.bob.User()))
			must(w.alice.Send(ctx, w.room, []byte("after")))
			for ctx.Err() == nil { // until bob has taken the Welcome out of the mailbox
				st, err := w.bob.Mailbox(ctx)
				must(err)
				if l.first.Load() > 0 && st.Entries == 0 {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			if restart {
				w.bob.restarted(t)
			}
			l.held.Store(false)
			w.bob.waitFor("what was sent after", func(e client.Event) bool { return string(e.Data) == "after" })
			var got []string
			w.bob.mu.Lock()
			for _, e := range w.bob.events {
				if e.Room == w.room {
					got = append(got, string(e.Kind)+" "+string(e.Data))
				}
			}
			w.bob.mu.Unlock()
			if i := slices.Index(got, "message before"); i < 0 || !slices.Equal(got[i:], []string{"message before", "removed ", "joined ", "message after"}) {
				t.Errorf("bob saw %q", got)
			}
			know(t, w.room, w.alice, w.bob)
			talk(ctx, t, w.room, w.bob, w.alice)
		})
	}
}

// TestVirtualGone: who never gets the removal, because its mailbox was full, learns
// that it is in the room no more, and is in it again an hour after it was added.
func TestVirtualGone(t *testing.T) {
	if raceEnabled {
		t.Skip("synctest bubbles of this size crash the race detector's runtime; make test runs this without it")
	}
	for name, again := range map[string]bool{"added again": true, "not added": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { gone(t, again) })
		})
	}
}

func gone(t *testing.T, again bool) {
	l := new(lanes)
	b := newBubble(t, func(c *relay.Config) {
		if c.Domain == "b.example" {
			l.Store = c.Queues
			c.Queues = l
		}
	})
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	alice, bob := b.client(ctx, "alice", "a.example"), b.client(ctx, "bob", "b.example")
	alice.online(ctx)
	bob.online(ctx)
	must(alice.Connect(ctx, bob.User(), "hub.example"))
	rs, err := bob.Requests(ctx)
	must(err)
	must(bob.Accept(ctx, rs[0].ID))
	time.Sleep(time.Minute)
	room, err := alice.CreateRoom(ctx, "hub.example")
	must(err)
	must(alice.Add(ctx, room, bob.User()))
	time.Sleep(time.Minute)
	l.held.Store(true)
	l.lost.Store(true)
	must(alice.Remove(ctx, room, bob.User()))
	time.Sleep(time.Minute)
	l.held.Store(false)
	saw := func(want ...client.Kind) {
		t.Helper()
		var kinds []client.Kind
		bob.mu.Lock()
		defer bob.mu.Unlock()
		for _, e := range bob.events {
			if e.Room == room && e.Kind != client.KindMembers { // commits of periodic work, at random times
				kinds = append(kinds, e.Kind)
			}
		}
		if !slices.Equal(kinds, want) {
			t.Errorf("bob saw %v, want %v", kinds, want)
		}
	}
	if again {
		must(alice.Add(ctx, room, bob.User()))
		must(alice.Send(ctx, room, []byte("welcome back")))
		time.Sleep(30 * time.Minute)
		saw(client.KindJoined) // the removal may come
		time.Sleep(3 * time.Hour)
		saw(client.KindJoined, client.KindGone, client.KindRemoved, client.KindJoined, client.KindMessage)
	} else {
		time.Sleep(5 * 24 * time.Hour) // a quiet room is asked after by then (SPEC.md R-76)
		saw(client.KindJoined, client.KindGone)
		info, err := bob.Room(room)
		must(err)
		if !info.Gone {
			t.Error("the room does not show it")
		}
	}
	alice.stop()
	bob.stop()
	for _, c := range []*bubbleClient{alice, bob} {
		must(c.Close())
	}
	b.close()
}
