package grpcserver_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// slow is a service whose calls wait until they are let go.
type slow struct {
	gatewayv1.UnimplementedGatewayServiceServer
	entered, leave chan struct{}
}

func (s *slow) Call(ctx context.Context, _ *gatewayv1.CallRequest) (*gatewayv1.CallResponse, error) {
	s.entered <- struct{}{}
	select {
	case <-s.leave:
	case <-ctx.Done():
	}
	return &gatewayv1.CallResponse{}, nil
}

func serve(t *testing.T, cfg grpcserver.Config) (addr string, s *slow) {
	t.Helper()
	cfg.Logger, cfg.Registerer = slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	srv := grpcserver.New(cfg)
	s = &slow{entered: make(chan struct{}, 8), leave: make(chan struct{})}
	gatewayv1.RegisterGatewayServiceServer(srv.Server, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &grpcserver.Group{Logger: cfg.Logger, Grace: time.Second}
	g.Add(srv, l)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), s
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func tcp(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ended waits until the server closes a connection. What it says before is its
// HTTP/2 settings.
func ended(c net.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return errors.New("the server does not close it")
	}
	return nil // closed, or reset
}

func healthy(ctx context.Context, c *grpc.ClientConn) error {
	_, err := healthpb.NewHealthClient(c).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	return err
}

// TestConnectionFlood: connections beyond the limit are closed at once; who is
// in is served meanwhile, and who comes afterwards too.
func TestConnectionFlood(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	addr, _ := serve(t, grpcserver.Config{MaxConnections: 4})
	good := dial(t, addr)
	if err := healthy(ctx, good); err != nil {
		t.Fatal(err)
	}
	var idle []net.Conn
	for range 3 {
		idle = append(idle, tcp(t, addr))
	}
	for range 50 {
		if err := ended(tcp(t, addr)); err != nil {
			t.Fatal(err)
		}
	}
	if err := healthy(ctx, good); err != nil {
		t.Errorf("during the flood: %v", err)
	}
	for _, c := range idle {
		_ = c.Close()
	}
	if err := healthy(ctx, dial(t, addr)); err != nil {
		t.Errorf("after the flood: %v", err)
	}
}

// TestSlowLoris: who opens a connection and says nothing, or says it a byte at a
// time, loses it.
func TestSlowLoris(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	addr, _ := serve(t, grpcserver.Config{MaxConnections: 3, HandshakeTimeout: 300 * time.Millisecond})
	silent, dripping := tcp(t, addr), tcp(t, addr)
	stop := make(chan struct{})
	dripped := make(chan struct{})
	go func() {
		defer close(dripped)
		for _, b := range []byte(strings.Repeat("PRI * HTTP/2.0\r\n", 1)) {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			if _, err := dripping.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	if err := healthy(ctx, dial(t, addr)); err != nil {
		t.Errorf("meanwhile: %v", err)
	}
	if err := errors.Join(ended(silent), ended(dripping)); err != nil {
		t.Error(err)
	}
	close(stop)
	<-dripped
	for range 2 { // their places are free again
		if err := healthy(ctx, dial(t, addr)); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
}

// TestStreamFlood: a connection has so many calls at once; the next waits for
// one of its own to end, and other connections do not notice.
func TestStreamFlood(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	addr, s := serve(t, grpcserver.Config{MaxStreams: 3})
	flooder := gatewayv1.NewGatewayServiceClient(dial(t, addr))
	done := make(chan error, 8)
	for range 5 {
		go func() {
			_, err := flooder.Call(ctx, &gatewayv1.CallRequest{})
			done <- err
		}()
	}
	for range 3 {
		<-s.entered
	}
	if err := healthy(ctx, dial(t, addr)); err != nil {
		t.Errorf("meanwhile, another connection: %v", err)
	}
	if n := len(s.entered); n != 0 {
		t.Errorf("%d calls more than the connection may have", n)
	}
	s.leave <- struct{}{}
	<-s.entered // the fourth
	close(s.leave)
	for range 5 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestHugeHeaders: a call with more metadata than the limit fails alone.
func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	addr, _ := serve(t, grpcserver.Config{})
	c := dial(t, addr)
	if err := healthy(ctx, c); err != nil { // the settings have come
		t.Fatal(err)
	}
	huge := metadata.AppendToOutgoingContext(ctx, "x-huge", strings.Repeat("x", 16<<10))
	if err := healthy(huge, c); err == nil {
		t.Error("16 KiB of metadata were taken")
	}
	if err := healthy(ctx, c); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestOverload: what is more than the server does at once is refused at once,
// with a time to wait; health answers all the while; and all is well afterwards.
func TestOverload(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	addr, s := serve(t, grpcserver.Config{MaxCalls: 2})
	c := dial(t, addr)
	gw := gatewayv1.NewGatewayServiceClient(c)
	done := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := gw.Call(ctx, &gatewayv1.CallRequest{})
			done <- err
		}()
	}
	<-s.entered
	<-s.entered
	for range 20 {
		_, err := gw.Call(ctx, &gatewayv1.CallRequest{})
		if status.Code(err) != codes.ResourceExhausted || grpcserver.CodeOf(err) != mmrerr.RateLimited {
			t.Fatalf("with two calls under way: %v", err)
		}
		var wait time.Duration
		for _, d := range status.Convert(err).Details() {
			if r, ok := d.(*errdetails.RetryInfo); ok {
				wait = r.GetRetryDelay().AsDuration()
			}
		}
		if wait <= 0 {
			t.Error("no time to wait")
		}
	}
	if err := healthy(ctx, c); err != nil {
		t.Errorf("health under load: %v", err)
	}
	close(s.leave)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := gw.Call(ctx, &gatewayv1.CallRequest{}); err != nil {
		t.Errorf("after the load: %v", err)
	}
}

// TestStreamOverload: streams beyond the limit are refused with a time to wait,
// and neither they nor those that are open stand in the way of other calls.
func TestStreamOverload(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	addr, _ := serve(t, grpcserver.Config{MaxStreamCalls: 2})
	c := dial(t, addr)
	open := func() (end func(), err error) {
		ctx, cancel := context.WithCancel(ctx)
		s, err := healthpb.NewHealthClient(c).Watch(ctx, &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = s.Recv()
		}
		return cancel, err
	}
	var ends []func()
	for range 2 {
		end, err := open()
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	for range 5 {
		end, err := open()
		end()
		if status.Code(err) != codes.ResourceExhausted || grpcserver.CodeOf(err) != mmrerr.RateLimited || grpcserver.RetryAfter(err) <= 0 {
			t.Fatalf("a stream too many: %v", err)
		}
	}
	if err := healthy(ctx, c); err != nil {
		t.Errorf("another call: %v", err)
	}
	ends[0]()
	for {
		end, err := open()
		defer end()
		if err == nil {
			break
		}
		if grpcserver.CodeOf(err) != mmrerr.RateLimited {
			t.Fatal(err)
		}
	}
	ends[1]()
}
