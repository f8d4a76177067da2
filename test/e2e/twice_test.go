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

// TestAddedByTwo: of two people who add the same one at once, the second is told
// that it is in the room already, when its commit is made anew after the first:
// one person has one pseudonym in a room (SPEC.md R-4).
func TestAddedByTwo(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	connect(ctx, t, w.bob, w.carol)
	for name, opts := range map[string][]client.RoomOption{"treewrap": nil, "static": {client.WithStaticLinks()}} {
		t.Run(name, func(t *testing.T) {
			room := w.room(ctx, t, []*person{w.bob}, opts...)
			know(t, room, w.alice, w.bob)
			w.bob.offline() // it does not see that alice is faster
			if err := w.alice.Add(ctx, room, w.carol.User()); err != nil {
				t.Fatal(err)
			}
			if err := w.bob.Add(ctx, room, w.carol.User()); !errors.Is(err, client.ErrMember) {
				t.Errorf("adding who was added meanwhile: %v", err)
			}
			w.bob.online(context.WithoutCancel(ctx))
			know(t, room, w.alice, w.bob, w.carol)
			talk(ctx, t, room, w.carol, w.alice, w.bob)
			talk(ctx, t, room, w.bob, w.alice, w.carol)
		})
	}
}

// TestAddedWhileJoining: somebody who joins by a link and was added before is not
// in the room twice; who has left it may come back before that is carried out.
func TestAddedWhileJoining(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob})
	link, err := w.alice.CreateLink(ctx, room, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	w.carol.offline() // the Welcome waits in its mailbox
	if err := w.alice.Add(ctx, room, w.carol.User()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.carol.Join(ctx, link); !errors.Is(err, client.ErrMember) {
		t.Errorf("joining a room that one was added to: %v", err)
	}
	w.carol.online(context.WithoutCancel(ctx))
	know(t, room, w.alice, w.bob, w.carol)
	talk(ctx, t, room, w.carol, w.alice, w.bob)

	w.alice.offline() // nobody carries the leave out
	w.bob.offline()
	if err := w.carol.Leave(ctx, room); err != nil {
		t.Fatal(err)
	}
	if _, err := w.carol.Join(ctx, link); err != nil {
		t.Errorf("coming back: %v", err)
	}
	w.alice.online(context.WithoutCancel(ctx))
	w.bob.online(context.WithoutCancel(ctx))
	know(t, room, w.alice, w.bob, w.carol)
	talk(ctx, t, room, w.carol, w.alice, w.bob)
}

// TestJoinsWhileOthersLeave: what the hub proposes because an external commit
// ended the epoch of a leave, who made that commit knows too: the next commit
// refers to it (SPEC.md R-114).
func TestJoinsWhileOthersLeave(t *testing.T) {
	t.Parallel()
	for name, enter := range map[string]func(ctx context.Context, w *trio, room, link string) error{
		"resync": func(ctx context.Context, w *trio, room, _ string) error { return w.bob.Resync(ctx, room) },
		"link": func(ctx context.Context, w *trio, room, link string) error {
			_, err := w.bob.Join(ctx, link)
			return err
		},
		"resync whose answer was lost": func(ctx context.Context, w *trio, room, _ string) error {
			w.hub.tap.lose(seal.MethodExternalJoin)
			err := w.bob.Resync(ctx, room)
			w.hub.tap.heal(seal.MethodExternalJoin)
			if err == nil {
				return errors.New("the answer was not lost")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			w := newTrio(ctx, t)
			others := []*person{w.carol}
			if name != "link" {
				others = append(others, w.bob)
			}
			room := w.room(ctx, t, others)
			know(t, room, append(others, w.alice)...)
			link, err := w.alice.CreateLink(ctx, room, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			w.alice.offline() // nobody carries the leave out
			w.bob.offline()
			if err := w.carol.Leave(ctx, room); err != nil {
				t.Fatal(err)
			}
			if err := enter(ctx, w, room, link); err != nil {
				t.Fatal(err)
			}
			if err := w.alice.Refresh(ctx, room); err != nil {
				t.Fatal(err)
			}
			w.alice.online(context.WithoutCancel(ctx))
			w.bob.online(context.WithoutCancel(ctx))
			know(t, room, w.alice, w.bob)
			talk(ctx, t, room, w.alice, w.bob)
			talk(ctx, t, room, w.bob, w.alice)
			if s := w.bob.lastOf(room); slices.ContainsFunc(w.bob.all(), func(e client.Event) bool { return e.Kind == client.KindStuck }) {
				t.Errorf("stuck: %s", s)
			}
		})
	}
}

func (p *person) all() []client.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

// TestLinkAfterAdminLeft: whoever makes a link drops the roles of those who are
// out, which the hub would refuse otherwise (SPEC.md R-111).
func TestLinkAfterAdminLeft(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newTrio(ctx, t)
	room := w.room(ctx, t, []*person{w.bob, w.carol})
	know(t, room, w.alice, w.bob, w.carol)
	if err := w.alice.SetRole(ctx, room, w.bob.User(), "admin"); err != nil {
		t.Fatal(err)
	}
	if err := w.bob.Leave(ctx, room); err != nil {
		t.Fatal(err)
	}
	know(t, room, w.alice, w.carol)
	link, err := w.alice.CreateLink(ctx, room, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.bob.Join(ctx, link); err != nil {
		t.Fatal(err)
	}
	know(t, room, w.alice, w.bob, w.carol)
}
