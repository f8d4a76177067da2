package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// service is a hub or provider that a client talks to.
type service struct {
	role   relayv1.Role
	domain string
}

func hubOf(domain string) service      { return service{relayv1.Role_ROLE_HUB, domain} }
func providerOf(domain string) service { return service{relayv1.Role_ROLE_PROVIDER, domain} }

func (s service) audience() string {
	if s.role == relayv1.Role_ROLE_HUB {
		return seal.HubAudience(s.domain)
	}
	return seal.ProviderAudience(s.domain)
}

// transport is how a client reaches the world: its own relay on an account
// session, and anonymous connections to its own relay (mailbox) and to a
// partner relay (own provider, SPEC.md R-68). The three never share a
// connection, because a connection is a link.
type transport struct {
	trust   *Trust
	opts    options
	domain  string
	session *grpc.ClientConn // own relay, account session
	anon    *grpc.ClientConn // own relay, no certificate
	partner *grpc.ClientConn // partner relay, no certificate; nil if there is none

	partnerDomain string

	mu    sync.Mutex // guards all below
	keys  map[service]serviceKeys
	clock time.Duration // correction learned from mmr/stale
}

// serviceKeys is what a service publishes, verified.
type serviceKeys struct {
	config   seal.KeyConfig
	queue    []seal.KeyConfig
	identity primitive.PublicKey
	raw      *typesv1.PublishedKeys
	until    time.Time
}

func dial(addr, domain string, trust *Trust, cert *tls.Certificate, o options) (*grpc.ClientConn, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: trust.Operators, ServerName: domain}
	if cert != nil {
		t.Certificates = []tls.Certificate{*cert}
	}
	var opts []grpc.DialOption
	if o.dial != nil {
		addr = "passthrough:///" + addr
		opts = append(opts, grpc.WithContextDialer(o.dial))
	}
	return grpc.NewClient(addr, append(opts,
		grpc.WithTransportCredentials(credentials.NewTLS(t)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8<<20)),
		grpc.WithUnaryInterceptor(bounded),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcBackoff, MinConnectTimeout: 5 * time.Second}),
		// A connection that was lost without a word, as behind a NAT, must not keep a
		// listener or a call waiting for ever. Idle connections stay silent.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDisableServiceConfig(), grpc.WithUserAgent("mmr"))...)
}

// attemptFor is how long one attempt may take: a service that takes a request
// and never answers must not hold up the rest, which waits for its turn.
const attemptFor = 30 * time.Second

func bounded(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, cancel := context.WithTimeout(ctx, attemptFor)
	defer cancel()
	return invoke(ctx, method, req, reply, cc, opts...)
}

type patienceKey struct{}

// impatient marks what the client does by itself, and will do again: it is not
// repeated for long while a service is out of reach, since everything else waits
// meanwhile.
func impatient(ctx context.Context) context.Context {
	return context.WithValue(ctx, patienceKey{}, true)
}

func (t *transport) patience(ctx context.Context) time.Duration {
	if ctx.Value(patienceKey{}) != nil {
		return min(t.opts.retryFor, time.Second)
	}
	return t.opts.retryFor
}

func (t *transport) close() {
	for _, c := range []*grpc.ClientConn{t.session, t.anon, t.partner} {
		if c != nil {
			_ = c.Close() // nothing is lost: state is on disk before it is sent
		}
	}
}

// published returns a service's keys through the own relay, which serves one
// copy to all its clients; signature, audience and validity are checked here.
func (t *transport) published(ctx context.Context, s service) (serviceKeys, error) {
	t.mu.Lock()
	k, ok := t.keys[s]
	t.mu.Unlock()
	if ok && time.Now().Before(k.until) {
		return k, nil
	}
	res, err := relayv1.NewForwardServiceClient(t.session).GetPublishedKeys(ctx, &relayv1.GetPublishedKeysRequest{TargetDomain: s.domain, Role: s.role})
	if err != nil {
		return serviceKeys{}, fmt.Errorf("fetching keys of a service: %w", err)
	}
	p := res.GetKeys()
	now := time.Now()
	k = serviceKeys{raw: p, until: now.Add(10 * time.Minute)}
	if k.identity, err = pseudonym.VerifyService(p.GetCertificates(), s.domain, t.trust.Operators, now); err != nil {
		return serviceKeys{}, fmt.Errorf("keys of a service: %w", err)
	}
	gw := verifiedConfigs(p.GetGatewayKeys(), k.identity, s.audience(), now)
	if k.config, ok = seal.BestKeyConfig(gw, now); !ok {
		return serviceKeys{}, errors.New("client: a service publishes no valid key")
	}
	if s.role == relayv1.Role_ROLE_PROVIDER {
		k.queue = verifiedConfigs(p.GetQueueKeys(), k.identity, seal.QueueAudience(s.domain), now)
	}
	t.mu.Lock()
	t.keys[s] = k
	t.mu.Unlock()
	return k, nil
}

func verifiedConfigs(in []*typesv1.SignedKeyConfig, by primitive.PublicKey, audience string, now time.Time) []seal.KeyConfig {
	var out []seal.KeyConfig
	for _, s := range in {
		if c, err := seal.VerifyKeyConfig(s.GetConfig(), s.GetSignature(), by, audience, now); err == nil {
			out = append(out, c)
		}
	}
	return out
}

func (t *transport) forget(s service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.keys, s)
}

// path is how a request travels to its service.
type path struct {
	send  func(ctx context.Context, encapsulated, token []byte) ([]byte, error)
	token string // audience of the token that the path itself costs, "" if none
}

// route: to the own provider through the partner relay with a token, else
// directly and anonymously; everything else through the own relay (SPEC.md ).
func (t *transport) route(s service) path {
	forward := func(conn *grpc.ClientConn) func(context.Context, []byte, []byte) ([]byte, error) {
		return func(ctx context.Context, enc, token []byte) ([]byte, error) {
			res, err := relayv1.NewForwardServiceClient(conn).Forward(ctx, &relayv1.ForwardRequest{TargetDomain: s.domain, Role: s.role, Encapsulated: enc, Token: token})
			return res.GetEncapsulated(), err
		}
	}
	switch {
	case s != providerOf(t.domain):
		return path{send: forward(t.session)}
	case t.partner != nil:
		return path{send: forward(t.partner), token: seal.RelayAudience(t.partnerDomain)}
	default:
		return path{send: func(ctx context.Context, enc, _ []byte) ([]byte, error) {
			res, err := gatewayv1.NewGatewayServiceClient(t.anon).Call(ctx, &gatewayv1.CallRequest{Encapsulated: enc})
			return res.GetEncapsulated(), err
		}}
	}
}

// call is one request to a service, repeated until it is answered.
type call struct {
	to      service
	method  string
	groupID []byte
	ear     primitive.Secret // the room's key at rest, if it has one
	body    proto.Message
	token   bool // the method costs a token
	kind    seal.AuthKind
	leaf    uint32
	signer  primitive.Signer
	id      [16]byte // request id; zero: a fresh one
}

// do sends a request and returns the body of the answer. It is repeated with the
// same request id, token and body and a new encapsulation while the service is
// out of reach (SPEC.md R-66). Refusals are *mmrerr.Error.
func (c *Client) do(ctx context.Context, k call, out proto.Message) error {
	if err := c.store.broken(); err != nil {
		return err
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(k.body)
	if err != nil {
		return err
	}
	req := &seal.Request{Audience: k.to.audience(), Method: k.method, RequestID: k.id, GroupID: k.groupID, EARKey: k.ear, Body: body}
	if req.RequestID == [16]byte{} {
		_, _ = rand.Read(req.RequestID[:]) // never fails
	}
	if k.token {
		if req.Token, err = c.takeToken(ctx, k.to.audience()); err != nil {
			return err
		}
	}
	res, err := retry(ctx, c.t.patience(ctx), func() (*seal.Response, error) { return c.attempt(ctx, k, req) })
	if err != nil {
		return err
	}
	return proto.Unmarshal(res.Body, out)
}

// attempt encapsulates and sends a request once.
func (c *Client) attempt(ctx context.Context, k call, req *seal.Request) (*seal.Response, error) {
	keys, err := c.t.published(ctx, k.to)
	if err != nil {
		return nil, err
	}
	c.t.mu.Lock()
	req.Timestamp = seal.Timestamp(time.Now().Add(c.t.clock))
	c.t.mu.Unlock()
	req.Auth = seal.RequestAuth{Kind: seal.AuthNone}
	if k.kind != seal.AuthNone && k.kind != 0 {
		if err := req.Sign(k.kind, k.leaf, k.signer); err != nil {
			return nil, backoff.Permanent(err)
		}
	}
	b, err := req.AppendBinary(nil)
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	enc, opener, err := seal.Encapsulate(keys.config, b)
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	p := c.t.route(k.to)
	var pathToken []byte
	if p.token != "" {
		if pathToken, err = c.takeToken(ctx, p.token); err != nil {
			return nil, err
		}
	}
	raw, err := p.send(ctx, enc, pathToken)
	if err != nil {
		if codeOf(err) == mmrerr.Malformed {
			c.t.forget(k.to) // perhaps its key has been replaced
		}
		return nil, err
	}
	pt, err := opener.Open(raw)
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	res, err := seal.ParseResponse(pt)
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	return res, c.refusal(res)
}

// refusal turns a response's code into an error: one to repeat, or a final one.
func (c *Client) refusal(res *seal.Response) error {
	err := res.Err()
	switch res.Code {
	case mmrerr.OK:
		return nil
	case mmrerr.Unavailable, mmrerr.RateLimited:
		return err
	case mmrerr.Stale:
		if len(res.Detail) == 8 { // the service's clock
			c.t.mu.Lock()
			c.t.clock = time.Until(time.Unix(int64(binary.BigEndian.Uint64(res.Detail)), 0))
			c.t.mu.Unlock()
			return err
		}
	}
	return backoff.Permanent(err)
}
