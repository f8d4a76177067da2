package relay

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// ForwardService implements mmr.relay.v1.ForwardService (SPEC.md R-60). It
// passes bytes on and knows neither what they are nor what comes back.
type ForwardService struct {
	relayv1.UnimplementedForwardServiceServer
	r *Relay
}

var roles = map[relayv1.Role]peer.Role{
	relayv1.Role_ROLE_HUB:      peer.Hub,
	relayv1.Role_ROLE_PROVIDER: peer.Provider,
}

func (s *ForwardService) target(domain string, role relayv1.Role) (peer.Name, error) {
	r, ok := roles[role]
	if !ok {
		return peer.Name{}, &grpcserver.FieldError{Field: "role", Rule: "must be hub or provider"}
	}
	n := peer.Name{Role: r, Domain: domain}
	if r == peer.Provider && domain == s.r.cfg.Domain {
		// Relay and gateway of one request must not be one operator (SPEC.md R-60).
		return peer.Name{}, &grpcserver.FieldError{Field: "target_domain", Rule: "must not be the relay's own provider: use a partner relay"}
	}
	if !s.r.cfg.Peers.Has(n) {
		return peer.Name{}, &grpcserver.FieldError{Field: "target_domain", Rule: "is not a target of this relay"}
	}
	return n, nil
}

// admit authenticates the client: an account session, or a token at a partner
// relay. It does not remember which.
func (s *ForwardService) admit(ctx context.Context, token []byte) error {
	if a, ok := sessionOf(ctx, s.r.cfg.Domain); ok {
		if len(token) != 0 {
			// A token presented on an account session would tie the two together.
			return &grpcserver.FieldError{Field: "token", Rule: "must be empty on an account session"}
		}
		if !s.r.rates.allow(a.user) {
			return mmrerr.RateLimited
		}
		return nil
	}
	if len(token) == 0 {
		return mmrerr.TokenRequired
	}
	_, err := s.r.redeemer.Redeem(ctx, seal.RelayAudience(s.r.cfg.Domain), token, nil)
	return err
}

// Forward implements the service. It never retries: the client does, with a
// new encapsulation (SPEC.md ).
func (s *ForwardService) Forward(ctx context.Context, req *relayv1.ForwardRequest) (*relayv1.ForwardResponse, error) {
	n, err := s.target(req.GetTargetDomain(), req.GetRole())
	if err != nil {
		return nil, err
	}
	if !primitive.IsBucket(len(req.GetEncapsulated())) {
		return nil, mmrerr.PaddingBucket
	}
	if err := s.admit(ctx, req.GetToken()); err != nil {
		s.r.metrics.forwarded.WithLabelValues("refused").Inc()
		return nil, err
	}
	conn, err := s.r.cfg.Peers.Conn(n)
	if err != nil {
		return nil, err
	}
	// The peer set's context is the call's deadline; the client's metadata is not
	// passed on (gRPC does not copy incoming to outgoing metadata).
	res, err := gatewayv1.NewGatewayServiceClient(conn).Call(ctx, &gatewayv1.CallRequest{Encapsulated: req.GetEncapsulated()})
	if err != nil {
		s.r.metrics.forwarded.WithLabelValues("failed").Inc()
		return nil, forwardError(err)
	}
	if !primitive.IsBucket(len(res.GetEncapsulated())) {
		s.r.metrics.forwarded.WithLabelValues("failed").Inc()
		return nil, mmrerr.Unavailable
	}
	s.r.metrics.forwarded.WithLabelValues("ok").Inc()
	return &relayv1.ForwardResponse{Encapsulated: res.GetEncapsulated()}, nil
}

// forwardError keeps what the client can act on: the gateway's mmr code, or
// that it is out of reach. No text of the gateway is passed on.
func forwardError(err error) error {
	if c := grpcserver.CodeOf(err); c != mmrerr.OK {
		return c
	}
	switch status.Code(err) {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	default:
		return mmrerr.Unavailable
	}
}

// GetPublishedKeys implements the service: one cached copy for all clients (SPEC.md R-61).
func (s *ForwardService) GetPublishedKeys(ctx context.Context, req *relayv1.GetPublishedKeysRequest) (*relayv1.GetPublishedKeysResponse, error) {
	if req.GetRole() == relayv1.Role_ROLE_PROVIDER && req.GetTargetDomain() == s.r.cfg.Domain {
		keys, err := s.r.gateway.Published(ctx)
		if err != nil {
			return nil, err
		}
		return &relayv1.GetPublishedKeysResponse{Keys: keys}, nil
	}
	n, err := s.target(req.GetTargetDomain(), req.GetRole())
	if err != nil {
		return nil, err
	}
	keys, err := s.r.cfg.Peers.PublishedKeys(ctx, n)
	if err != nil {
		return nil, forwardError(err)
	}
	return &relayv1.GetPublishedKeysResponse{Keys: keys}, nil
}

// anonymousGateway is the gateway on the client listener, for providers without
// a partner relay (SPEC.md R-68, second case): a client connects without its
// session certificate and proves itself with tokens and keys alone.
type anonymousGateway struct {
	gatewayv1.UnimplementedGatewayServiceServer
	r *Relay
}

// Call implements the service.
func (g *anonymousGateway) Call(ctx context.Context, req *gatewayv1.CallRequest) (*gatewayv1.CallResponse, error) {
	if _, ok := sessionOf(ctx, g.r.cfg.Domain); ok {
		return nil, &grpcserver.FieldError{Field: "connection", Rule: "must not be an account session"}
	}
	return g.r.gateway.Call(ctx, req)
}

// GetPublishedKeys implements the service.
func (g *anonymousGateway) GetPublishedKeys(ctx context.Context, req *gatewayv1.GetPublishedKeysRequest) (*gatewayv1.GetPublishedKeysResponse, error) {
	return g.r.gateway.GetPublishedKeys(ctx, req)
}
