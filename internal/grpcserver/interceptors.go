package grpcserver

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// interceptors are shared by both daemons, in the order metrics and log,
// recovery, admission, deadline, error mapping. What they record is a security property:
// method, code and a duration bucket, never a peer, a size or a field.
type interceptors struct {
	log     *slog.Logger
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	timeout time.Duration
	calling chan struct{} // one slot per unary call under way
	streams chan struct{} // one slot per streaming call under way
}

func newInterceptors(cfg *Config) *interceptors {
	in := &interceptors{
		log:     cfg.Logger,
		timeout: cfg.CallTimeout,
		calling: make(chan struct{}, cfg.MaxCalls),
		streams: make(chan struct{}, cfg.MaxStreamCalls),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calls_total", Help: "Calls finished, by method and gRPC code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "call_seconds", Help: "Duration of unary calls by method.",
			Buckets: []float64{.001, .01, .1, 1, 10},
		}, []string{"method"}),
	}
	cfg.Registerer.MustRegister(in.calls, in.seconds)
	return in
}

// recovered answers a panic with a constant and logs only that it happened:
// its text could hold anything.
func (in *interceptors) recovered(context.Context, any) error {
	in.log.Error("panic in a handler", "err_class", "panic")
	return status.Error(codes.Internal, "internal error")
}

func (in *interceptors) options() []grpc.ServerOption {
	rec := recovery.WithRecoveryHandlerContext(in.recovered)
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(in.unary, recovery.UnaryServerInterceptor(rec), in.admit, in.deadline, in.mapUnary),
		grpc.ChainStreamInterceptor(in.stream, recovery.StreamServerInterceptor(rec), in.admitStream, in.mapStream),
	}
}

func (in *interceptors) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	start := time.Now()
	res, err := next(ctx, req)
	d := time.Since(start)
	in.seconds.WithLabelValues(info.FullMethod).Observe(d.Seconds())
	in.done(info.FullMethod, err, d)
	return res, err
}

func (in *interceptors) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	start := time.Now()
	err := next(srv, ss)
	in.done(info.FullMethod, err, time.Since(start))
	return err
}

func (in *interceptors) done(method string, err error, d time.Duration) {
	code := status.Code(err)
	in.calls.WithLabelValues(method, code.String()).Inc()
	in.log.Debug("call", "method", method, "code", code.String(), "dur_bucket", bucket(d))
}

// admit sheds what is more than the server can do at once: those who are inside
// finish, and all others hear at once when to come back. Health is always
// answered, or an overloaded server would be taken for a dead one.
func (in *interceptors) admit(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if strings.HasPrefix(info.FullMethod, "/grpc.health.") {
		return next(ctx, req)
	}
	select {
	case in.calling <- struct{}{}:
		defer func() { <-in.calling }()
		return next(ctx, req)
	default:
		return nil, StatusFrom(mmrerr.RateLimited)
	}
}

// admitStream is admit for calls that last: they wait more than they work, so they
// have a number of their own, and no flood of one kind stands in the way of the other.
func (in *interceptors) admitStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	select {
	case in.streams <- struct{}{}:
		defer func() { <-in.streams }()
		return next(srv, ss)
	default:
		return StatusFrom(mmrerr.RateLimited)
	}
}

// deadline gives every unary call an end, the client's or the server's, whichever is first.
func (in *interceptors) deadline(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	return next(ctx, req)
}

func (in *interceptors) mapUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	res, err := next(ctx, req)
	return res, in.status(info.FullMethod, err)
}

func (in *interceptors) mapStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return in.status(info.FullMethod, next(srv, ss))
}

// status maps a handler's error and logs the class of an internal one.
func (in *interceptors) status(method string, err error) error {
	s := StatusFrom(err)
	// What is a status already comes from gRPC itself, e.g. for bytes that are no
	// message: the caller's fault, and nothing to log.
	if _, known := status.FromError(err); !known && status.Code(s) == codes.Internal {
		in.log.Error("internal error", "method", method, "err_class", errClass(err))
	}
	return s
}

// bucket rounds a duration up to a power of ten, so that logs carry no timing fingerprint.
func bucket(d time.Duration) string {
	for _, b := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second} {
		if d <= b {
			return b.String()
		}
	}
	return "more"
}
