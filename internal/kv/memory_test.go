package kv_test

import (
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

type clocked struct {
	*kv.Memory
	*queuetest.ManualClock
}

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		kvtest.Run(t, func(tb testing.TB) kv.Store {
			c := &clocked{ManualClock: queuetest.NewManualClock()}
			c.Memory = kv.NewMemoryAt(c.Now)
			tb.Cleanup(func() { _ = c.Close() })
			return c
		})
	})
}

// TestMemorySweep asserts that what expired does not stay for ever.
func TestMemorySweep(t *testing.T) {
	c := &clocked{ManualClock: queuetest.NewManualClock()}
	m := kv.NewMemoryAt(c.Now)
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
