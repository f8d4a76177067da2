package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// quick makes the random delays of SPEC.md short.
var quick = []client.Option{
	client.WithRetryFor(2 * time.Second), client.WithRefreshDelay(50 * time.Millisecond), client.WithLeaveDelay(50 * time.Millisecond), client.WithGapWait(300 * time.Millisecond),
}

// trio is three people who are connected, alice with both others.
type trio struct {
	*world
	alice, bob, carol *person
}

func newTrio(ctx context.Context, t *testing.T) *trio {
	t.Helper()
	w := &trio{world: newWorld(t)}
	w.alice, w.bob, w.carol = w.person(ctx, "alice", "a.example", quick...), w.person(ctx, "bob", "b.example", quick...), w.person(ctx, "carol", "b.example", quick...)
	for _, p := range []*person{w.alice, w.bob, w.carol} {
		p.online(context.WithoutCancel(ctx))
	}
	connect(ctx, t, w.alice, w.bob)
	connect(ctx, t, w.alice, w.carol)
	return w
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// room makes a room of alice and others.
func (w *trio) room(ctx context.Context, t *testing.T, others []*person, opts ...client.RoomOption) string {
	t.Helper()
	room, err := w.alice.CreateRoom(ctx, "hub.example", opts...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range others {
		if err := w.alice.Add(ctx, room, p.User()); err != nil {
			t.Fatal(err)
		}
		p.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == room })
	}
	return room
}

// eventually repeats a check of a room until it holds.
func (p *person) eventually(t *testing.T, room, what string, ok func(client.RoomInfo) bool) {
	t.Helper()
	var info client.RoomInfo
	for range 500 {
		var err error
		if info, err = p.Room(room); err == nil && ok(info) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s: %s does not come about: %+v", p.name, what, info)
}

func users(info client.RoomInfo) []string {
	var out []string
	for _, m := range info.Members {
		out = append(out, m.User)
	}
	slices.Sort(out)
	return out
}

// know waits until everybody sees exactly these people, all verified.
func know(t *testing.T, room string, people ...*person) {
	t.Helper()
	var want []string
	for _, p := range people {
		want = append(want, p.User())
	}
	slices.Sort(want)
	for _, p := range people {
		p.eventually(t, room, fmt.Sprintf("seeing %v", want), func(i client.RoomInfo) bool { return slices.Equal(users(i), want) })
	}
}

// talk sends a message from one to others.
func talk(ctx context.Context, t *testing.T, room string, from *person, to ...*person) {
	t.Helper()
	text := fmt.Sprintf("from %s at %d", from.name, time.Now().UnixNano())
	if err := from.Send(ctx, room, []byte(text)); err != nil {
		t.Fatalf("%s sends: %v", from.name, err)
	}
	for _, p := range to {
		e := p.waitFor(text, func(e client.Event) bool { return string(e.Data) == text })
		if e.User != from.User() {
			t.Errorf("%s sees %q from %q", p.name, text, e.User)
		}
	}
}

// TestLeave: who leaves is out at once, and somebody else's commit carries it
// out after a while (SPEC.md R-113).
func TestLeave(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob, w.carol})
	know(t, room, w.alice, w.bob, w.carol)
	if err := w.alice.Add(ctx, room, w.bob.User()); !errors.Is(err, client.ErrMember) {
		t.Errorf("adding who is there: %v", err)
	}
	if err := w.bob.Leave(ctx, room); err != nil {
		t.Fatal(err)
	}
	w.bob.waitFor("left", func(e client.Event) bool { return e.Kind == client.KindLeft && e.Room == room })
	if err := w.bob.Send(ctx, room, []byte("still here?")); !errors.Is(err, client.ErrNoRoom) {
		t.Errorf("bob sends after leaving: %v", err)
	}
	know(t, room, w.alice, w.carol) // without anybody doing anything
	talk(ctx, t, room, w.alice, w.carol)
	talk(ctx, t, room, w.carol, w.alice)
	for _, m := range w.bob.messages() {
		t.Errorf("bob, who left, reads %q", m)
	}
}

// TestRoles: what a role allows, and what not (SPEC.md R-110).
func TestRoles(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob, w.carol})
	know(t, room, w.alice, w.bob, w.carol)
	role := func(of *person, want string) {
		t.Helper()
		for _, p := range []*person{w.alice, w.bob, w.carol} {
			p.eventually(t, room, of.name+" is "+want, func(i client.RoomInfo) bool {
				return slices.ContainsFunc(i.Members, func(m client.MemberInfo) bool { return m.User == of.User() && m.Role == want })
			})
		}
	}
	if err := w.alice.SetRole(ctx, room, w.bob.User(), "observer"); err != nil {
		t.Fatal(err)
	}
	role(w.bob, "observer")
	if err := w.bob.Send(ctx, room, []byte("no")); !errors.Is(err, mmrerr.Role) {
		t.Errorf("an observer sends: %v", err)
	}
	if err := w.carol.SetRole(ctx, room, w.carol.User(), "admin"); !errors.Is(err, mmrerr.Role) {
		t.Errorf("a member makes itself admin: %v", err)
	}
	if err := w.carol.Remove(ctx, room, w.bob.User()); !errors.Is(err, mmrerr.Role) {
		t.Errorf("a member removes somebody: %v", err)
	}
	if err := w.alice.SetRole(ctx, room, w.carol.User(), "moderator"); err != nil {
		t.Fatal(err)
	}
	role(w.carol, "moderator")
	if err := w.carol.SetRole(ctx, room, w.bob.User(), "member"); err != nil {
		t.Errorf("a moderator makes an observer a member: %v", err)
	}
	role(w.bob, "member")
	talk(ctx, t, room, w.bob, w.alice, w.carol)
	if err := w.carol.Ban(ctx, room, w.bob.User()); err != nil {
		t.Fatal(err)
	}
	w.bob.waitFor("removal", func(e client.Event) bool { return e.Kind == client.KindRemoved && e.Room == room })
	know(t, room, w.alice, w.carol)
	if err := w.alice.Add(ctx, room, w.bob.User()); err != nil {
		t.Fatal(err)
	}
	w.carol.waitFor("banned user back", func(e client.Event) bool {
		return e.Kind == client.KindBanned && slices.Equal(e.Added, []string{w.bob.User()})
	})
}

// TestJoinByLink: a joiner by link reads who is there before it shows itself,
// and is known to all at once (SPEC.md R-97); a revoked link is dead.
func TestJoinByLink(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]client.RoomOption{"treewrap": nil, "static": {client.WithStaticLinks(), client.WithHubKey()}} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			w := newTrio(ctx, t)
			room := w.room(ctx, t, []*person{w.bob}, opts...)
			if _, err := w.bob.CreateLink(ctx, room, time.Hour); !errors.Is(err, mmrerr.Role) {
				t.Errorf("a member makes a link: %v", err)
			}
			link, err := w.alice.CreateLink(ctx, room, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			talk(ctx, t, room, w.alice, w.bob)
			if err := w.alice.Refresh(ctx, room); err != nil { // the link outlives epochs
				t.Fatal(err)
			}
			if _, err := w.carol.Join(ctx, link); err != nil {
				t.Fatal(err)
			}
			know(t, room, w.alice, w.bob, w.carol)
			talk(ctx, t, room, w.carol, w.alice, w.bob)
			if err := w.carol.Refresh(ctx, room); err != nil {
				t.Fatal(err)
			}
			talk(ctx, t, room, w.bob, w.alice, w.carol)
			if err := w.alice.RevokeLinks(ctx, room); err != nil {
				t.Fatal(err)
			}
			dave := w.person(ctx, "dave", "a.example", quick...)
			if _, err := dave.Join(ctx, link); !errors.Is(err, mmrerr.NoRoom) {
				t.Errorf("joining by a revoked link: %v", err)
			}
		})
	}
}

// TestResync: a client takes its place again by an external commit with the same
// identity; others know it at once, and it knows them after the next refresh
// (SPEC.md ).
func TestResync(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]client.RoomOption{"treewrap": nil, "static": {client.WithStaticLinks(), client.WithHubKey()}} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			w := newTrio(ctx, t)
			room := w.room(ctx, t, []*person{w.bob, w.carol}, opts...)
			know(t, room, w.alice, w.bob, w.carol)
			if err := w.bob.Resync(ctx, room); err != nil {
				t.Fatal(err)
			}
			know(t, room, w.alice, w.bob, w.carol)
			talk(ctx, t, room, w.bob, w.alice, w.carol)
			talk(ctx, t, room, w.alice, w.bob, w.carol)
			if err := w.carol.Remove(ctx, room, w.bob.User()); !errors.Is(err, mmrerr.Role) {
				t.Errorf("a member removes somebody: %v", err)
			}
		})
	}
}

// TestIdentities: who shows who they are is the room's policy (SPEC.md R-55).
func TestIdentities(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		requirement pseudonym.LinkKeyRequirement
		shown       []string // whom bob sees
	}{
		"admins": {pseudonym.RequireAdmins, []string{"alice"}},
		"none":   {pseudonym.RequireNone, nil},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			w := newTrio(ctx, t)
			room := w.room(ctx, t, nil, client.WithIdentities(c.requirement))
			link, err := w.alice.CreateLink(ctx, room, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.bob.Join(ctx, link); err != nil {
				t.Fatal(err)
			}
			w.alice.eventually(t, room, "two leaves", func(i client.RoomInfo) bool { return len(i.Members) == 2 })
			text := "from somebody"
			if err := w.alice.Send(ctx, room, []byte(text)); err != nil {
				t.Fatal(err)
			}
			e := w.bob.waitFor(text, func(e client.Event) bool { return string(e.Data) == text })
			if shown := slices.Contains(c.shown, "alice"); (e.User == w.alice.User()) != shown || !shown && e.User != "" {
				t.Errorf("bob sees the message from %q", e.User)
			}
			for _, p := range []*person{w.alice, w.bob} {
				info, err := p.Room(room)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range info.Members {
					if !m.Own && m.Verified != (m.User == w.alice.User() && len(c.shown) > 0) {
						t.Errorf("%s sees %+v", p.name, m)
					}
				}
			}
		})
	}
}

// TestSafetyCode: both see the same digits; a confirmed user is shown as such.
func TestSafetyCode(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	if _, err := w.alice.SafetyCode("mimi://b.example/u/nobody"); err == nil {
		t.Error("a code for somebody never met")
	}
	room := w.room(ctx, t, []*person{w.bob})
	know(t, room, w.alice, w.bob)
	a, err1 := w.alice.SafetyCode(w.bob.User())
	b, err2 := w.bob.SafetyCode(w.alice.User())
	if err := errors.Join(err1, err2); err != nil || a != b || len(a) != 71 {
		t.Fatalf("codes %q and %q, %v", a, b, err)
	}
	state := func() client.Identity {
		info, err := w.alice.Room(room)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range info.Members {
			if m.User == w.bob.User() {
				return m.Identity
			}
		}
		return ""
	}
	if got := state(); got != client.Verified {
		t.Errorf("bob is %q", got)
	}
	if err := w.alice.Confirm(ctx, w.bob.User()); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != client.Confirmed {
		t.Errorf("bob is %q after Confirm", got)
	}
	if err := w.alice.Unconfirm(ctx, w.bob.User()); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != client.Verified {
		t.Errorf("bob is %q after Unconfirm", got)
	}
}
