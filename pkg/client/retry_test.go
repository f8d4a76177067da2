package client

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// busy is a relay that refuses for load, so many times, and notes when it was asked.
type busy struct {
	relayv1.UnimplementedAccountServiceServer
	relayv1.UnimplementedMailboxServiceServer
	wait time.Duration // that it asks for

	mu    sync.Mutex // guards all below
	times int
	asked []time.Time
}

func (b *busy) refuse() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, time.Now())
	if b.times == 0 {
		return nil
	}
	b.times--
	s, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(b.wait)})
	if err != nil {
		return err
	}
	return s.Err()
}

// gaps are the times between the calls.
func (b *busy) gaps() (ds []time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := 1; i < len(b.asked); i++ {
		ds = append(ds, b.asked[i].Sub(b.asked[i-1]))
	}
	return ds
}

func (b *busy) IssueTokens(context.Context, *relayv1.IssueTokensRequest) (*relayv1.IssueTokensResponse, error) {
	return &relayv1.IssueTokensResponse{}, b.refuse()
}

func (b *busy) Listen(relayv1.MailboxService_ListenServer) error { return b.refuse() }

// serve serves b over a connection in memory.
func (b *busy) serve(t *testing.T) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	relayv1.RegisterAccountServiceServer(s, b)
	relayv1.RegisterMailboxServiceServer(s, b)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///busy", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUnaryInterceptor(bounded),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func (b *busy) call(ctx context.Context, conn *grpc.ClientConn, max time.Duration) error {
	_, err := retry(ctx, max, func() (*relayv1.IssueTokensResponse, error) {
		return relayv1.NewAccountServiceClient(conn).IssueTokens(ctx, &relayv1.IssueTokensRequest{})
	})
	return err
}

// wantBetween reports a time that is not at least low and below high.
func wantBetween(t *testing.T, what string, d, low, high time.Duration) {
	t.Helper()
	if d < low || d >= high {
		t.Errorf("%s: %v, want %v to %v", what, d, low, high)
	}
}

// TestRetryAfter: a call that was refused for load is not repeated before the time
// that the service asked for, and not by all clients at once.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &busy{wait: 7 * time.Second, times: 3}
		if err := b.call(t.Context(), b.serve(t), time.Minute); err != nil {
			t.Fatal(err)
		}
		gaps := b.gaps()
		if len(gaps) != 3 {
			t.Fatalf("%d repetitions", len(gaps))
		}
		for _, d := range gaps {
			wantBetween(t, "between two calls", d, 7*time.Second, 8*time.Second)
		}
	})
	synctest.Test(t, func(t *testing.T) { // many
		b := &busy{wait: 7 * time.Second, times: 20}
		conn := b.serve(t)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := b.call(t.Context(), conn, time.Minute); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		again := make(map[time.Time]bool)
		for _, at := range b.asked[20:] {
			again[at] = true
		}
		if len(again) < 15 {
			t.Errorf("20 clients came back at %d times", len(again))
		}
	})
}

// TestRetryAfterBounds: a service can make a client wait for a minute and no
// longer; and a client that has no time to wait does not begin to.
func TestRetryAfterBounds(t *testing.T) {
	for name, x := range map[string]struct {
		ctx        func(context.Context) context.Context
		wait, max  time.Duration
		low, high  time.Duration
		calls      int
		wantRefuse bool
	}{
		"a day":             {wait: 24 * time.Hour, max: time.Hour, low: time.Minute, high: 61 * time.Second, calls: 2},
		"below nothing":     {wait: -time.Hour, max: time.Hour, low: time.Millisecond, high: time.Second, calls: 2},
		"longer than it is": {wait: 40 * time.Second, max: 30 * time.Second, high: time.Millisecond, calls: 1, wantRefuse: true},
		"background":        {ctx: impatient, wait: time.Second, max: 30 * time.Second, high: time.Millisecond, calls: 1, wantRefuse: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &busy{wait: x.wait, times: 1}
				conn := b.serve(t)
				ctx := t.Context()
				if x.ctx != nil {
					ctx = x.ctx(ctx)
				}
				begin := time.Now()
				err := b.call(ctx, conn, (&transport{opts: options{retryFor: x.max}}).patience(ctx))
				if (status.Code(err) == codes.ResourceExhausted) != x.wantRefuse {
					t.Errorf("answer %v", err)
				}
				wantBetween(t, "it took", time.Since(begin), x.low, x.high)
				if len(b.asked) != x.calls {
					t.Errorf("%d calls, want %d", len(b.asked), x.calls)
				}
			})
		})
	}
}

// TestRetryLimited: a refusal inside an encapsulated response asks for no time; the
// client waits for a second at least.
func TestRetryLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, calls := time.Now(), 0
		_, err := retry(t.Context(), time.Minute, func() (int, error) {
			if calls++; calls < 3 {
				return 0, mmrerr.New(mmrerr.RateLimited, nil)
			}
			return calls, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		wantBetween(t, "two refusals", time.Since(begin), 2*time.Second, 3*time.Second)
	})
}

// TestRetryInternal: a service whose store fails for a moment is asked again.
func TestRetryInternal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		n, err := retry(t.Context(), time.Minute, func() (int, error) {
			if calls++; calls < 3 {
				return 0, status.Error(codes.Internal, "internal error")
			}
			return calls, nil
		})
		if n != 3 || err != nil {
			t.Errorf("after %d calls: %v", n, err)
		}
	})
}

// TestListenRetryAfter: neither is a mailbox stream opened again before that time.
func TestListenRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, err := primitive.GenerateSigningKey(primitive.Ed25519)
		if err != nil {
			t.Fatal(err)
		}
		b := &busy{wait: 20 * time.Second, times: 1000}
		c := &Client{opts: newOptions(nil), store: &failStop{Store: NewMemoryStore()}, t: &transport{anon: b.serve(t)}}
		c.account = accountState{QueueID: make([]byte, 16), QueueKey: key.Raw().Bytes()}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := c.receive(ctx); err == nil {
			t.Error("it ended by itself")
		}
		gaps := b.gaps()
		if len(gaps) < 10 {
			t.Fatalf("%d streams in five minutes", len(gaps))
		}
		for _, d := range gaps {
			wantBetween(t, "between two streams", d, 20*time.Second, 28*time.Second)
		}
	})
}
