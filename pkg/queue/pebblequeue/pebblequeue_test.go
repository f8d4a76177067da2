package pebblequeue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"go.uber.org/goleak"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/pebblequeue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var prefix = []byte("p")

// store is a database of its own with a clock that the test moves.
type store struct {
	*pebblequeue.Store
	db  *pebble.DB
	dir string
	*queuetest.ManualClock
}

func (s *store) Reopen(tb testing.TB) queue.Store {
	tb.Helper()
	s.close(tb)
	return openDir(tb, s.dir, s.ManualClock)
}

func (s *store) close(tb testing.TB) {
	if err := s.Close(); err != nil {
		tb.Error(err)
	}
	if s.db == nil {
		return
	}
	if err := s.db.Close(); err != nil {
		tb.Error(err)
	}
	s.db = nil
}

func open(tb testing.TB) *store { return openDir(tb, tb.TempDir(), queuetest.NewManualClock()) }

type silent struct{ pebble.Logger }

func (silent) Infof(string, ...any) {}

func openDir(tb testing.TB, dir string, c *queuetest.ManualClock) *store {
	tb.Helper()
	db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: silent{pebble.DefaultLogger}})
	if err != nil {
		tb.Fatal(err)
	}
	s := &store{Store: pebblequeue.New(db, prefix), db: db, dir: dir, ManualClock: c}
	s.SetNow(c.Now)
	tb.Cleanup(func() { s.close(tb) })
	return s
}

func TestConformance(t *testing.T) {
	t.Run("pebble", func(t *testing.T) {
		queuetest.Run(t, func(tb testing.TB) queue.Store { return open(tb) })
	})
}

// keys counts what the database holds of each kind.
func (s *store) keys(tb testing.TB) map[string]int {
	n := map[string]int{}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix})
	if err != nil {
		tb.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		n[string(it.Key()[len(prefix):][:1])]++
	}
	return n
}

func (s *store) wantKeys(t *testing.T, when string, want map[string]int) {
	t.Helper()
	if got := s.keys(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("keys %s: %v, want %v", when, got, want)
	}
}

// TestSweep asserts that nothing invisible stays in the database: entries after
// Ack, expiry and Delete, dedup keys after two hours.
func TestSweep(t *testing.T) {
	s := open(t)
	ids := []queue.ID{"a", "b", "c"}
	for _, id := range ids {
		if err := s.Create(t.Context(), id, queue.Limits{MaxAge: 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		for i := range 400 {
			if _, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: id, Entry: []byte("x"), Dedup: fmt.Append(nil, i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.wantKeys(t, "after appends", map[string]int{"s": 3, "e": 1200, "d": 1200, "x": 3})
	if err := s.Ack(t.Context(), "a", 10); err != nil {
		t.Fatal(err)
	}
	s.wantKeys(t, "after an ack of few", map[string]int{"s": 3, "e": 1190, "d": 1200, "x": 3})
	if err := s.Ack(t.Context(), "a", 400); err != nil {
		t.Fatal(err)
	}
	s.wantKeys(t, "after an ack of many", map[string]int{"s": 3, "e": 800, "d": 1200, "x": 2})
	if err := s.Delete(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	s.wantKeys(t, "after a deletion", map[string]int{"s": 2, "e": 400, "d": 1200, "x": 1})
	s.Advance(3 * time.Hour)
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	s.wantKeys(t, "after three hours", map[string]int{"s": 2, "e": 400, "x": 1})
	s.Advance(48 * time.Hour)
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	s.wantKeys(t, "after two days", map[string]int{"s": 2})
}

// TestPrefixes asserts that two stores in one database do not meet.
func TestPrefixes(t *testing.T) {
	s := open(t)
	other := pebblequeue.New(s.db, []byte("q"))
	defer other.Close()
	for _, st := range []queue.Store{s, other} {
		if err := st.Create(t.Context(), "id", queue.Limits{}); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkAppend measures entries per second with synced batches.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("queues=%d", n), func(b *testing.B) {
			s := open(b)
			batch := make([]queue.Append, n)
			for i := range batch {
				batch[i] = queue.Append{Queue: queue.ID(fmt.Append(nil, i)), Entry: make([]byte, 1024), Dedup: make([]byte, 16)}
				if err := s.Create(b.Context(), batch[i].Queue, queue.Limits{MaxEntries: 1 << 30, MaxBytes: 1 << 40}); err != nil {
					b.Fatal(err)
				}
			}
			round := 0
			for b.Loop() {
				round++
				for i := range batch {
					copy(batch[i].Dedup, fmt.Append(nil, round))
				}
				if _, err := s.AppendBatch(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
