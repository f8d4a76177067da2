package e2e_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// lost does a step whose answer by the hub gets lost.
func (w *world) lost(t *testing.T, method string, step func() error) {
	t.Helper()
	w.hub.tap.lose(method)
	defer w.hub.tap.heal(method)
	if err := step(); err == nil {
		t.Fatalf("%s: no error although the answer was lost", method)
	}
}

// restarted is a person whose process has ended, and begins again with what it
// stored.
func (p *person) restarted(t *testing.T) {
	t.Helper()
	p.offline()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if p.Client, err = client.Open(p.store, p.trust, quick...); err != nil {
		t.Fatal(err)
	}
	p.online(context.Background())
}

// TestLostResync: the hub has given a client its place again, perhaps another
// leaf, and the answer never came. The same commit is sent again, by the same
// process or the next one, and what was under way is not lost (SPEC.md R-66,
//
func TestLostResync(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(*testing.T, *person){
		"by itself":       func(*testing.T, *person) {},
		"after a restart": func(t *testing.T, p *person) { p.restarted(t) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			w := newTrio(ctx, t)
			room := w.room(ctx, t, []*person{w.bob, w.carol})
			know(t, room, w.alice, w.bob, w.carol)
			if err := w.alice.Remove(ctx, room, w.bob.User()); err != nil { // whose place carol will have
				t.Fatal(err)
			}
			know(t, room, w.alice, w.carol)
			w.carol.offline()
			w.lost(t, seal.MethodSubmit, func() error { return w.carol.Send(ctx, room, []byte("accepted before")) })
			w.lost(t, seal.MethodExternalJoin, func() error { return w.carol.Resync(ctx, room) })
			if err := w.carol.Send(ctx, room, []byte("?")); !errors.Is(err, client.ErrStuck) {
				t.Errorf("sending from a place that is not known: %v", err)
			}
			talk(ctx, t, room, w.alice)
			w.carol.online(context.WithoutCancel(ctx))
			again(t, w.carol)
			w.carol.eventually(t, room, "a place", func(i client.RoomInfo) bool { return !i.Stuck })
			know(t, room, w.alice, w.carol)
			talk(ctx, t, room, w.carol, w.alice)
			talk(ctx, t, room, w.alice, w.carol)
			if d := twice(w.alice.messages()); len(d) > 0 {
				t.Errorf("twice: %q", d)
			}
			if !slices.Contains(w.alice.messages(), "accepted before") {
				t.Errorf("the message before is lost")
			}
			for _, e := range w.carol.messages() {
				if e == "accepted before" {
					t.Error("the own message is presented")
				}
			}
		})
	}
}

// TestLostRotation: the answer to a commit that gives the committer a new
// credential, or the hub a new key for the room, or both, is lost: the new keys
// are tried where the old ones are of no use (SPEC.md ).
func TestLostRotation(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]func(context.Context, *testing.T, *trio, string) error{
		"removal": func(ctx context.Context, _ *testing.T, w *trio, room string) error {
			return w.alice.Remove(ctx, room, w.bob.User())
		},
		"leave carried out by a commit with a new credential": func(ctx context.Context, t *testing.T, w *trio, room string) error {
			w.hub.tap.heal(seal.MethodUpdate)
			if err := w.bob.Leave(ctx, room); err != nil {
				t.Fatal(err)
			}
			w.hub.tap.lose(seal.MethodUpdate)
			return w.alice.Refresh(ctx, room)
		},
		"new credential": func(ctx context.Context, _ *testing.T, w *trio, room string) error { return w.alice.Refresh(ctx, room) },
		"ban": func(ctx context.Context, _ *testing.T, w *trio, room string) error {
			return w.alice.Ban(ctx, room, w.bob.User())
		},
		"role": func(ctx context.Context, _ *testing.T, w *trio, room string) error {
			return w.alice.SetRole(ctx, room, w.bob.User(), "observer")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			w := newTrio(ctx, t)
			for _, restart := range []bool{false, true} {
				room := w.room(ctx, t, []*person{w.bob, w.carol})
				know(t, room, w.alice, w.bob, w.carol)
				w.alice.offline()
				w.lost(t, seal.MethodUpdate, func() error { return step(ctx, t, w, room) })
				if restart {
					w.alice.restarted(t)
				} else {
					w.alice.online(context.WithoutCancel(ctx))
				}
				rest := []*person{w.alice, w.carol}
				if name == "new credential" || name == "role" {
					rest = append(rest, w.bob)
				}
				know(t, room, rest...)
				talk(ctx, t, room, w.alice, w.carol)
				talk(ctx, t, room, w.carol, w.alice)
				if name != "ban" {
					continue
				}
				if err := w.alice.Add(ctx, room, w.bob.User()); err != nil {
					t.Fatal(err)
				}
				w.alice.waitFor("the banned user back", func(e client.Event) bool { return e.Kind == client.KindBanned && e.Room == room })
			}
		})
	}
}

// TestLostRefresh: the answer to a refresh of link keys is lost; the sender finds
// its own delta in the hub's state and follows it (SPEC.md R-98).
func TestLostRefresh(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob, w.carol})
	know(t, room, w.alice, w.bob, w.carol)
	w.hub.tap.lose(seal.MethodWrapRefresh)
	if err := w.bob.Resync(ctx, room); err != nil { // its leaf is pending until somebody refreshes
		t.Fatal(err)
	}
	id := w.alice.secrets().Rooms[room].GroupID
	for range 500 {
		if len(w.hub.tap.of(seal.MethodWrapRefresh, id)) > 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.hub.tap.heal(seal.MethodWrapRefresh)
	know(t, room, w.alice, w.bob, w.carol)
	for _, p := range []*person{w.alice, w.carol, w.bob} { // needs the state of all before it
		if err := p.Refresh(ctx, room); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
	}
	know(t, room, w.alice, w.bob, w.carol)
	talk(ctx, t, room, w.bob, w.alice, w.carol)
}

// TestLostLeave: a leave whose answer is lost, or that never arrives and whose
// epoch is over when it is sent again, is carried out all the same, and told once
// (SPEC.md R-113).
func TestLostLeave(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	for name, fault := range map[string]func(string){"lost": w.hub.tap.lose, "never arrived": w.hub.tap.refuse} {
		for _, restart := range []bool{false, true} {
			room := w.room(ctx, t, []*person{w.bob, w.carol})
			know(t, room, w.alice, w.bob, w.carol)
			w.bob.offline()
			fault(seal.MethodUpdate)
			t.Log(name, w.bob.Leave(ctx, room)) // that it is leaving, the hub says to the repeat
			w.hub.tap.heal(seal.MethodUpdate)
			if err := w.alice.Refresh(ctx, room); err != nil {
				t.Fatal(err)
			}
			if restart {
				w.bob.restarted(t)
			} else {
				w.bob.online(context.WithoutCancel(ctx))
			}
			know(t, room, w.alice, w.carol)
			gone := func(e client.Event) bool {
				return (e.Kind == client.KindLeft || e.Kind == client.KindRemoved) && e.Room == room
			}
			w.bob.waitFor("being out", gone)
			w.bob.mu.Lock()
			if n := len(slices.DeleteFunc(slices.Clone(w.bob.events), func(e client.Event) bool { return !gone(e) })); n != 1 {
				t.Errorf("%s: told %d times", name, n)
			}
			w.bob.mu.Unlock()
			if err := w.bob.Send(ctx, room, []byte("?")); !errors.Is(err, client.ErrNoRoom) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestLostSibling: the answer to a further device's join is lost: it is in the
// room all the same, by itself, and its application is told so once (SPEC.md
//
func TestLostSibling(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob})
	know(t, room, w.alice, w.bob)
	id := w.alice.secrets().Rooms[room].GroupID
	laptop := w.secondDevice(ctx, t, w.alice, "alice-laptop")
	w.hub.tap.lose(seal.MethodExternalJoin)
	for range 500 {
		if len(w.hub.tap.of(seal.MethodExternalJoin, id)) > 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	w.hub.tap.heal(seal.MethodExternalJoin)
	joined := func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == room }
	laptop.waitFor("joining the room", joined)
	w.bob.leaves(t, room, w.alice.User(), 2)
	talk(ctx, t, room, laptop, w.bob, w.alice)
	laptop.mu.Lock()
	defer laptop.mu.Unlock()
	if n := len(slices.DeleteFunc(slices.Clone(laptop.events), func(e client.Event) bool { return !joined(e) })); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// TestDeviceJoinRepeated: a device whose first attempt to join the others failed
// after it had opened the response joins with the same one.
func TestDeviceJoinRepeated(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	for name, fault := range map[string]func(string){"lost": w.hub.tap.lose, "never arrived": w.hub.tap.refuse} {
		store := client.NewMemoryStore()
		device := "laptop-" + name[:4]
		request, err := client.BeginDevice(store, device)
		if err != nil {
			t.Fatal(err)
		}
		response, err := w.alice.AddDevice(ctx, request, "hub.example")
		if err != nil {
			t.Fatal(err)
		}
		fault(seal.MethodExternalJoin)
		if _, err := client.JoinDevice(ctx, store, response, w.trust, client.WithRetryFor(200*time.Millisecond)); err == nil {
			t.Fatalf("%s: no error", name)
		}
		w.hub.tap.heal(seal.MethodExternalJoin)
		c, err := client.JoinDevice(ctx, store, response, w.trust, quick...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := c.Devices(); len(got) < 2 {
			t.Errorf("%s: devices %v", name, got)
		}
		if _, err := client.JoinDevice(ctx, store, response, w.trust, quick...); err == nil {
			t.Errorf("%s: the response is good for ever", name)
		}
		_ = c.Close()
		if err := w.alice.RemoveDevice(ctx, device); err != nil {
			t.Fatal(err)
		}
		again, err := client.BeginDevice(client.NewMemoryStore(), device)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.alice.AddDevice(ctx, again, "hub.example"); err == nil {
			t.Errorf("%s: a lost device's name is taken again", name)
		}
	}
}

// TestLostMailbox: the answer to the request for a mailbox is lost, and the client
// ends. The next process finds the mailbox that was made (SPEC.md R-66).
func TestLostMailbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.relays["a.example"]
	store := client.NewMemoryStore()
	a.tap.lose(seal.MethodQueueCreate)
	c, err := client.Register(t.Context(), store, client.Account{
		User: "alice", Device: "alice-phone", Domain: "a.example", Relay: a.clientAddr, Code: "let-me-in",
		PartnerDomain: "b.example", Partner: w.relays["b.example"].clientAddr,
	}, w.trust, quick...)
	if err == nil {
		t.Fatal("no error although the answer was lost")
	}
	if c != nil {
		_ = c.Close()
	}
	a.tap.heal(seal.MethodQueueCreate)
	if c, err = client.Open(store, w.trust, quick...); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(a.queues.list()); n != 1 {
		t.Errorf("%d mailboxes", n)
	}
}
