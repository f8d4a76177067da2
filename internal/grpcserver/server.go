// Package grpcserver builds the gRPC servers of both daemons: TLS 1.3 with
// certificates re-read on change, limits on sizes, streams and times, health,
// metrics, recovery, one error mapping, an admin listener and a graceful stop.
//
// It holds the rules about what may be observed: nothing here logs or counts a
// peer, an identifier, a size, or metadata.
package grpcserver

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// Config describes one listener's server.
type Config struct {
	// TLS is the server configuration; MinVersion is forced to TLS 1.3.
	TLS *tls.Config
	// Logger receives one debug line per call and every internal error's class.
	Logger *slog.Logger
	// Registerer receives the server's metrics. Two servers of one process need
	// registerers with different prefixes.
	Registerer prometheus.Registerer
	// MaxMessage is the largest message received, in bytes. 0 means 2 MiB: the
	// largest bucket (1 MiB) and room for a batch's framing.
	MaxMessage int
	// MaxStreams is the number of concurrent calls per connection. 0 means 256.
	MaxStreams uint32
	// MaxConnections is the number of connections at once; further ones are closed
	// as they come. 0 means 20,000.
	MaxConnections int
	// MaxCalls is the number of unary calls under way at once; further ones are
	// answered mmr/rate-limited with a time to wait, before they cost anything. 0
	// means 4096.
	MaxCalls int
	// MaxStreamCalls is the number of streaming calls under way at once, answered in
	// the same way beyond it. 0 means as many as there can be connections.
	MaxStreamCalls int
	// HandshakeTimeout is how long TLS and HTTP/2 may take to begin. 0 means 10 s.
	HandshakeTimeout time.Duration
	// MaxConnectionIdle ends connections without a call. 0 means 15 min.
	MaxConnectionIdle time.Duration
	// CallTimeout ends every unary call. 0 means 30 s.
	CallTimeout time.Duration
	// MaxConnectionAge spreads connections over replicas and re-reads certificates
	// in the course of time; streams get a minute to end. 0 means 6 h.
	MaxConnectionAge time.Duration
	// SmallBuffers saves about 30 KiB per connection where thousands of idle
	// listeners are expected (PERF.md, design hint 3).
	SmallBuffers bool
	// Options are appended to the builder's own.
	Options []grpc.ServerOption
}

// Server is a gRPC server with its health service.
type Server struct {
	*grpc.Server
	health  *health.Server
	limit   int
	refused prometheus.Counter
}

// New builds a server. Services are registered on it before Serve.
func New(cfg Config) *Server {
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = 2 << 20
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 256
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 20_000
	}
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = 4096
	}
	if cfg.MaxStreamCalls == 0 {
		cfg.MaxStreamCalls = cfg.MaxConnections
	}
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = 10 * time.Second
	}
	if cfg.MaxConnectionIdle == 0 {
		cfg.MaxConnectionIdle = 15 * time.Minute
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = 30 * time.Second
	}
	if cfg.MaxConnectionAge == 0 {
		cfg.MaxConnectionAge = 6 * time.Hour
	}
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(cfg.MaxMessage),
		grpc.MaxConcurrentStreams(cfg.MaxStreams),
		grpc.MaxHeaderListSize(8 << 10),
		grpc.ConnectionTimeout(cfg.HandshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 2 * time.Minute, Timeout: 20 * time.Second, MaxConnectionIdle: cfg.MaxConnectionIdle,
			MaxConnectionAge: cfg.MaxConnectionAge, MaxConnectionAgeGrace: time.Minute,
		}),
	}
	if cfg.TLS != nil {
		t := cfg.TLS.Clone()
		t.MinVersion = tls.VersionTLS13
		opts = append(opts, grpc.Creds(credentials.NewTLS(t)))
	}
	if cfg.SmallBuffers { // write buffers are shared by all connections anyway
		opts = append(opts, grpc.ReadBufferSize(0), grpc.WriteBufferSize(4096))
	}
	opts = append(opts, newInterceptors(&cfg).options()...)
	opts = append(opts, cfg.Options...)
	s := &Server{Server: grpc.NewServer(opts...), health: health.NewServer(), limit: cfg.MaxConnections, refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "connections_refused_total", Help: "Connections closed because there were too many.",
	})}
	cfg.Registerer.MustRegister(s.refused)
	healthpb.RegisterHealthServer(s.Server, s.health)
	return s
}

// Group runs the servers of one daemon together and stops them together.
type Group struct {
	// Logger receives "serving" and "stopped".
	Logger *slog.Logger
	// Drain is how long the daemon answers NOT_SERVING before it stops accepting. Default 0.
	Drain time.Duration
	// Grace is how long calls under way may take after that. 0 means 10 s.
	Grace time.Duration
	// Stopping, if not nil, is called when the stop begins, before the servers
	// wait for their calls: it ends long-lived streams.
	Stopping func()

	servers   []*Server
	listeners []net.Listener
}

// Add gives the group a server and the listener it serves.
func (g *Group) Add(s *Server, l net.Listener) {
	g.servers = append(g.servers, s)
	g.listeners = append(g.listeners, limit(l, s.limit, s.refused))
}

// Run serves until ctx ends or a server fails, then stops gracefully: health
// NOT_SERVING, Drain, no new calls, Grace, hard stop.
func (g *Group) Run(ctx context.Context) error {
	if g.Grace == 0 {
		g.Grace = 10 * time.Second
	}
	eg, ctx := errgroup.WithContext(ctx)
	for i, s := range g.servers {
		eg.Go(func() error {
			if err := s.Serve(g.listeners[i]); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				return err
			}
			return nil
		})
	}
	g.Logger.Info("serving")
	<-ctx.Done()
	for _, s := range g.servers {
		s.health.Shutdown()
	}
	if g.Drain > 0 {
		time.Sleep(g.Drain)
	}
	if g.Stopping != nil {
		g.Stopping()
	}
	t := time.AfterFunc(g.Grace, func() {
		for _, s := range g.servers {
			s.Stop()
		}
	})
	defer t.Stop()
	for _, s := range g.servers {
		s.GracefulStop()
	}
	err := eg.Wait()
	g.Logger.Info("stopped")
	return err
}

// Listen opens a TCP listener and, if addrFile is not empty, writes the address
// it got there (for port 0), atomically.
func Listen(addr, addrFile string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if addrFile == "" {
		return l, nil
	}
	tmp := addrFile + ".tmp"
	if err := os.WriteFile(tmp, []byte(l.Addr().String()), 0o600); err != nil {
		_ = l.Close() // the write's error is the one to report
		return nil, err
	}
	if err := os.Rename(tmp, addrFile); err != nil {
		_ = l.Close() // as above
		return nil, err
	}
	return l, nil
}
