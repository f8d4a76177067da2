package ledger_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/client"
)

// link finds the link between two services.
func (d *deployment) link(from, to string) *link {
	d.tb.Helper()
	for _, l := range d.peers {
		if l.name == from+" to "+to {
			return l
		}
	}
	d.tb.Fatal("no such link")
	return nil
}

func (d *deployment) unpin() {
	for _, l := range d.links() {
		l.unpin()
	}
}

// pair is two people in one room: p at a provider, q, the guest, at the other.
type pair struct {
	*party
	p, q *person
	room *room
}

// says sends a message of x and waits until y has it.
func (w *pair) says(ctx context.Context, t *testing.T, x, y *person) {
	t.Helper()
	if err := x.send(ctx, w.room); err != nil {
		t.Fatalf("sending: %v", err)
	}
	m := text(w.room.name, x.name, x.next[w.room.name])
	wait(ctx, t, m, y.arrival("message "+m))
}

// TestProcesses: what several processes on one Redis share, and how they take over
// from each other.
func TestProcesses(t *testing.T) {
	t.Parallel() // it waits most of the time
	if testing.Short() {
		t.Skip("starts six daemons")
	}
	r := redistest.Start(t, redistest.Options{})
	db := map[string]int{hubDomain: 0, aDomain: 1, bDomain: 2}
	url := func(domain string) string { return fmt.Sprintf("%s?db=%d", r.URL(), db[domain]) }
	d := deploy(t, 2, url)
	w := &pair{party: newParty(t, d, 4, 1)}
	w.room = w.rooms[0]
	w.p, w.q = w.room.host, w.room.guest
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	if err := w.room.swap(ctx); err != nil {
		t.Fatal(err)
	}
	wait(ctx, t, "the guest's coming", w.q.arrival("joined "+w.room.uri))
	w.says(ctx, t, w.p, w.q)

	t.Run("CommitsRace", w.commitsRace)
	t.Run("Wakes", w.wakes)
	t.Run("OneListener", w.oneListener)
	t.Run("Drain", w.drain)
	t.Run("Mailboxes", w.mailboxes)
	t.Run("Forgotten", w.forgotten)
	t.Run("Lease", func(t *testing.T) { w.lease(t, url(hubDomain)) })

	settle, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	v, differ := w.book.judge(), w.agree()
	for settle.Err() == nil && len(v.lost)+len(differ) > 0 {
		sleep(settle, 50*time.Millisecond)
		v, differ = w.book.judge(), w.agree()
	}
	for _, list := range [][]string{v.lost, v.duplicated, v.disorder, v.other, differ} {
		for _, s := range list {
			t.Error(s)
		}
	}
}

// commitsRace: two members commit at once, again and again, each through a hub of
// its own. One wins each epoch and the other comes after it: no commit is lost and
// no epoch is two.
func (w *pair) commitsRace(t *testing.T) {
	w.d.link(aDomain, hubDomain).pin(0)
	w.d.link(bDomain, hubDomain).pin(1)
	defer w.d.unpin()
	before, err := w.p.Room(w.room.uri)
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 8
	for range rounds {
		var wg sync.WaitGroup
		for _, x := range []*person{w.p, w.q} {
			wg.Go(func() {
				if err := x.Refresh(t.Context(), w.room.uri); err != nil {
					t.Errorf("%s commits: %v", x.name, err)
				}
			})
		}
		wg.Wait()
	}
	w.says(t.Context(), t, w.p, w.q) // everybody is in step
	w.says(t.Context(), t, w.q, w.p)
	for _, x := range []*person{w.p, w.q} {
		after, err := x.Room(w.room.uri)
		if err != nil {
			t.Fatal(err)
		}
		if after.Epoch != before.Epoch+2*rounds {
			t.Errorf("%s is in epoch %d after %d commits from %d", x.name, after.Epoch, 2*rounds, before.Epoch)
		}
	}
}

// wakes: an append through one replica wakes the listener at the other. Without
// it each step would wait for the next poll, 25 s at most: the whole would take
// longer than the test may.
func (w *pair) wakes(t *testing.T) {
	w.d.link(hubDomain, aDomain).pin(0)
	w.d.clients[aDomain].pin(1)
	w.d.link(hubDomain, bDomain).pin(1)
	w.d.clients[bDomain].pin(0)
	defer w.d.unpin()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for range 30 {
		w.says(ctx, t, w.p, w.q)
		w.says(ctx, t, w.q, w.p)
	}
}

// oneListener: a mailbox has one listener over all replicas, the newest.
func (w *pair) oneListener(t *testing.T) {
	at := func(i int) client.Option { // relay i of provider a
		file := w.d.clients[aDomain].backends[i]
		return client.WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			if addr == w.d.clients[aDomain].addr() {
				own, err := os.ReadFile(file)
				if err != nil {
					return nil, err
				}
				addr = string(own)
			}
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		})
	}
	state := client.NewMemoryStore()
	older, err := client.Register(t.Context(), state, client.Account{
		User: "zoe", Device: "phone", Domain: aDomain, Relay: w.d.clients[aDomain].addr(), Code: "let-me-in",
		PartnerDomain: bDomain, Partner: w.d.clients[bDomain].addr(),
	}, w.d.trust, at(0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = older.Close() }()
	if err := older.Sync(t.Context()); err != nil { // it can be reached
		t.Fatal(err)
	}
	copied, err := state.Load()
	if err != nil {
		t.Fatal(err)
	}
	again := client.NewMemoryStore()
	if err := again.Write(copied); err != nil {
		t.Fatal(err)
	}
	newer, err := client.Open(again, w.d.trust, at(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = newer.Close() }()
	ignore := func(client.Event) error { return nil }
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first, second := make(chan error, 1), make(chan error, 1)
	relay := w.d.relays[0]
	others := relay.metric(t, "mmr_relay_listeners")
	go func() { first <- older.Listen(ctx, ignore) }()
	relay.listens(ctx, t, others+1)
	go func() { second <- newer.Listen(ctx, ignore) }()
	if err := <-first; !errors.Is(err, client.ErrReplaced) {
		t.Errorf("the older listener ended with %v", err)
	}
	select {
	case err := <-second:
		t.Errorf("the newer listener ended with %v", err)
	default:
	}
	cancel()
	<-second
}

// listens waits until a relay has a number of listeners.
func (p *process) listens(ctx context.Context, t *testing.T, n float64) {
	t.Helper()
	for p.metric(t, "mmr_relay_listeners") < n {
		if sleep(ctx, 20*time.Millisecond); ctx.Err() != nil {
			t.Fatal("nobody listens")
		}
	}
}

// metric reads one of the daemon's metrics.
func (p *process) metric(t *testing.T, name string) float64 {
	t.Helper()
	addr, err := os.ReadFile(p.file("admin"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get("http://" + string(addr) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindSubmatch(text)
	if m == nil {
		return 0
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// drain: everything is restarted by SIGTERM, one process after the other, while
// clients call without a pause. A call that fails works when it is repeated once,
// and nobody who only sends notices anything.
func (w *pair) drain(t *testing.T) {
	conn, err := grpc.NewClient(w.d.clients[aDomain].addr(), grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(w.d.trust.Operators, aDomain)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	calls, repeated := 0, 0
	wg.Go(func() {
		ask := func() error {
			_, err := relayv1.NewForwardServiceClient(conn).GetPublishedKeys(t.Context(), &relayv1.GetPublishedKeysRequest{TargetDomain: hubDomain, Role: relayv1.Role_ROLE_HUB})
			return err
		}
		for ; ctx.Err() == nil; calls++ {
			if ask() == nil {
				continue
			}
			repeated++
			if err := ask(); err != nil {
				t.Errorf("a call failed twice: %v", err)
			}
		}
	})
	sent := 0
	wg.Go(func() {
		for ; ctx.Err() == nil; sent++ {
			if err := w.p.send(t.Context(), w.room); err != nil {
				t.Errorf("sending: %v", err)
			}
		}
	})
	for _, p := range w.d.processes() {
		if p.end(syscall.SIGTERM) {
			t.Errorf("%s does not stop", p.name)
		}
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		if err := p.ready(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	t.Logf("%d calls, %d of them repeated; %d messages", calls, repeated, sent)
}

// forgotten: the connection of a listener is lost without a word. It notices by
// itself, within 40 s.
func (w *pair) forgotten(t *testing.T) {
	wanted(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w.d.clients[bDomain].forget()
	w.says(ctx, t, w.p, w.q)
}

// lease: one hub at a time delivers to a provider; another takes over from one that
// was killed, with the next fencing number.
func (w *pair) lease(t *testing.T, url string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	st, err := store.Open(ctx, url, "hub")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	fences := func() map[string]uint64 {
		out := make(map[string]uint64)
		for p, err := range st.KV.Scan(ctx, "lease", "o") {
			if err != nil {
				t.Fatal(err)
			}
			out[p.Key.Name] = binary.BigEndian.Uint64(p.Value)
		}
		return out
	}
	sent := func() (n [2]float64) {
		for i, h := range w.d.hubs {
			n[i] = h.metric(t, `mmr_hub_deliveries_total{status="ok"}`)
		}
		return n
	}
	w.says(ctx, t, w.q, w.p) // whoever delivers has the lease by now
	before, was := fences(), sent()
	if len(before) != 2 {
		t.Fatalf("%d dispatchers have a lease, want 2", len(before))
	}
	// The guest's messages go to the members at provider a alone.
	const n = 10
	for range n {
		w.says(ctx, t, w.q, w.p)
	}
	others := float64(len(w.room.members))
	var now [2]float64
	for now = sent(); now[0]+now[1]-was[0]-was[1] < n*others && ctx.Err() == nil; now = sent() {
		sleep(ctx, 10*time.Millisecond)
	}
	holder := 0
	if now[1]-was[1] > now[0]-was[0] {
		holder = 1
	}
	if one, other := now[holder]-was[holder], now[1-holder]-was[1-holder]; one != n*others || other != 0 {
		t.Errorf("of %v envelopes one hub delivered %v and the other %v", n*others, one, other)
	}
	if f := fences(); !maps.Equal(f, before) {
		t.Error("fencing numbers changed without a change of holder")
	}
	w.d.hubs[holder].end(syscall.SIGKILL)
	w.says(ctx, t, w.q, w.p)
	risen := 0
	for name, f := range fences() {
		if f > before[name] {
			risen++
		}
	}
	if risen == 0 {
		t.Error("another hub delivers under the fencing number of the one that was killed")
	}
	if err := w.d.hubs[holder].start(); err != nil {
		t.Fatal(err)
	}
}
