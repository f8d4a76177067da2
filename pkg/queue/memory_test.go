package queue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type clocked struct {
	*queue.Memory
	*queuetest.ManualClock
}

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		queuetest.Run(t, func(tb testing.TB) queue.Store {
			c := &clocked{ManualClock: queuetest.NewManualClock()}
			c.Memory = queue.NewMemoryAt(c.Now)
			tb.Cleanup(func() { _ = c.Close() })
			return c
		})
	})
}

// TestMemoryVirtualTime asserts that the store works in the lab's virtual time:
// nothing of it waits outside the bubble.
func TestMemoryVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := queue.NewMemory()
		if err := s.Create(t.Context(), "q", queue.Limits{MaxAge: 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		c, err := s.Watch(t.Context(), "q")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Hour)
			_, _ = queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte("x")})
		}()
		start := time.Now()
		<-c
		if d := time.Since(start); d != time.Hour {
			t.Errorf("woken after %v, want 1h", d)
		}
		time.Sleep(48 * time.Hour)
		es, err := s.Read(t.Context(), "q", 0, 10)
		if err != nil || len(es) != 0 {
			t.Errorf("Read = %d entries, %v, want none: they expired", len(es), err)
		}
	})
}

func TestExpiresAt(t *testing.T) {
	at := func(s string) time.Time {
		x, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, x := range []struct {
		now  string
		age  time.Duration
		want string
	}{
		{"2026-01-01T00:00:00Z", 24 * time.Hour, "2026-01-03T00:00:00Z"},
		{"2026-01-01T23:59:59.9Z", 24 * time.Hour, "2026-01-03T00:00:00Z"},
		{"2026-01-02T00:00:00Z", 24 * time.Hour, "2026-01-04T00:00:00Z"},
		{"2026-01-01T12:00:00Z", time.Millisecond, "2026-01-02T00:00:01Z"},
		{"2026-01-02T01:00:00+02:00", time.Hour, "2026-01-02T01:00:00Z"}, // by the UTC day
	} {
		if got := (queue.Limits{MaxAge: x.age}).ExpiresAt(at(x.now)); !got.Equal(at(x.want)) {
			t.Errorf("stored at %s for %v: expires %v, want %s", x.now, x.age, got, x.want)
		}
	}
}

// TestMemorySweep asserts that entries and dedup keys of a queue that nobody touches
// go when their time is over and others are used.
func TestMemorySweep(t *testing.T) {
	c := &clocked{ManualClock: queuetest.NewManualClock()}
	c.Memory = queue.NewMemoryAt(c.Now)
	defer c.Close()
	for _, id := range []queue.ID{"left", "used"} {
		if err := c.Create(t.Context(), id, queue.Limits{MaxAge: time.Hour}); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			if _, err := queue.AppendOne(t.Context(), c, queue.Append{Queue: id, Entry: []byte("x"), Dedup: []byte{byte(i)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Advance(26 * time.Hour)
	for range 1024 {
		if _, err := queue.AppendOne(t.Context(), c, queue.Append{Queue: "used", Entry: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := c.Audit(t.Context(), false)
	if err != nil || r.Rows["entry"] != 1024 || r.Rows["dedup key"] != 0 || len(r.Orphans) != 0 {
		t.Errorf("%v, %v", r, err)
	}
}
