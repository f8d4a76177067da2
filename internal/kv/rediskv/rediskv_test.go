package rediskv_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
	"github.com/mmrelay/mmrelay/internal/kv/rediskv"
	"github.com/mmrelay/mmrelay/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a store on a server of its own.
type store struct {
	*rediskv.Store
	server *redistest.Server
	client *redis.Client
}

// Peer opens the server's records with another connection.
func (s *store) Peer(tb testing.TB) kv.Store { return openServer(tb, s.server) }

func (s *store) Reopen(tb testing.TB) kv.Store {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Error(err)
	}
	s.server.Kill()
	s.server.Restart()
	return openServer(tb, s.server)
}

func open(tb testing.TB) *store {
	tb.Helper()
	return openServer(tb, redistest.Start(tb, redistest.Options{AOF: true}))
}

func openServer(tb testing.TB, server *redistest.Server) *store {
	c := server.Client()
	s := &store{Store: rediskv.New(c, "p*", rediskv.Options{}), server: server, client: c}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		kvtest.Run(t, func(tb testing.TB) kv.Store { return open(tb) })
	})
}

// keys counts the server's keys.
func (s *store) keys(t *testing.T) int64 {
	t.Helper()
	n, err := s.client.DBSize(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestIndexExpires asserts that a group of records that all expire leaves no key.
func TestIndexExpires(t *testing.T) {
	s := open(t)
	for i := range 10 {
		if _, _, err := kv.Once(t.Context(), s, kv.Key{Group: "tokens", Name: strconv.Itoa(i)}, []byte("x"), 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	for start := time.Now(); s.keys(t) != 0; time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("%d keys after a minute", s.keys(t))
		}
	}
}

// TestIndexStaysWithRecords asserts that an index with a TTL lives as long as
// the longest record, and for ever when a record does.
func TestIndexStaysWithRecords(t *testing.T) {
	s := open(t)
	put := func(name string, ttl time.Duration) time.Duration {
		t.Helper()
		if _, err := s.Apply(t.Context(), []kv.Op{{Key: kv.Key{Group: "g", Name: name}, Value: []byte("x"), TTL: ttl}}); err != nil {
			t.Fatal(err)
		}
		d, err := s.client.PTTL(t.Context(), "p*{Zw}").Result()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := put("a", time.Hour); d < time.Hour {
		t.Errorf("TTL of the index %v, want an hour at least", d)
	}
	if d := put("b", time.Minute); d < 59*time.Minute {
		t.Errorf("TTL of the index %v, want that of the longest record", d)
	}
	if d := put("c", 0); d != -1 {
		t.Errorf("TTL of the index %v, want none", d)
	}
	if d := put("d", time.Hour); d != -1 {
		t.Errorf("TTL of the index %v, want none", d)
	}
}

// TestIndexForgets asserts that names of expired records do not pile up in a
// group that goes on being written and is never scanned.
func TestIndexForgets(t *testing.T) {
	s := open(t)
	const dead, later = 400, 400
	write := func(n int, prefix string, ttl time.Duration) {
		for i := range n {
			if _, err := s.Apply(t.Context(), []kv.Op{{Key: kv.Key{Group: "g", Name: fmt.Sprint(prefix, i)}, Value: []byte("x"), TTL: ttl}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(1, "ever", 0)
	write(dead, "dead", time.Millisecond)
	write(later, "new", time.Hour)
	n, err := s.client.ZCard(t.Context(), "p*{Zw}").Result()
	if err != nil {
		t.Fatal(err)
	}
	if n > later+dead/4 {
		t.Errorf("the index has %d names of %d records", n, later+1)
	}
}

// TestAtMostOnce asserts that a transaction whose answer is lost is not sent
// again: it would meet itself and report a conflict.
func TestAtMostOnce(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	c := redis.NewClient(&redis.Options{
		Network: "unix", Addr: server.Socket(), ReadTimeout: 300 * time.Millisecond, MaxRetries: 5, PoolTimeout: time.Minute,
	})
	defer c.Close()
	s := rediskv.New(c, "", rediskv.Options{})
	defer s.Close()
	k := kv.Key{Group: "g", Name: "n"}
	old, err := kv.Put(t.Context(), s, k, 0, []byte("1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	server.Pause() // it will run the script, but answer too late
	go func() {
		time.Sleep(time.Second)
		server.Resume()
	}()
	_, err = kv.Put(t.Context(), s, k, old, []byte("2"), 0)
	if err == nil || errors.Is(err, kv.ErrConflict) {
		t.Fatalf("Put with a lost answer: %v, want an error that leaves it open", err)
	}
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		r, err := s.Get(t.Context(), k)
		if err == nil && string(r.Value) == "2" {
			return // it was applied, once
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("Get = %q, %v", r.Value, err)
		}
	}
}
