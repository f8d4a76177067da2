package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/client"
)

func connect(ctx context.Context, tb testing.TB, a, b *person) {
	tb.Helper()
	if err := a.Connect(ctx, b.User(), "hub.example"); err != nil {
		tb.Fatalf("%s connects with %s: %v", a.name, b.name, err)
	}
	rs, err := b.Requests(ctx)
	if err != nil || len(rs) != 1 {
		tb.Fatalf("%s has %d requests, %v", b.name, len(rs), err)
	}
	if rs[0].User != a.User() {
		tb.Fatalf("%s sees a request of %s", b.name, rs[0].User)
	}
	if err := b.Accept(ctx, rs[0].ID); err != nil {
		tb.Fatalf("%s accepts: %v", b.name, err)
	}
	a.waitFor("connection", func(e client.Event) bool { return e.Kind == client.KindConnected && e.User == b.User() })
}

// TestMainJob is the whole way: three people register, connect, talk; one is
// removed; one is away and comes back.
func TestMainJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	alice, bob, carol := w.person(ctx, "alice", "a.example"), w.person(ctx, "bob", "b.example"), w.person(ctx, "carol", "b.example")
	for _, p := range []*person{alice, bob, carol} {
		p.online(ctx)
	}
	connect(ctx, t, alice, bob)
	connect(ctx, t, alice, carol)

	room, err := alice.CreateRoom(ctx, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.Add(ctx, room, bob.User(), carol.User()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*person{bob, carol} {
		e := p.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined })
		if e.Room != room || e.User != alice.User() {
			t.Errorf("%s joined %s by %s", p.name, e.Room, e.User)
		}
	}
	for i, p := range []*person{alice, bob, carol} {
		if err := p.Send(ctx, room, fmt.Appendf(nil, "hello %d from %s", i, p.name)); err != nil {
			t.Fatalf("%s sends: %v", p.name, err)
		}
	}
	for _, p := range []*person{alice, bob, carol} {
		for i, q := range []*person{alice, bob, carol} {
			if p != q {
				want := fmt.Sprintf("hello %d from %s", i, q.name)
				e := p.waitFor(want, func(e client.Event) bool { return e.Kind == client.KindMessage && string(e.Data) == want })
				if e.User != q.User() {
					t.Errorf("%s sees %q from %q", p.name, want, e.User)
				}
			}
		}
	}

	bob.offline()
	if err := alice.Remove(ctx, room, carol.User()); err != nil {
		t.Fatal(err)
	}
	carol.waitFor("removal", func(e client.Event) bool { return e.Kind == client.KindRemoved })
	var want []string
	for i := range 10 {
		m := fmt.Sprintf("waiting %d", i)
		want = append(want, m)
		if err := alice.Send(ctx, room, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	bob.online(ctx)
	bob.waitFor("last message", func(e client.Event) bool { return string(e.Data) == "waiting 9" })
	got := bob.messages()
	if diff := cmp.Diff(want, got[len(got)-10:]); diff != "" {
		t.Errorf("bob's messages (-want +got):\n%s", diff)
	}
	time.Sleep(300 * time.Millisecond)
	for _, m := range carol.messages() {
		if len(m) > 7 && m[:7] == "waiting" {
			t.Errorf("carol, removed, reads %q", m)
		}
	}
	info, err := alice.Room(room)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Members {
		if !m.Verified {
			t.Errorf("leaf %d is unverified", m.Leaf)
		}
	}
}
