package kv_test

import (
	"sync"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
)

type clocked struct {
	*kv.Memory
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clocked) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *clocked) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		kvtest.Run(t, func(tb testing.TB) kv.Store {
			c := &clocked{now: time.Now()}
			c.Memory = kv.NewMemoryAt(c.time)
			tb.Cleanup(func() { _ = c.Close() })
			return c
		})
	})
}

// TestMemorySweep asserts that what expired does not stay for ever.
func TestMemorySweep(t *testing.T) {
	c := &clocked{now: time.Now()}
	m := kv.NewMemoryAt(c.time)
	write := func(group string, ttl time.Duration) {
		if _, err := m.Apply(t.Context(), []kv.Op{{Key: kv.Key{Group: group, Name: "n"}, Value: []byte("x"), TTL: ttl}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		write(string(rune('a'+i)), time.Hour)
	}
	c.Advance(2 * time.Hour)
	for range 1100 {
		write("other", time.Hour)
	}
	if n := kv.MemoryGroups(m); n != 1 {
		t.Errorf("%d groups are kept, want 1", n)
	}
}
