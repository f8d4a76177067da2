package redisqueue_test

import (
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
	"github.com/mmrelay/mmrelay/pkg/queue/redisqueue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a store on a server of its own with a clock that the test moves.
type store struct {
	*redisqueue.Store
	server *redistest.Server
	client redis.UniversalClient
	o      redisqueue.Options
	*clock
}

type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Peer opens the server's queues with another connection.
func (s *store) Peer(tb testing.TB) queue.Store { return s.peer(tb) }

func (s *store) peer(tb testing.TB) *store {
	tb.Helper()
	return openClient(tb, s.server, s.server.Client(), s.o, s.clock)
}

func (s *store) Reopen(tb testing.TB) queue.Store {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Error(err)
	}
	s.server.Kill()
	s.server.Restart()
	return s.peer(tb)
}

func open(tb testing.TB, so redistest.Options, o redisqueue.Options) *store {
	tb.Helper()
	server := redistest.Start(tb, so)
	return openClient(tb, server, server.Client(), o, &clock{now: time.Now()})
}

func openClient(tb testing.TB, server *redistest.Server, c redis.UniversalClient, o redisqueue.Options, k *clock) *store {
	tb.Helper()
	q, err := redisqueue.New(c, "p", o)
	if err != nil {
		tb.Fatal(err)
	}
	q.SetNow(k.Now)
	tb.Cleanup(func() { _ = q.Close() })
	return &store{Store: q, server: server, client: c, o: o, clock: k}
}

func TestConformance(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		queuetest.Run(t, func(tb testing.TB) queue.Store {
			return open(tb, redistest.Options{AOF: true}, redisqueue.Options{})
		})
	})
}
