package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/test/bufconn"

	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/internal/redact"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/client"
)

// bubble is a hub and two relays over in-memory connections in one synctest
// bubble: real TLS, real gRPC, virtual time. A day passes at once.
type bubble struct {
	t     *testing.T
	dir   string
	trust *client.Trust
	shape []func(*relay.Config)
	url   string                              // of stores; each kind of each service gets its own
	data  map[string]map[string]*store.Stores // domain -> kind; they outlive the services
	start map[string]func() error
	stop  map[string]func() // of services that run

	mu        sync.Mutex // guards listeners
	listeners map[string]*bufconn.Listener
}

// dial connects to a name: "hub.example", "a.example" (peers), "a.example/clients".
func (b *bubble) dial(ctx context.Context, name string) (net.Conn, error) {
	b.mu.Lock()
	l := b.listeners[name]
	b.mu.Unlock()
	return l.DialContext(ctx)
}

// listen makes the listener of a name anew. Who dials it before somebody serves
// there waits: time cannot pass while a client holds its lock for a connection.
func (b *bubble) listen(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners[name] = bufconn.Listen(1 << 20)
}

func newBubble(t *testing.T, shape ...func(*relay.Config)) *bubble {
	t.Helper()
	return newBubbleOn(t, "memory:", shape...)
}

// newBubbleOn is newBubble with stores of a kind.
func newBubbleOn(t *testing.T, url string, shape ...func(*relay.Config)) *bubble {
	t.Helper()
	b := &bubble{
		t: t, dir: t.TempDir(), url: url, shape: shape, data: make(map[string]map[string]*store.Stores),
		start: make(map[string]func() error), stop: make(map[string]func()), listeners: make(map[string]*bufconn.Listener),
	}
	roles := []struct {
		domain string
		role   keys.Role
		peer   peer.Role
	}{{"hub.example", keys.Hub, peer.Hub}, {"a.example", keys.Provider, peer.Provider}, {"b.example", keys.Provider, peer.Provider}}
	var dirs []string
	var peers []peer.Peer
	for _, r := range roles {
		dirs = append(dirs, filepath.Join(b.dir, r.domain))
		if err := keys.Generate(dirs[len(dirs)-1], r.role, r.domain, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		b.listen(r.domain)
		b.listen(r.domain + "/clients")
		peers = append(peers, peer.Peer{Name: peer.Name{Role: r.peer, Domain: r.domain}, Addr: r.domain})
	}
	trust := filepath.Join(b.dir, "trust")
	if err := keys.MakeTrust(trust, dirs); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.trust, err = client.LoadTrust(trust); err != nil {
		t.Fatal(err)
	}
	for _, r := range roles {
		var others []peer.Peer
		for _, p := range peers {
			if p.Domain != r.domain {
				others = append(others, p)
			}
		}
		if err := b.openStores(r.domain); err != nil {
			t.Fatal(err)
		}
		b.start[r.domain] = func() error { return b.run(r.domain, r.role, others, filepath.Join(trust, "operators.pem")) }
		if err := b.start[r.domain](); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// openStores opens the stores of a service.
func (b *bubble) openStores(domain string) error {
	kinds := []string{"accounts", "packages", "queues"}
	if domain == "hub.example" {
		kinds = []string{"hub"}
	}
	url := b.url
	if url == "pebble:" {
		url += filepath.Join(b.dir, "data", domain)
	}
	b.data[domain] = make(map[string]*store.Stores)
	for _, kind := range kinds {
		var err error
		if b.data[domain][kind], err = store.Open(context.Background(), url, kind); err != nil {
			return err
		}
	}
	return nil
}

func (b *bubble) closeStores(domain string) error {
	var errs []error
	for _, s := range b.data[domain] {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (b *bubble) run(domain string, role keys.Role, peers []peer.Peer, roots string) error {
	dir := filepath.Join(b.dir, domain)
	ks, err := keys.Load(dir, role, domain)
	if err != nil {
		return err
	}
	cert, err := grpcserver.LoadCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return err
	}
	pool, err := keys.Pool(roots)
	if err != nil {
		return err
	}
	set, err := peer.New(cert, pool, peers, peer.WithDialer(b.dial))
	if err != nil {
		return err
	}
	log := redact.NewLogger(testWriter{b.t, domain}, 0)
	reg := prometheus.NewRegistry()
	group := &grpcserver.Group{Logger: log, Grace: time.Second}
	srv := grpcserver.New(grpcserver.Config{TLS: cert.ServerTLS(pool, true), Logger: log, MaxMessage: 4 << 20, Registerer: prometheus.WrapRegistererWithPrefix("peer_", reg)})
	group.Add(srv, b.listeners[domain])
	var closing func()
	data := b.data[domain]
	if role == keys.Hub {
		h, err := hub.New(hub.Config{
			Domain: domain, Keys: ks, Peers: set, Store: data["hub"].KV, Outbox: data["hub"].Queue, Logger: log, Registerer: reg, IdleMonths: 13,
		})
		if err != nil {
			return err
		}
		h.Register(srv)
		closing = h.Close
	} else {
		cfg := relay.Config{
			Domain: domain, Keys: ks, Peers: set, Queues: data["queues"].Queue, Mailboxes: data["queues"].KV, Packages: data["packages"].KV, Accounts: data["accounts"].KV,
			Logger: log, Registerer: reg, Registration: relay.Registration{Open: true},
		}
		for _, f := range b.shape {
			f(&cfg)
		}
		r, err := relay.New(cfg)
		if err != nil {
			return err
		}
		r.RegisterPeers(srv)
		cs := grpcserver.New(grpcserver.Config{TLS: cert.ServerTLS(ks.ClientCAs(), false), Logger: log, Registerer: prometheus.WrapRegistererWithPrefix("client_", reg)})
		r.RegisterClients(cs)
		group.Add(cs, b.listeners[domain+"/clients"])
		group.Stopping, closing = r.Stop, r.Close
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- group.Run(ctx) }()
	b.stop[domain] = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
		closing()
		set.Close()
		delete(b.stop, domain)
		b.listen(domain) // for its successor
		b.listen(domain + "/clients")
	}
	return nil
}

func (b *bubble) close() {
	for _, f := range maps.Clone(b.stop) {
		f()
	}
	for domain := range b.data {
		if err := b.closeStores(domain); err != nil {
			b.t.Error(err)
		}
	}
	synctest.Wait()
}

// bubbleClient registers a client and collects the messages it reads.
type bubbleClient struct {
	*client.Client
	store  client.Store
	mu     sync.Mutex // guards events
	events []client.Event
	stop   func()
}

func (b *bubble) client(ctx context.Context, name, domain string) *bubbleClient {
	b.t.Helper()
	partner, store := partnerOf(domain), client.NewMemoryStore()
	c, err := client.Register(ctx, store, client.Account{
		User: name, Device: name + "-phone", Domain: domain, Relay: domain + "/clients", PartnerDomain: partner, Partner: partner + "/clients",
	}, b.trust, client.WithDialer(b.dial))
	if err != nil {
		b.t.Fatalf("registering %s: %v", name, err)
	}
	return &bubbleClient{Client: c, store: store}
}

func (c *bubbleClient) online(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Listen(ctx, func(e client.Event) error { // ends with its context
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, e)
			return nil
		})
	}()
	c.stop = func() { cancel(); <-done }
}

func (c *bubbleClient) messages() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if e.Kind == client.KindMessage {
			out = append(out, string(e.Data))
		}
	}
	return out
}

// TestVirtualWeek talks for a week of virtual time: messages wait for days, the
// mailbox keeps them, keys rotate on schedule, and nothing is lost.
func TestVirtualWeek(t *testing.T) {
	if raceEnabled {
		t.Skip("synctest bubbles of this size crash the race detector's runtime; make test runs this without it")
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		ctx := context.Background()
		alice, bob := b.client(ctx, "alice", "a.example"), b.client(ctx, "bob", "b.example")
		alice.online(ctx)
		if err := alice.Connect(ctx, bob.User(), "hub.example"); err != nil {
			t.Fatal(err)
		}
		rs, err := bob.Requests(ctx)
		if err != nil || len(rs) != 1 {
			t.Fatalf("bob has %d requests, %v", len(rs), err)
		}
		if err := bob.Accept(ctx, rs[0].ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		room, err := alice.CreateRoom(ctx, "hub.example")
		if err != nil {
			t.Fatal(err)
		}
		if err := alice.Add(ctx, room, bob.User()); err != nil {
			t.Fatal(err)
		}
		var want []string
		for day := range 6 { // a gateway key lives seven days, and nobody rotates it here
			m := fmt.Sprintf("day %d", day)
			want = append(want, m)
			if err := alice.Send(ctx, room, []byte(m)); err != nil {
				t.Fatalf("on %s: %v", m, err)
			}
			time.Sleep(24 * time.Hour)
		}
		bob.online(ctx)
		time.Sleep(time.Minute)
		if got := bob.messages(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("bob read %q after a week, want %q", got, want)
		}
		alice.stop()
		bob.stop()
		for _, c := range []*bubbleClient{alice, bob} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		b.close()
	})
}
