package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/client"
)

var errCrash = errors.New("injected crash")

// crashStore is a client's store of which one write fails, as if the process
// had been killed during it: with the changes on disk, or without them.
type crashStore struct {
	*client.MemoryStore

	mu      sync.Mutex // guards all below
	writes  int
	failAt  int // 1 is the first write; 0: none
	persist bool
	dead    bool // since the crash nothing is written until it is opened again
}

func (s *crashStore) Write(changes map[string][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errCrash
	}
	if s.writes++; s.writes != s.failAt {
		return s.MemoryStore.Write(changes)
	}
	s.dead = true
	if s.persist {
		if err := s.MemoryStore.Write(changes); err != nil {
			return err
		}
	}
	return errCrash
}

func (s *crashStore) reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = false
}

// mortal is a person whose process dies once and is started again.
type mortal struct {
	*client.Client
	t       *testing.T
	w       *world
	account client.Account
	store   *crashStore
	crashed bool
	seen    map[uint64]bool // events by number: what a careful application keeps
	events  []client.Event
}

func (w *world) mortal(t *testing.T, name, domain string, failAt int, persist bool) *mortal {
	t.Helper()
	m := &mortal{
		t: t, w: w, store: &crashStore{MemoryStore: client.NewMemoryStore(), failAt: failAt, persist: persist}, seen: make(map[uint64]bool),
		account: client.Account{
			User: name, Device: name + "-phone", Domain: domain, Relay: w.relays[domain].clientAddr, Code: "let-me-in",
			PartnerDomain: partnerOf(domain), Partner: w.relays[partnerOf(domain)].clientAddr,
		},
	}
	m.start()
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// start registers or opens the client, whatever the store says, and settles
// what an earlier process left.
func (m *mortal) start() {
	m.t.Helper()
	options := []client.Option{client.WithGapWait(300 * time.Millisecond), client.WithTokenBatch(32), client.WithPoolSets(2)}
	for attempt := 0; ; attempt++ {
		var err error
		m.Client, err = client.Open(m.store, m.w.trust, options...)
		if errors.Is(err, client.ErrNoAccount) {
			m.Client, err = client.Register(context.Background(), m.store, m.account, m.w.trust, options...)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, errCrash) || attempt > 1 {
			m.t.Fatalf("starting: %v", err)
		}
		m.crashed = true
		m.store.reopen()
	}
}

// do runs a step; when the process dies in it, it is started again, settles, and
// done says whether the step is still to be done.
func (m *mortal) do(what string, done func() bool, step func(context.Context) error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range 4 {
		if done() {
			return
		}
		err := step(ctx)
		if err == nil {
			return
		}
		if !errors.Is(err, errCrash) {
			m.t.Fatalf("%s: %v", what, err)
		}
		m.restart(ctx)
	}
	m.t.Fatalf("%s: again and again", what)
}

func (m *mortal) restart(ctx context.Context) {
	m.t.Helper()
	m.crashed = true
	_ = m.Close()
	m.store.reopen()
	m.start()
	m.pull(ctx)
}

// pull reads the mailbox and takes events, like an application that notes the
// number of each event it has handled.
func (m *mortal) pull(ctx context.Context) {
	m.t.Helper()
	err := m.Sync(ctx)
	if err == nil {
		err = m.Take(func(e client.Event) error {
			if !m.seen[e.Number] {
				m.seen[e.Number] = true
				m.events = append(m.events, e)
			}
			return nil
		})
	}
	switch {
	case err == nil:
	case errors.Is(err, errCrash):
		m.restart(ctx)
	default:
		m.t.Fatalf("reading the mailbox: %v", err)
	}
}

func (m *mortal) until(what string, match func(client.Event) bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		m.pull(ctx)
		if slices.ContainsFunc(m.events, match) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	m.t.Fatalf("never saw %s; saw %+v", what, m.events)
}

func never() bool { return false }

// hears waits a moment for a message.
func hears(f friend, text string) bool {
	for range 25 {
		if slices.Contains(f.messages(), text) {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// texts are the messages of a room in the order in which they were presented.
func texts(events []client.Event, room string) []string {
	var out []string
	for _, e := range events {
		if e.Kind == client.KindMessage && e.Room == room {
			out = append(out, string(e.Data))
		}
	}
	return out
}

func twice(xs []string) []string {
	seen, out := make(map[string]bool), []string(nil)
	for _, x := range xs {
		if seen[x] {
			out = append(out, x)
		}
		seen[x] = true
	}
	return out
}

func (m *mortal) member(room, user string) bool {
	info, err := m.Room(room)
	return err == nil && slices.ContainsFunc(info.Members, func(x client.MemberInfo) bool { return x.User == user })
}

// friend is the other side: it accepts every request and lives for ever.
type friend struct{ *person }

func (f friend) acceptAll(ctx context.Context) error {
	rs, err := f.Requests(ctx)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if err := f.Accept(ctx, r.ID); err != nil {
			return err
		}
	}
	return nil
}

// initiate is a life that asks, founds, adds, talks and listens. It returns how
// many writes it took.
func initiate(t *testing.T, w *world, bob friend, name string, failAt int, persist bool) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	m := w.mortal(t, name, "a.example", failAt, persist)
	connected := func() bool { return slices.Contains(m.Connections(), bob.User()) }
	m.do("connect", connected, func(ctx context.Context) error { return m.Connect(ctx, bob.User(), "hub.example") })
	if err := bob.acceptAll(ctx); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil && !connected() {
		m.pull(ctx)
		time.Sleep(20 * time.Millisecond)
	}
	var room string
	m.do("create", never, func(ctx context.Context) (err error) { room, err = m.CreateRoom(ctx, "hub.example"); return err })
	m.do("add", func() bool { return m.member(room, bob.User()) }, func(ctx context.Context) error { return m.Add(ctx, room, bob.User()) })
	bob.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == room })
	sent := make(map[string]bool) // text -> acknowledged
	var order []string
	for i := range 3 {
		text := fmt.Sprintf("%s %d", name, i)
		order = append(order, text)
		tried := false
		m.do("send", func() bool { return tried }, func(ctx context.Context) error {
			tried = true // its fate is known to the state, not to us: we do not repeat it
			err := m.Send(ctx, room, []byte(text))
			sent[text] = err == nil
			return err
		})
	}
	m.do("refresh", never, func(ctx context.Context) error { return m.Refresh(ctx, room) })
	if err := bob.Send(ctx, room, []byte("answer to "+name)); err != nil {
		t.Fatal(err)
	}
	m.until("the answer", func(e client.Event) bool { return string(e.Data) == "answer to "+name })
	tried := false
	m.do("last", func() bool { return tried }, func(ctx context.Context) error {
		tried = true
		return m.Send(ctx, room, []byte(name+" last"))
	})
	if m.crashed && !hears(bob, name+" last") { // killed before it was stored
		m.do("last again", never, func(ctx context.Context) error { return m.Send(ctx, room, []byte(name+" last")) })
	}
	bob.waitFor("last", func(e client.Event) bool { return string(e.Data) == name+" last" })
	check(t, m, bob, room, order, sent)
	if failAt > 0 && !m.crashed {
		return 0 // it was over before
	}
	return m.store.writes
}

// check compares what both sides have in the end.
func check(t *testing.T, m *mortal, bob friend, room string, order []string, sent map[string]bool) {
	t.Helper()
	bob.mu.Lock()
	got := texts(bob.events, room)
	bob.mu.Unlock()
	if d := twice(got); len(d) > 0 {
		t.Errorf("twice at the other side: %q", d)
	}
	if d := twice(texts(m.events, room)); len(d) > 0 {
		t.Errorf("twice at this side: %q", d)
	}
	want := slices.DeleteFunc(slices.Clone(order), func(s string) bool { return !sent[s] && !slices.Contains(got, s) })
	have := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return !slices.Contains(order, s) })
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	a, err1 := m.Room(room)
	b, err2 := bob.Room(room)
	if err1 != nil || err2 != nil || a.Epoch != b.Epoch || a.Forked || len(a.Members) != len(b.Members) {
		t.Errorf("the rooms differ: %+v %v, %+v %v", a, err1, b, err2)
	}
	for _, x := range a.Members {
		if !x.Verified {
			t.Errorf("leaf %d is unverified", x.Leaf)
		}
	}
}

// TestCrashAtEveryWrite kills a client during each of its writes in turn, with
// and without the write on disk: nothing is lost, nothing comes twice, and the
// job goes on.
func TestCrashAtEveryWrite(t *testing.T) {
	t.Parallel()
	lives := map[string]func(*testing.T, *world, friend, string, int, bool) int{"initiator": initiate, "invited": invited, "governor": govern, "owner": own}
	for _, name := range slices.Sorted(maps.Keys(lives)) {
		life := lives[name]
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			bob := friend{w.person(ctx, "bob", "b.example")}
			bob.online(ctx)
			n := life(t, w, bob, name+"-0", 0, false)
			t.Logf("%d writes", n)
			step := 4
			switch {
			case os.Getenv("MMR_CRASH_EVERYWHERE") != "":
				step = 1 // about two minutes
			case testing.Short() || raceEnabled:
				step = 11
			}
			for at := 1; at <= n; at += step {
				for _, persist := range []bool{false, true} {
					t.Run(fmt.Sprintf("%d of %d/persisted %v", at, n, persist), func(t *testing.T) {
						life(t, w, bob, fmt.Sprintf("%s-%d-%v", name, at, persist), at, persist)
					})
				}
			}
		})
	}
}

// invited is a life that is asked, invited by Welcome and by link, and removed.
func invited(t *testing.T, w *world, bob friend, name string, failAt int, persist bool) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	m := w.mortal(t, name, "a.example", failAt, persist)
	m.do("register", never, func(ctx context.Context) error { return m.Sync(ctx) })
	if err := bob.Connect(ctx, m.User(), "hub.example"); err != nil {
		t.Fatal(err)
	}
	connected := func() bool { return slices.Contains(m.Connections(), bob.User()) }
	m.do("accept", never, func(ctx context.Context) error {
		rs, err := m.Requests(ctx)
		if err != nil || len(rs) == 0 && connected() {
			return err
		}
		if len(rs) != 1 {
			t.Fatalf("%d requests", len(rs))
		}
		return m.Accept(ctx, rs[0].ID)
	})
	if !connected() {
		t.Fatal("accepted and not connected")
	}
	bob.waitFor("connection", func(e client.Event) bool { return e.Kind == client.KindConnected && e.User == m.User() })
	room, err := bob.CreateRoom(ctx, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.Add(ctx, room, m.User()); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := bob.Send(ctx, room, fmt.Appendf(nil, "%s gets %d", name, i)); err != nil {
			t.Fatal(err)
		}
	}
	m.until("the second message", func(e client.Event) bool { return string(e.Data) == name+" gets 1" })
	if diff := cmp.Diff([]string{name + " gets 0", name + " gets 1"}, texts(m.events, room)); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
	m.do("send", never, func(ctx context.Context) error { return m.Send(ctx, room, []byte(name+" thanks")) })
	bob.waitFor("thanks", func(e client.Event) bool { return string(e.Data) == name+" thanks" })

	other, err := bob.CreateRoom(ctx, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	link, err := bob.CreateLink(ctx, other, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m.do("join", func() bool { _, err := m.Room(other); return err == nil }, func(ctx context.Context) error { _, err := m.Join(ctx, link); return err })
	bob.waitFor("newcomer", func(e client.Event) bool {
		return e.Kind == client.KindMembers && e.Room == other && slices.Contains(e.Added, m.User())
	})
	if err := bob.Send(ctx, other, []byte("welcome "+name)); err != nil {
		t.Fatal(err)
	}
	m.until("welcome", func(e client.Event) bool { return string(e.Data) == "welcome "+name })
	check(t, m, bob, other, nil, nil)
	if err := bob.Remove(ctx, room, m.User()); err != nil {
		t.Fatal(err)
	}
	m.until("removal", func(e client.Event) bool { return e.Kind == client.KindRemoved && e.Room == room })
	if _, err := m.Room(room); err == nil {
		t.Error("the room is still there")
	}
	if d := twice(texts(m.events, room)); len(d) > 0 {
		t.Errorf("twice: %q", d)
	}
	return m.store.writes
}
