package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// pair is a room of two.
type pair struct {
	*world
	alice, bob *person
	room       string
}

func newPair(t *testing.T, shape ...func(*relay.Config)) *pair {
	t.Helper()
	w := &pair{world: newWorld(t, shape...)}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	impatient := client.WithRetryFor(300 * time.Millisecond)
	w.alice, w.bob = w.person(ctx, "alice", "a.example", impatient), w.person(ctx, "bob", "b.example", impatient)
	live := context.WithoutCancel(ctx)
	w.alice.online(live)
	w.bob.online(live)
	connect(ctx, t, w.alice, w.bob)
	var err error
	if w.room, err = w.alice.CreateRoom(ctx, "hub.example"); err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Add(ctx, w.room, w.bob.User()); err != nil {
		t.Fatal(err)
	}
	w.bob.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == w.room })
	w.quiet(t)
	return w
}

func (w *pair) epochs(t *testing.T) (a, b uint64) {
	t.Helper()
	x, err1 := w.alice.Room(w.room)
	y, err2 := w.bob.Room(w.room)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return x.Epoch, y.Epoch
}

// together waits until both are in one epoch.
func (w *pair) together(t *testing.T) {
	t.Helper()
	for range 500 {
		if a, b := w.epochs(t); a == b {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	a, b := w.epochs(t)
	t.Fatalf("alice is in epoch %d, bob in %d", a, b)
}

// TestLostAnswers: the hub has accepted, and its answer never comes. What was
// sent is settled with the next step, exactly once.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	w := newPair(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	w.hub.tap.lose(seal.MethodSubmit)
	if err := w.alice.Send(ctx, w.room, []byte("lost?")); err == nil {
		t.Fatal("no error")
	}
	w.hub.tap.heal(seal.MethodSubmit)
	if err := w.alice.Send(ctx, w.room, []byte("next")); err != nil {
		t.Fatal(err)
	}
	w.bob.waitFor("next", func(e client.Event) bool { return string(e.Data) == "next" })
	if diff := cmp.Diff([]string{"lost?", "next"}, w.bob.messages()); diff != "" {
		t.Errorf("after a lost answer to a message (-want +got):\n%s", diff)
	}

	// A message that never arrived, and whose epoch is over when it is settled.
	w.hub.tap.refuse(seal.MethodSubmit)
	if err := w.alice.Send(ctx, w.room, []byte("delayed")); err == nil {
		t.Fatal("no error")
	}
	w.hub.tap.heal(seal.MethodSubmit)
	for range 3 {
		if err := w.bob.Refresh(ctx, w.room); err != nil {
			t.Fatal(err)
		}
	}
	w.together(t)
	if err := w.alice.Send(ctx, w.room, []byte("and on")); err != nil {
		t.Fatal(err)
	}
	w.bob.waitFor("and on", func(e client.Event) bool { return string(e.Data) == "and on" })
	if diff := cmp.Diff([]string{"lost?", "next", "delayed", "and on"}, w.bob.messages()); diff != "" {
		t.Errorf("after a delayed message (-want +got):\n%s", diff)
	}

	w.hub.tap.lose(seal.MethodUpdate)
	w.alice.offline() // or the event would settle it first
	before, _ := w.epochs(t)
	if err := w.alice.Refresh(ctx, w.room); err == nil {
		t.Fatal("no error")
	}
	w.hub.tap.heal(seal.MethodUpdate)
	if err := w.alice.Send(ctx, w.room, []byte("settled")); err != nil {
		t.Fatal(err)
	}
	if after, _ := w.epochs(t); after != before+1 {
		t.Errorf("epoch %d after a lost answer to a commit in epoch %d", after, before)
	}
	w.bob.waitFor("settled", func(e client.Event) bool { return string(e.Data) == "settled" })

	// The event of the own commit comes through the mailbox while it is pending.
	w.hub.tap.lose(seal.MethodUpdate)
	if err := w.alice.Refresh(ctx, w.room); err == nil {
		t.Fatal("no error")
	}
	w.alice.online(context.WithoutCancel(ctx))
	w.together(t)
	w.hub.tap.heal(seal.MethodUpdate)
	if err := w.alice.Send(ctx, w.room, []byte("again")); err != nil {
		t.Fatal(err)
	}
	w.bob.waitFor("again", func(e client.Event) bool { return string(e.Data) == "again" })
}

// TestLostJoin: an external join whose answer is lost.
func TestLostJoin(t *testing.T) {
	t.Parallel()
	w := newPair(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	link, err := w.alice.CreateLink(ctx, w.room, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	carol := w.person(ctx, "carol", "b.example", client.WithRetryFor(300*time.Millisecond))
	w.hub.tap.lose(seal.MethodExternalJoin)
	if _, err := carol.Join(ctx, link); err == nil {
		t.Fatal("no error")
	}
	w.hub.tap.heal(seal.MethodExternalJoin)
	carol.online(ctx)
	w.alice.waitFor("carol", func(e client.Event) bool {
		return e.Kind == client.KindMembers && slices.Contains(e.Added, carol.User())
	})
	for range 250 {
		if _, err = carol.Room(w.room); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("the join is not settled: %v", err)
	}
	if err := w.alice.Send(ctx, w.room, []byte("hello carol")); err != nil {
		t.Fatal(err)
	}
	carol.waitFor("hello", func(e client.Event) bool { return string(e.Data) == "hello carol" && e.User == w.alice.User() })
}

// TestRaces: both commit at once, again and again, and messages cross: everybody
// gets through, and both end in one epoch.
func TestRaces(t *testing.T) {
	t.Parallel()
	w := newPair(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	const rounds = 8
	before, _ := w.epochs(t)
	for i := range rounds {
		var wg sync.WaitGroup
		for _, p := range []*person{w.alice, w.bob} {
			wg.Go(func() {
				if err := p.Refresh(ctx, w.room); err != nil {
					t.Errorf("%s commits: %v", p.name, err)
				}
				if err := p.Send(ctx, w.room, fmt.Appendf(nil, "%s %d", p.name, i)); err != nil {
					t.Errorf("%s sends: %v", p.name, err)
				}
			})
		}
		wg.Wait()
	}
	w.together(t)
	if a, _ := w.epochs(t); a != before+2*rounds {
		t.Errorf("epoch %d after %d commits in epoch %d", a, 2*rounds, before)
	}
	for p, from := range map[*person]string{w.alice: "bob", w.bob: "alice"} {
		var want []string
		for i := range rounds {
			want = append(want, fmt.Sprintf("%s %d", from, i))
		}
		p.waitFor("the last message", func(e client.Event) bool { return string(e.Data) == want[rounds-1] })
		if diff := cmp.Diff(want, p.messages()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.name, diff)
		}
	}
}

// TestOverflow: a mailbox that was full: what it refused is caught up.
func TestOverflow(t *testing.T) {
	t.Parallel()
	w := newPair(t, func(c *relay.Config) { c.Limits.Queue = queue.Limits{MaxEntries: 6} })
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	w.bob.offline()
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprint("message ", i))
		if err := w.alice.Send(ctx, w.room, []byte(want[i])); err != nil {
			t.Fatal(err)
		}
	}
	w.quiet(t)
	// The hub is away when bob comes back: the loss is not forgotten.
	w.hub.tap.refuse(seal.MethodCatchUp)
	w.bob.online(context.WithoutCancel(ctx))
	time.Sleep(500 * time.Millisecond)
	w.hub.tap.heal(seal.MethodCatchUp)
	w.bob.waitFor("the last message", func(e client.Event) bool { return string(e.Data) == want[24] })
	if diff := cmp.Diff(want, w.bob.messages()); diff != "" {
		t.Errorf("bob's messages (-want +got):\n%s", diff)
	}
}

// TestHubAway: a Welcome whose hub is out of reach does not hold up the mailbox,
// and is not forgotten.
func TestHubAway(t *testing.T) {
	t.Parallel()
	w := newPair(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	w.hub.tap.refuse(seal.MethodJoinState)
	other, err := w.alice.CreateRoom(ctx, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Add(ctx, other, w.bob.User()); err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Send(ctx, other, []byte("in the other room")); err != nil {
		t.Fatal(err)
	}
	if err := w.alice.Send(ctx, w.room, []byte("meanwhile")); err != nil {
		t.Fatal(err)
	}
	w.bob.waitFor("meanwhile", func(e client.Event) bool { return string(e.Data) == "meanwhile" })
	w.hub.tap.heal(seal.MethodJoinState)
	w.bob.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == other })
	w.bob.waitFor("other room", func(e client.Event) bool { return string(e.Data) == "in the other room" && e.Room == other })
}

// TestForkedRoom: a hub that shows another history, or signs nothing, is
// noticed, and nothing is sent any more (SPEC.md ).
func TestForkedRoom(t *testing.T) {
	t.Parallel()
	for name, forge := range map[string]func(e *seal.Event, hub *primitive.SigningKey) error{
		"another chain": func(e *seal.Event, hub *primitive.SigningKey) (err error) {
			e.Chain[0] ^= 1
			e.Receipt, err = e.Accepted().Sign(hub)
			return err
		},
		"receipt of another key": func(e *seal.Event, _ *primitive.SigningKey) error {
			other, err := primitive.GenerateSigningKey(primitive.Ed25519)
			if err != nil {
				return err
			}
			e.Receipt, err = e.Accepted().Sign(other)
			return err
		},
		"no receipt": func(e *seal.Event, _ *primitive.SigningKey) error { e.Receipt = nil; return nil },
		"other bytes": func(e *seal.Event, hub *primitive.SigningKey) (err error) {
			e.Receipt, err = e.Accepted().Sign(hub)
			e.AcceptedMS++ // not what chain and receipt are about
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPair(t)
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
			defer cancel()
			st := roomState(t, w.bob, w.room)
			ks, err := keys.Load(filepath.Join(w.dir, "hub.example"), keys.Hub, "hub.example")
			if err != nil {
				t.Fatal(err)
			}
			e := &seal.Event{GroupID: st.GroupID, Epoch: st.Epoch, Seq: st.Seq + 1, AcceptedMS: uint64(time.Now().UnixMilli()), Body: &seal.NoticeEvent{}}
			core, err := e.Core()
			if err != nil {
				t.Fatal(err)
			}
			e.Chain = seal.ChainNext([32]byte(st.Chain), e.Seq, core)
			if err := forge(e, ks.Identity()); err != nil {
				t.Fatal(err)
			}
			b, err := e.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			k, err := primitive.ParseSecret(st.K)
			if err != nil {
				t.Fatal(err)
			}
			env, err := seal.SealEnvelope(seal.StoredDeliveryKey(st.Epoch, k), b)
			if err != nil {
				t.Fatal(err)
			}
			id := queue.ID(w.bob.secrets().Account.QueueID)
			if _, err := queue.AppendOne(ctx, w.relays["b.example"].queues, queue.Append{Queue: id, Entry: env}); err != nil {
				t.Fatal(err)
			}
			w.bob.waitFor("fork", func(e client.Event) bool { return e.Kind == client.KindForked && e.Room == w.room })
			for what, err := range map[string]error{
				"send": w.bob.Send(ctx, w.room, []byte("x")), "refresh": w.bob.Refresh(ctx, w.room), "remove": w.bob.Remove(ctx, w.room, w.alice.User()),
			} {
				if !errors.Is(err, client.ErrForked) {
					t.Errorf("%s in a forked room: %v", what, err)
				}
			}
			// Also after a restart.
			w.bob.offline()
			again, err := client.Open(w.bob.store, w.trust)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = again.Close() }()
			if err := again.Send(ctx, w.room, []byte("x")); !errors.Is(err, client.ErrForked) {
				t.Errorf("after a restart: %v", err)
			}
		})
	}
}

type storedRoom struct {
	GroupID []byte
	Epoch   uint64
	K       []byte
	Seq     uint64
	Chain   []byte
}

func roomState(t *testing.T, p *person, room string) storedRoom {
	t.Helper()
	m, err := p.store.Load()
	if err != nil {
		t.Fatal(err)
	}
	want := p.secrets().Rooms[room].GroupID
	for k, v := range m {
		if len(k) > 5 && k[:5] == "room/" {
			var st storedRoom
			if err := json.Unmarshal(v, &st); err != nil {
				t.Fatal(err)
			}
			if string(st.GroupID) == string(want) {
				return st
			}
		}
	}
	t.Fatal("no such room")
	return storedRoom{}
}

// TestPackagesRunLow: whoever was asked often publishes connection packages
// anew, and is not in its own way while it does.
func TestPackagesRunLow(t *testing.T) {
	t.Parallel()
	ctx := within(t)
	w := newWorld(t)
	alice, bob := w.person(ctx, "alice", "a.example", quick...), w.person(ctx, "bob", "b.example", quick...)
	bob.online(ctx)
	if _, err := bob.Requests(ctx); err != nil { // makes the mailbox and the first packages
		t.Fatal(err)
	}
	for range 5 {
		if err := alice.Connect(ctx, bob.User(), "hub.example"); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (n int) {
		for _, e := range w.relays["b.example"].atRest(t) {
			if e.place == "accounts" && e.group == "abob" && strings.HasPrefix(e.name, "cp") {
				n++
			}
		}
		return n
	}
	before := left()
	if err := bob.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	if after := left(); after <= before {
		t.Errorf("%d connection packages at the provider, %d before", after, before)
	}
}
