package e2e_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/client"
)

// secondDevice adds a device to a person who is online.
func (w *trio) secondDevice(ctx context.Context, t *testing.T, of *person, name string) *person {
	t.Helper()
	p := &person{tb: t, name: name, store: client.NewMemoryStore(), trust: w.trust}
	request, err := client.BeginDevice(p.store, name)
	if err != nil {
		t.Fatal(err)
	}
	response, err := of.AddDevice(ctx, request, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	if p.Client, err = client.JoinDevice(ctx, p.store, response, w.trust, append(quick, client.WithLogger(slog.New(slog.NewTextHandler(testWriter{t, name}, nil))))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.offline()
		_ = p.Close()
	})
	p.online(context.WithoutCancel(ctx))
	return p
}

// leaves waits until somebody sees so many leaves of a user in a room, all under
// one pseudonym.
func (p *person) leaves(t *testing.T, room, user string, n int) {
	t.Helper()
	p.eventually(t, room, "leaves of "+user, func(i client.RoomInfo) bool {
		var pseudonyms []string
		for _, m := range i.Members {
			if m.User == user {
				pseudonyms = append(pseudonyms, m.Pseudonym)
			}
		}
		return len(pseudonyms) == n && len(slices.Compact(pseudonyms)) == min(n, 1)
	})
}

// TestDevices: a second device joins the user's rooms by sibling proof, shares
// its connections, and is added to new rooms with the first (SPEC.md,
//
func TestDevices(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob})
	know(t, room, w.alice, w.bob)
	laptop := w.secondDevice(ctx, t, w.alice, "alice-laptop")
	laptop.waitFor("joining the room", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == room })
	if got := w.alice.Devices(); len(got) != 2 {
		t.Errorf("devices %v", got)
	}
	for _, p := range []*person{w.alice, w.bob, laptop} {
		p.leaves(t, room, w.alice.User(), 2)
		p.leaves(t, room, w.bob.User(), 1)
	}
	talk(ctx, t, room, w.bob, w.alice, laptop)
	talk(ctx, t, room, laptop, w.alice, w.bob)
	talk(ctx, t, room, w.alice, laptop, w.bob)

	// A new room of the first device reaches the second.
	second := w.room(ctx, t, []*person{w.carol})
	laptop.waitFor("joining the second room", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == second })
	w.carol.leaves(t, second, w.alice.User(), 2)

	// Connections are shared: the laptop adds carol to a room, and bob's room gets
	// both devices from their pool.
	laptop.waitFor("the connection with carol", func(e client.Event) bool { return e.Kind == client.KindConnected && e.User == w.carol.User() })
	if err := laptop.Add(ctx, room, w.carol.User()); err != nil {
		t.Fatal(err)
	}
	w.carol.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == room })
	if err := laptop.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	third, err := w.bob.CreateRoom(ctx, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.bob.Add(ctx, third, w.alice.User()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*person{w.alice, laptop} {
		p.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == third })
		p.leaves(t, third, w.alice.User(), 2)
	}
	talk(ctx, t, third, w.bob, w.alice, laptop)

	// Both leave together.
	if err := laptop.Leave(ctx, third); err != nil {
		t.Fatal(err)
	}
	w.bob.leaves(t, third, w.alice.User(), 0)
	w.alice.waitFor("leaving", func(e client.Event) bool {
		return (e.Kind == client.KindRemoved || e.Kind == client.KindLeft) && e.Room == third
	})
}

// TestLostDevice: a device that was lost has no session, is in no new set, and
// leaves the user's rooms (SPEC.md §21, A9).
func TestLostDevice(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob})
	laptop := w.secondDevice(ctx, t, w.alice, "alice-laptop")
	laptop.waitFor("joining the room", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == room })
	laptop.waitFor("the connection with bob", func(e client.Event) bool { return e.Kind == client.KindConnected && e.User == w.bob.User() })
	if err := laptop.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*person{w.alice, w.bob, laptop} {
		p.leaves(t, room, w.alice.User(), 2)
	}
	if err := w.alice.RemoveDevice(ctx, "alice-phone"); err == nil {
		t.Error("a device removes itself")
	}
	if err := w.alice.RemoveDevice(ctx, "alice-laptop"); err != nil {
		t.Fatal(err)
	}
	if got := w.alice.Devices(); len(got) != 1 {
		t.Errorf("devices %v", got)
	}
	w.alice.Hurry()
	w.bob.leaves(t, room, w.alice.User(), 1)
	if _, err := laptop.Requests(ctx); err == nil {
		t.Error("the lost device's session is served")
	}
	other, err := w.bob.CreateRoom(ctx, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.bob.Add(ctx, other, w.alice.User()); err != nil {
		t.Fatal(err)
	}
	w.alice.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == other })
	w.bob.leaves(t, other, w.alice.User(), 1)
}
