package e2e_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/internal/redact"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/client"
)

// world is one hub and two providers in this process, on loopback with real
// TLS, with stores that the test can read.
type world struct {
	tb     testing.TB
	dir    string
	trust  *client.Trust
	hub    *service
	relays map[string]*service
	log    *syncBuffer
	shape  []func(*relay.Config)
}

// service is one daemon.
type service struct {
	domain     string
	clientAddr string
	peerAddr   string
	registry   *prometheus.Registry
	stores     map[string]kv.Store
	queues     *recordedQueues
	tap        *tap
	rpcs       map[string]bool // "service/method" of all listeners
	hub        *hub.Hub
	relay      *relay.Relay
}

type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func newWorld(tb testing.TB, shape ...func(*relay.Config)) *world {
	tb.Helper()
	w := &world{tb: tb, relays: make(map[string]*service), log: new(syncBuffer), shape: shape}
	var err error
	if w.dir, err = keyDirs(); err != nil {
		tb.Fatal(err)
	}
	trustDir := filepath.Join(w.dir, "trust")
	if w.trust, err = client.LoadTrust(trustDir); err != nil {
		tb.Fatal(err)
	}
	listeners := map[string]net.Listener{}
	var peers []peer.Peer
	for domain, role := range roles {
		listeners[domain] = listen(tb)
		r := peer.Hub
		if role == keys.Provider {
			r = peer.Provider
		}
		peers = append(peers, peer.Peer{Name: peer.Name{Role: r, Domain: domain}, Addr: listeners[domain].Addr().String()})
	}
	for domain, role := range roles {
		w.start(domain, role, listeners[domain], peers, filepath.Join(trustDir, "operators.pem"))
	}
	return w
}

func (w *world) start(domain string, role keys.Role, lis net.Listener, peers []peer.Peer, roots string) {
	w.tb.Helper()
	must := func(err error) {
		w.tb.Helper()
		if err != nil {
			w.tb.Fatal(err)
		}
	}
	dir := filepath.Join(w.dir, domain)
	ks, err := keys.Load(dir, role, domain)
	must(err)
	cert, err := grpcserver.LoadCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	must(err)
	pool, err := keys.Pool(roots)
	must(err)
	var others []peer.Peer
	for _, p := range peers {
		if p.Domain != domain {
			others = append(others, p)
		}
	}
	set, err := peer.New(cert, pool, others)
	must(err)
	log := redact.NewLogger(w.log, slog.LevelDebug)
	s := &service{domain: domain, registry: prometheus.NewRegistry(), stores: make(map[string]kv.Store), queues: newRecordedQueues(), tap: newTap(), rpcs: make(map[string]bool)}
	group := &grpcserver.Group{Logger: log, Grace: 2 * time.Second}
	srv := grpcserver.New(grpcserver.Config{TLS: cert.ServerTLS(pool, true), Logger: log, MaxMessage: 4 << 20, Registerer: prometheus.WrapRegistererWithPrefix("peer_", s.registry)})
	group.Add(srv, lis)
	s.peerAddr = lis.Addr().String()
	var closing func()
	if role == keys.Hub {
		s.stores["hub"] = kv.NewMemory()
		s.hub, err = hub.New(hub.Config{Domain: domain, Keys: ks, Peers: set, Store: s.stores["hub"], Outbox: s.queues, Logger: log, Registerer: s.registry, Rates: hub.Rates{Requests: 10_000, Commits: 10_000}, Middleware: s.tap.wrap})
		must(err)
		s.hub.Register(srv)
		closing = s.hub.Close
		w.hub = s
	} else {
		for _, n := range []string{"accounts", "packages", "mailboxes"} {
			s.stores[n] = kv.NewMemory()
		}
		cfg := relay.Config{
			Domain: domain, Keys: ks, Peers: set, Queues: s.queues, Mailboxes: s.stores["mailboxes"], Packages: s.stores["packages"], Accounts: s.stores["accounts"],
			Logger: log, Registerer: s.registry, Registration: relay.Registration{Code: "let-me-in"}, Middleware: s.tap.wrap,
			Limits: relay.Limits{TokensPerDay: 1_000_000, ForwardPerMinute: 1_000_000},
		}
		for _, f := range w.shape {
			f(&cfg)
		}
		s.relay, err = relay.New(cfg)
		must(err)
		s.relay.RegisterPeers(srv)
		cl := listen(w.tb)
		s.clientAddr = cl.Addr().String()
		cs := grpcserver.New(grpcserver.Config{TLS: cert.ServerTLS(ks.ClientCAs(), false), Logger: log, Registerer: prometheus.WrapRegistererWithPrefix("client_", s.registry)})
		s.relay.RegisterClients(cs)
		group.Add(cs, cl)
		s.served(cs)
		group.Stopping = s.relay.Stop
		closing = func() {}
		w.relays[domain] = s
	}
	s.served(srv)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- group.Run(ctx) }()
	w.tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.tb.Error(err)
		}
		closing()
		set.Close()
	})
}

// person is a client that listens and collects its events.
type person struct {
	*client.Client
	tb     testing.TB
	name   string
	store  client.Store
	trust  *client.Trust
	mu     sync.Mutex // guards events
	events []client.Event
	cancel context.CancelFunc
	done   chan struct{}
}

func partnerOf(domain string) string {
	if domain == "a.example" {
		return "b.example"
	}
	return "a.example"
}

func (w *world) person(ctx context.Context, name, domain string, opts ...client.Option) *person {
	w.tb.Helper()
	store := client.NewMemoryStore()
	c, err := client.Register(ctx, store, client.Account{
		User: name, Device: name + "-phone", Domain: domain, Relay: w.relays[domain].clientAddr, Code: "let-me-in",
		PartnerDomain: partnerOf(domain), Partner: w.relays[partnerOf(domain)].clientAddr,
	}, w.trust, append([]client.Option{client.WithGapWait(time.Second), client.WithLogger(slog.New(slog.NewTextHandler(testWriter{w.tb, name}, &slog.HandlerOptions{Level: slog.LevelDebug})))}, opts...)...)
	if err != nil {
		w.tb.Fatalf("registering %s: %v", name, err)
	}
	p := &person{Client: c, tb: w.tb, name: name, store: store, trust: w.trust}
	w.tb.Cleanup(func() {
		p.offline()
		_ = p.Close()
	})
	return p
}

type testWriter struct {
	tb   testing.TB
	name string
}

func (t testWriter) Write(b []byte) (int, error) {
	t.tb.Log(t.name + ": " + strings.TrimSpace(string(b)))
	return len(b), nil
}

func (p *person) online(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		_ = p.Listen(ctx, func(e client.Event) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.events = append(p.events, e)
			return nil
		})
	}()
}

func (p *person) offline() {
	if p.cancel != nil {
		p.cancel()
		<-p.done
		p.cancel = nil
	}
}

// waitFor waits until an event matches.
func (p *person) waitFor(what string, match func(client.Event) bool) client.Event {
	p.tb.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		p.mu.Lock()
		for _, e := range p.events {
			if match(e) {
				p.mu.Unlock()
				return e
			}
		}
		p.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tb.Fatalf("%s never saw %s; it saw %+v", p.name, what, p.events)
	return client.Event{}
}

func (p *person) messages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, e := range p.events {
		if e.Kind == client.KindMessage {
			out = append(out, string(e.Data))
		}
	}
	return out
}
