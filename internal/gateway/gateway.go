// Package gateway opens encapsulated requests and answers them: the common
// front of hubs and providers (SPEC.md ). It checks, in this
// order, outer size, replay, decapsulation, padding and syntax, audience,
// timestamp, and the token where a method needs one; then the method's handler
// sees the request. It learns the forwarding relay's domain at most, and no
// client address.
package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Keys is what a gateway needs of a key set.
type Keys interface {
	// GatewayKey returns the private key of an id that may still be used at now.
	GatewayKey(id uint8, now time.Time) (seal.GatewayKey, bool)
	// Published returns what the service publishes, without accepted token keys.
	Published(now time.Time) (*typesv1.PublishedKeys, error)
}

// Redeemer spends tokens (package redeem).
type Redeemer interface {
	Redeem(ctx context.Context, audience string, token, requestID []byte) (issuer string, err error)
	AcceptedKeyIDs(ctx context.Context) [][]byte
}

// Call is a request that passed the gateway.
type Call struct {
	*seal.Request
	// Issuer is the domain of the token's issuer, empty if there was no token.
	Issuer string
	// Now is the gateway's clock when the request came in.
	Now time.Time
}

// Handler serves one method: it returns the response body, or an error with an
// mmrerr.Code. Any other error is answered mmr/unavailable and logged by class.
type Handler func(context.Context, *Call) ([]byte, error)

// Middleware wraps the handlers of a gateway: it sees what they see.
type Middleware func(method string, next Handler) Handler

// Method is how a gateway serves one method.
type Method struct {
	// Token says that a token is required and spent before Handle runs (SPEC.md R-85).
	Token bool
	// TokenFor, if not nil, decides by the request whether a token is required.
	TokenFor func(*seal.Request) bool
	// Handle serves it.
	Handle Handler
}

// Config describes a gateway.
type Config struct {
	// Audience is "hub:{domain}" or "provider:{domain}".
	Audience string
	Keys     Keys
	// Replay remembers requests; it is shared by all replicas of the gateway.
	Replay kv.Store
	// ForgetsSince is when a Replay that does not outlive its process began, zero if
	// it does outlive it: older requests are refused, as they may have been seen
	// before (SPEC.md R-65).
	ForgetsSince time.Time
	Redeemer     Redeemer
	Methods      map[string]Method
	// Middleware, if not nil, wraps every method's handler.
	Middleware Middleware
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Gateway implements mmr.gateway.v1.GatewayService.
type Gateway struct {
	gatewayv1.UnimplementedGatewayServiceServer
	cfg      Config
	requests *prometheus.CounterVec
}

// New builds a gateway.
func New(cfg Config) *Gateway {
	g := &Gateway{cfg: cfg, requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_requests_total", Help: "Encapsulated requests by method and mmr code.",
	}, []string{"method", "code"})}
	cfg.Registerer.MustRegister(g.requests)
	if cfg.Middleware != nil {
		g.cfg.Methods = make(map[string]Method, len(cfg.Methods))
		for name, m := range cfg.Methods {
			m.Handle = cfg.Middleware(name, m.Handle)
			g.cfg.Methods[name] = m
		}
	}
	return g
}

// Call implements the service. Until decapsulation has worked, refusals are
// gRPC statuses; from then on everything is inside the response (SPEC.md R-69).
func (g *Gateway) Call(ctx context.Context, in *gatewayv1.CallRequest) (*gatewayv1.CallResponse, error) {
	enc, err := seal.ParseEncapsulated(in.GetEncapsulated())
	if err != nil {
		return nil, err
	}
	now := time.Now()
	replay := enc.ReplayKey()
	if seen, err := g.seen(ctx, replay); err != nil {
		return nil, mmrerr.Unavailable // fail closed (SPEC.md R-65)
	} else if seen {
		return nil, mmrerr.Replay
	}
	key, ok := g.cfg.Keys.GatewayKey(enc.KeyID(), now)
	if !ok {
		return nil, mmrerr.Malformed
	}
	pt, answer, err := enc.Open(key)
	if answer == nil {
		return nil, mmrerr.Malformed
	}
	method := "unknown"
	var res seal.Response
	if err == nil {
		method, res.Body, err = g.serve(ctx, pt, replay, now)
	}
	if err != nil {
		res.Code, res.Detail, res.Body = g.codeOf(err, method), mmrerr.Detail(err), nil
	}
	g.requests.WithLabelValues(method, res.Code.String()).Inc()
	b, err := res.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if b, err = answer.Seal(b); err != nil {
		return nil, err
	}
	return &gatewayv1.CallResponse{Encapsulated: b}, nil
}

// serve checks what is inside and runs the method. It returns the method's name
// for the metrics, "unknown" if there is no such method.
func (g *Gateway) serve(ctx context.Context, pt []byte, replay [16]byte, now time.Time) (method string, body []byte, err error) {
	method = "unknown"
	req, err := seal.ParseRequest(pt)
	if err != nil {
		return method, nil, err
	}
	m, ok := g.cfg.Methods[req.Method]
	if ok {
		method = req.Method
	}
	if req.Audience != g.cfg.Audience {
		return method, nil, mmrerr.Audience
	}
	// A timestamp is the beginning of its 30 seconds, and so is the bound.
	forgotten := !g.cfg.ForgetsSince.IsZero() && req.Timestamp < seal.Timestamp(g.cfg.ForgetsSince)
	if forgotten || !seal.Fresh(req.Timestamp, now) {
		return method, nil, mmrerr.New(mmrerr.Stale, staleDetail(now))
	}
	if first, err := g.remember(ctx, replay); err != nil {
		return method, nil, mmrerr.Unavailable
	} else if !first {
		return method, nil, mmrerr.Replay
	}
	if !ok {
		return method, nil, mmrerr.Malformed
	}
	call := &Call{Request: req, Now: now}
	if m.Token || (m.TokenFor != nil && m.TokenFor(req)) {
		if len(req.Token) == 0 {
			return method, nil, mmrerr.TokenRequired
		}
		if call.Issuer, err = g.cfg.Redeemer.Redeem(ctx, g.cfg.Audience, req.Token, req.RequestID[:]); err != nil {
			return method, nil, err
		}
	} else if len(req.Token) != 0 {
		return method, nil, mmrerr.Malformed // a token that nobody asked for is not spent
	}
	body, err = m.Handle(ctx, call)
	return method, body, err
}

// staleDetail is the gateway's time, so that a client can correct its clock (SPEC.md R-65).
func staleDetail(now time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, seal.Timestamp(now))
}

func (g *Gateway) codeOf(err error, method string) mmrerr.Code {
	if c, ok := mmrerr.Of(err); ok {
		return c
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		g.cfg.Logger.Error("request not served", "method", method, "err_class", "internal")
	}
	return mmrerr.Unavailable
}

func replayRecord(k [16]byte) kv.Key {
	return kv.Key{Group: "r" + string(k[:1]), Name: string(k[:])}
}

func (g *Gateway) seen(ctx context.Context, k [16]byte) (bool, error) {
	_, err := g.cfg.Replay.Get(ctx, replayRecord(k))
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (g *Gateway) remember(ctx context.Context, k [16]byte) (first bool, err error) {
	first, _, err = kv.Once(ctx, g.cfg.Replay, replayRecord(k), []byte{1}, seal.ReplayMemory*time.Second)
	return first, err
}

// GetPublishedKeys implements the service.
func (g *Gateway) GetPublishedKeys(ctx context.Context, req *gatewayv1.GetPublishedKeysRequest) (*gatewayv1.GetPublishedKeysResponse, error) {
	if req.GetWithoutAccepted() {
		keys, err := g.cfg.Keys.Published(time.Now())
		return &gatewayv1.GetPublishedKeysResponse{Keys: keys}, err
	}
	keys, err := g.Published(ctx)
	if err != nil {
		return nil, err
	}
	return &gatewayv1.GetPublishedKeysResponse{Keys: keys}, nil
}

// Published returns what the service publishes.
func (g *Gateway) Published(ctx context.Context) (*typesv1.PublishedKeys, error) {
	keys, err := g.cfg.Keys.Published(time.Now())
	if err != nil {
		return nil, err
	}
	keys.AcceptedTokenKeyIds = g.cfg.Redeemer.AcceptedKeyIDs(ctx)
	return keys, nil
}
