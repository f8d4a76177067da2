package relay_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/internal/redact"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(materialRoot) // of the tests, whose results are known
		os.Exit(code)
	}))
}

// materialRoot is where the key directories are, one for each domain.
var materialRoot = func() string {
	dir, err := os.MkdirTemp("", "relaytest")
	if err != nil {
		panic(err)
	}
	return dir
}()

const (
	own      = "a.example"
	partner  = "b.example"
	hubName  = "hub.example"
	operator = "operators.pem"
)

// material makes key directories once: they are slow to make.
var material = sync.OnceValue(func() error {
	dirs := []string{filepath.Join(materialRoot, own), filepath.Join(materialRoot, partner), filepath.Join(materialRoot, hubName)}
	for i, role := range []keys.Role{keys.Provider, keys.Provider, keys.Hub} {
		if err := keys.Generate(dirs[i], role, filepath.Base(dirs[i]), nil, time.Now()); err != nil {
			return err
		}
	}
	return keys.MakeTrust(filepath.Join(materialRoot, "trust"), dirs)
})

// world is a relay with its stores in memory, reached over connections in memory
// with real TLS. The stores outlive the relay.
type world struct {
	t         *testing.T
	queues    *queue.Memory
	mailboxes *kv.Memory
	packages  *kv.Memory
	accounts  *kv.Memory
	keys      *keys.Set
	limits    relay.Limits
	ahead     atomic.Int64 // of the stores' clocks, nanoseconds

	r       *relay.Relay
	clients *bufconn.Listener
	peers   *bufconn.Listener
	stop    func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if err := material(); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	w.queues, w.mailboxes, w.packages, w.accounts = queue.NewMemoryAt(w.now), kv.NewMemoryAt(w.now), kv.NewMemoryAt(w.now), kv.NewMemoryAt(w.now)
	var err error
	if w.keys, err = keys.Load(filepath.Join(materialRoot, own), keys.Provider, own); err != nil {
		t.Fatal(err)
	}
	w.start(noFault().Fault)
	t.Cleanup(func() { w.stop() })
	return w
}

// now is the stores' time, which advance moves; the relay's own is that of the
// machine, so that keys and tokens stay valid.
func (w *world) now() time.Time          { return time.Now().Add(time.Duration(w.ahead.Load())) }
func (w *world) advance(d time.Duration) { w.ahead.Add(int64(d)) }

// restart ends the relay and starts another on the same stores, whose calls ask
// a failpoint.
func (w *world) restart(p *queuetest.Failpoint) {
	w.t.Helper()
	w.stop()
	w.start(p.Fault)
}

func (w *world) start(fault func(op string) (bool, error)) {
	w.t.Helper()
	must := w.must
	cert, err := grpcserver.LoadCertificate(filepath.Join(materialRoot, own, "tls.crt"), filepath.Join(materialRoot, own, "tls.key"))
	must(err)
	roots, err := keys.Pool(filepath.Join(materialRoot, "trust", operator))
	must(err)
	echo := w.echo()
	peers, err := peer.New(cert, roots, []peer.Peer{
		{Name: peer.Name{Role: peer.Hub, Domain: hubName}, Addr: "nowhere"}, {Name: peer.Name{Role: peer.Provider, Domain: partner}, Addr: partner},
	}, peer.WithDialer(func(ctx context.Context, _ string) (net.Conn, error) { return echo.DialContext(ctx) }))
	must(err)
	log := redact.NewLogger(os.Stderr, slog.LevelError+1) // what is refused on purpose is not shown
	reg := prometheus.NewRegistry()
	w.r, err = relay.New(relay.Config{
		Domain: own, Keys: w.keys, Peers: peers, Queues: queuetest.Faulty(w.queues, fault),
		Mailboxes: kvtest.Faulty(w.mailboxes, fault), Packages: kvtest.Faulty(w.packages, fault), Accounts: kvtest.Faulty(w.accounts, fault),
		Logger: log, Registerer: reg, Registration: relay.Registration{Open: true}, DeliverLatency: time.Nanosecond, Limits: w.limits,
	})
	must(err)
	w.clients, w.peers = bufconn.Listen(1<<16), bufconn.Listen(1<<16)
	cs := grpcserver.New(grpcserver.Config{TLS: cert.ServerTLS(w.keys.ClientCAs(), false), Logger: log, Registerer: prometheus.WrapRegistererWithPrefix("client_", reg)})
	w.r.RegisterClients(cs)
	ps := grpcserver.New(grpcserver.Config{TLS: cert.ServerTLS(roots, true), Logger: log, MaxMessage: 4 << 20, Registerer: prometheus.WrapRegistererWithPrefix("peer_", reg)})
	w.r.RegisterPeers(ps)
	var wg sync.WaitGroup
	wg.Go(func() { _ = cs.Serve(w.clients) }) // ends with Stop
	wg.Go(func() { _ = ps.Serve(w.peers) })
	r := w.r
	w.stop = sync.OnceFunc(func() {
		r.Close()
		cs.Stop()
		ps.Stop()
		wg.Wait()
		peers.Close()
	})
}

// partnerGateway answers every forwarded request with an envelope of zeros.
type partnerGateway struct {
	gatewayv1.UnimplementedGatewayServiceServer
}

func (partnerGateway) Call(context.Context, *gatewayv1.CallRequest) (*gatewayv1.CallResponse, error) {
	return &gatewayv1.CallResponse{Encapsulated: make([]byte, 512)}, nil
}

// echo is the partner's peer listener.
func (w *world) echo() *bufconn.Listener {
	w.t.Helper()
	cert, err := grpcserver.LoadCertificate(filepath.Join(materialRoot, partner, "tls.crt"), filepath.Join(materialRoot, partner, "tls.key"))
	w.must(err)
	roots, err := keys.Pool(filepath.Join(materialRoot, "trust", operator))
	w.must(err)
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(cert.ServerTLS(roots, true))))
	gatewayv1.RegisterGatewayServiceServer(s, partnerGateway{})
	l := bufconn.Listen(1 << 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with Stop
	}()
	w.t.Cleanup(func() { s.Stop(); <-done })
	return l
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// dial connects to a listener of the relay, with a certificate or without.
func (w *world) dial(l *bufconn.Listener, cert *tls.Certificate) *grpc.ClientConn {
	w.t.Helper()
	roots, err := keys.Pool(filepath.Join(materialRoot, "trust", operator))
	w.must(err)
	c := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: own}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	conn, err := grpc.NewClient("passthrough:///relay", grpc.WithTransportCredentials(credentials.NewTLS(c)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	w.must(err)
	w.t.Cleanup(func() { _ = conn.Close() }) // nothing is lost with it
	return conn
}

// hub connects to the peer listener as the configured hub.
func (w *world) hub() *grpc.ClientConn {
	w.t.Helper()
	c, err := tls.LoadX509KeyPair(filepath.Join(materialRoot, hubName, "tls.crt"), filepath.Join(materialRoot, hubName, "tls.key"))
	w.must(err)
	return w.dial(w.peers, &c)
}

// records are all live records of a store, by group and name.
func (w *world) records(s kv.Store, group, prefix string) map[string]string {
	w.t.Helper()
	out := make(map[string]string)
	for r, err := range s.Scan(w.t.Context(), group, prefix) {
		w.must(err)
		out[r.Key.Name] = string(r.Value)
	}
	return out
}

// published is the key of the relay that is published for use at the gateway.
func (w *world) gatewayKey() seal.KeyConfig {
	w.t.Helper()
	p, err := w.keys.Published(time.Now())
	w.must(err)
	c, err := seal.ParseKeyConfig(p.GetGatewayKeys()[0].GetConfig())
	w.must(err)
	return c
}

func noFault() *queuetest.Failpoint { return new(queuetest.Failpoint) }
