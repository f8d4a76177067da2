// Package peer holds the outgoing connections of a daemon to the other
// operators' services: hubs and providers it was configured with, over mutual
// TLS. There is no discovery: an operator lists its peers, and what is not
// listed is not reached (SPEC.md R-60).
package peer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
)

// Role is what a peer is to us.
type Role string

// The two roles of a peer; the text is the prefix of an audience (SPEC.md R-63).
const (
	Hub      Role = "hub"
	Provider Role = "provider"
)

// ErrUnknown reports a peer that is not configured.
var ErrUnknown = errors.New("peer: not a configured peer")

// Name identifies a peer.
type Name struct {
	Role   Role
	Domain string
}

// Peer is one configured peer.
type Peer struct {
	Name
	// Addr is the host:port of its peer listener.
	Addr string
}

// Parse reads a --peer flag: role:domain=host:port, e.g. hub:hub.example=10.0.0.1:7443.
func Parse(s string) (Peer, error) {
	name, addr, ok := strings.Cut(s, "=")
	role, domain, ok2 := strings.Cut(name, ":")
	if !ok || !ok2 || addr == "" || domain == "" || domain != strings.ToLower(domain) || (Role(role) != Hub && Role(role) != Provider) {
		return Peer{}, fmt.Errorf("peer %q is not role:domain=host:port with role hub or provider", s)
	}
	return Peer{Name{Role(role), domain}, addr}, nil
}

// Set is the configured peers with one pooled connection to each.
type Set struct {
	cert  *grpcserver.Certificate
	roots *x509.CertPool
	peers map[Name]string
	dial  func(ctx context.Context, addr string) (net.Conn, error) // nil: TCP

	mu    sync.Mutex // guards all below
	conns map[Name]*grpc.ClientConn
	keys  map[Name]cachedKeys
}

type cachedKeys struct {
	keys *typesv1.PublishedKeys
	at   time.Time
}

// keysFor is how long a copy of a peer's published keys is served: every client
// of this relay gets the same copy (SPEC.md R-61).
const keysFor = time.Minute

// Option adjusts a Set.
type Option func(*Set)

// WithDialer makes connections by dial instead of TCP: for networks inside one
// process. TLS runs over them all the same.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) Option {
	return func(s *Set) { s.dial = dial }
}

// New returns the set of peers. cert is presented to them, roots verify theirs;
// each must have its domain as a DNS name.
func New(cert *grpcserver.Certificate, roots *x509.CertPool, peers []Peer, opts ...Option) (*Set, error) {
	s := &Set{cert: cert, roots: roots, peers: make(map[Name]string), conns: make(map[Name]*grpc.ClientConn), keys: make(map[Name]cachedKeys)}
	for _, p := range peers {
		if _, ok := s.peers[p.Name]; ok {
			return nil, fmt.Errorf("peer %s:%s is given twice", p.Role, p.Domain)
		}
		s.peers[p.Name] = p.Addr
	}
	for _, o := range opts {
		o(s)
	}
	return s, nil
}

// Has reports whether a peer is configured.
func (s *Set) Has(n Name) bool { _, ok := s.peers[n]; return ok }

// Domains returns the configured domains of a role, sorted.
func (s *Set) Domains(r Role) []string {
	var ds []string
	for n := range s.peers {
		if n.Role == r {
			ds = append(ds, n.Domain)
		}
	}
	slices.Sort(ds)
	return ds
}

// Conn returns the connection to a peer, made on first use. ErrUnknown if it is
// not configured.
func (s *Set) Conn(n Name) (*grpc.ClientConn, error) {
	addr, ok := s.peers[n]
	if !ok {
		return nil, ErrUnknown
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conns[n]; c != nil {
		return c, nil
	}
	var opts []grpc.DialOption
	if s.dial != nil {
		addr = "passthrough:///" + addr
		opts = append(opts, grpc.WithContextDialer(s.dial))
	}
	c, err := grpc.NewClient(addr, append(opts,
		grpc.WithTransportCredentials(credentials.NewTLS(s.cert.ClientTLS(s.roots, n.Domain))),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: .2, MaxDelay: 10 * time.Second}, MinConnectTimeout: 5 * time.Second}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2<<20)),
		grpc.WithDisableServiceConfig(),
	)...)
	if err != nil {
		return nil, err
	}
	s.conns[n] = c
	return c, nil
}

// PublishedKeys returns what a peer publishes, from the cache if the copy is
// fresh; a stale copy is served for a day while the peer is out of reach.
func (s *Set) PublishedKeys(ctx context.Context, n Name) (*typesv1.PublishedKeys, error) {
	s.mu.Lock()
	c, ok := s.keys[n]
	s.mu.Unlock()
	if ok && time.Since(c.at) < keysFor {
		return c.keys, nil
	}
	conn, err := s.Conn(n)
	if err != nil {
		return nil, err
	}
	res, err := gatewayv1.NewGatewayServiceClient(conn).GetPublishedKeys(ctx, &gatewayv1.GetPublishedKeysRequest{}, grpc.WaitForReady(true))
	if err != nil {
		if ok && time.Since(c.at) < 24*time.Hour {
			return c.keys, nil
		}
		return nil, err
	}
	s.mu.Lock()
	s.keys[n] = cachedKeys{res.GetKeys(), time.Now()}
	s.mu.Unlock()
	return res.GetKeys(), nil
}

// TokenKeys returns the token keys that a provider publishes, not from the cache.
func (s *Set) TokenKeys(ctx context.Context, domain string) ([]*typesv1.TokenKey, error) {
	conn, err := s.Conn(Name{Provider, domain})
	if err != nil {
		return nil, err
	}
	res, err := gatewayv1.NewGatewayServiceClient(conn).GetPublishedKeys(ctx, &gatewayv1.GetPublishedKeysRequest{WithoutAccepted: true}, grpc.WaitForReady(true))
	return res.GetKeys().GetTokenKeys(), err
}

// Forget drops the cached keys of a peer, so that the next reader sees new
// ones: for callers that met a key id the copy does not have. It does nothing
// to a copy younger than 10 seconds, so that strangers cannot cause a storm.
func (s *Set) Forget(n Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.keys[n]; ok && time.Since(c.at) > 10*time.Second {
		delete(s.keys, n)
	}
}

// Close closes all connections.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, c := range s.conns {
		_ = c.Close() // nothing is lost: every call is repeated by its caller
		delete(s.conns, n)
	}
}

// DomainOf returns the domain of the peer that makes the call in ctx: the first
// DNS name of its verified certificate.
func DomainOf(ctx context.Context) (string, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", false
	}
	t, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(t.State.VerifiedChains) == 0 || len(t.State.VerifiedChains[0][0].DNSNames) == 0 {
		return "", false
	}
	return t.State.VerifiedChains[0][0].DNSNames[0], true
}

// Issuers returns the providers whose tokens are accepted: all configured ones.
func (s *Set) Issuers() []string { return s.Domains(Provider) }

// Roots are the roots that peers' certificates chain to.
func (s *Set) Roots() *x509.CertPool { return s.roots }
