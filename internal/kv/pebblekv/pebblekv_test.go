package pebblekv_test

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"go.uber.org/goleak"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
	"github.com/mmrelay/mmrelay/internal/kv/pebblekv"
	"github.com/mmrelay/mmrelay/internal/pebbledb"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var prefix = []byte("p")

// store is a database of its own with a clock that the test moves.
type store struct {
	*pebblekv.Store
	db  *pebble.DB
	dir string
	*queuetest.ManualClock
}

func (s *store) Reopen(tb testing.TB) kv.Store {
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

func openDir(tb testing.TB, dir string, c *queuetest.ManualClock) *store {
	tb.Helper()
	db, err := pebbledb.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	kvs, err := pebblekv.New(db, prefix)
	if err != nil {
		tb.Fatal(err)
	}
	kvs.SetNow(c.Now)
	s := &store{Store: kvs, db: db, dir: dir, ManualClock: c}
	tb.Cleanup(func() { s.close(tb) })
	return s
}

func TestConformance(t *testing.T) {
	t.Run("pebble", func(t *testing.T) {
		kvtest.Run(t, func(tb testing.TB) kv.Store { return open(tb) })
	})
}

// keys counts what the database holds, but for its format version.
func (s *store) keys(tb testing.TB) (n int) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix})
	if err != nil {
		tb.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n
}

// TestSweep asserts that an expired record leaves no key, and that one which was
// renewed stays.
func TestSweep(t *testing.T) {
	s := open(t)
	put := func(name string, ttl time.Duration) {
		if _, err := s.Apply(t.Context(), []kv.Op{{Key: kv.Key{Group: "g", Name: name}, Value: []byte("x"), TTL: ttl}}); err != nil {
			t.Fatal(err)
		}
	}
	put("ever", 0)
	before := s.keys(t)
	for range 10 { // renewals
		put("short", time.Minute)
		put("renewed", time.Minute)
	}
	put("renewed", time.Hour)
	s.Advance(2*time.Minute + time.Second)
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if n := s.keys(t); n != before+2 {
		t.Errorf("%d keys after the sweep, want %d: the renewed record and its expiry", n, before+2)
	}
	if _, err := s.Get(t.Context(), kv.Key{Group: "g", Name: "renewed"}); err != nil {
		t.Error(err)
	}
	s.Advance(2 * time.Hour)
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if n := s.keys(t); n != before {
		t.Errorf("%d keys after all expired, want %d", n, before)
	}
}

// TestVersionsSurvive asserts that versions go on after a process that did not
// close its store.
func TestVersionsSurvive(t *testing.T) {
	s := open(t)
	k := kv.Key{Group: "g", Name: "n"}
	first, err := kv.Put(t.Context(), s, k, 0, []byte("x"), 0)
	if err != nil {
		t.Fatal(err)
	}
	other, err := pebblekv.New(s.db, prefix) // as after a crash
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	second, err := kv.Put(t.Context(), other, k, first, []byte("y"), 0)
	if err != nil || second <= first {
		t.Errorf("versions %d, %d: %v", first, second, err)
	}
}

// TestPrefixes asserts that two stores in one database do not meet.
func TestPrefixes(t *testing.T) {
	s := open(t)
	other, err := pebblekv.New(s.db, []byte("q"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	k := kv.Key{Group: "g", Name: "n"}
	for _, st := range []kv.Store{s, other} {
		if _, err := kv.Put(t.Context(), st, k, 0, []byte("x"), 0); err != nil {
			t.Error(err)
		}
	}
	for g, err := range other.Groups(t.Context(), "") {
		if g != "g" || err != nil {
			t.Errorf("group %q, %v", g, err)
		}
	}
}
