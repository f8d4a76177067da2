package e2e_test

import (
	"context"
	"fmt"
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
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/internal/redact"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// bubble is a hub and two relays over in-memory connections in one synctest
// bubble: real TLS, real gRPC, virtual time. A day passes at once.
type bubble struct {
	t         *testing.T
	dir       string
	listeners map[string]*bufconn.Listener
	trust     *client.Trust
	stop      []func()
	shape     []func(*relay.Config)
}

// dial connects to a name: "hub.example", "a.example" (peers), "a.example/clients".
func (b *bubble) dial(ctx context.Context, name string) (net.Conn, error) {
	return b.listeners[name].DialContext(ctx)
}

func newBubble(t *testing.T, shape ...func(*relay.Config)) *bubble {
	t.Helper()
	b := &bubble{t: t, dir: t.TempDir(), listeners: make(map[string]*bufconn.Listener), shape: shape}
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
		b.listeners[r.domain] = bufconn.Listen(1 << 20)
		b.listeners[r.domain+"/clients"] = bufconn.Listen(1 << 20)
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
		if err := b.start(r.domain, r.role, others, filepath.Join(trust, "operators.pem")); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bubble) start(domain string, role keys.Role, peers []peer.Peer, roots string) error {
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
	closing := func() {}
	if role == keys.Hub {
		h, err := hub.New(hub.Config{Domain: domain, Keys: ks, Peers: set, Store: kv.NewMemory(), Outbox: queue.NewMemory(), Logger: log, Registerer: reg})
		if err != nil {
			return err
		}
		h.Register(srv)
		closing = h.Close
	} else {
		cfg := relay.Config{
			Domain: domain, Keys: ks, Peers: set, Queues: queue.NewMemory(), Mailboxes: kv.NewMemory(), Packages: kv.NewMemory(), Accounts: kv.NewMemory(),
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
		group.Stopping = r.Stop
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- group.Run(ctx) }()
	b.stop = append(b.stop, func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
		closing()
		set.Close()
	})
	return nil
}

func (b *bubble) close() {
	for _, f := range b.stop {
		f()
	}
	synctest.Wait()
}

// bubbleClient registers a client and collects the messages it reads.
type bubbleClient struct {
	*client.Client
	mu     sync.Mutex // guards events
	events []client.Event
	stop   func()
}

func (b *bubble) client(ctx context.Context, name, domain string) *bubbleClient {
	b.t.Helper()
	partner := partnerOf(domain)
	c, err := client.Register(ctx, client.NewMemoryStore(), client.Account{
		User: name, Device: name + "-phone", Domain: domain, Relay: domain + "/clients", PartnerDomain: partner, Partner: partner + "/clients",
	}, b.trust, client.WithDialer(b.dial))
	if err != nil {
		b.t.Fatalf("registering %s: %v", name, err)
	}
	return &bubbleClient{Client: c}
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
