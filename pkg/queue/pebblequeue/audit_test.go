package pebblequeue_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// row is the first row of a kind, or that of a given suffix.
func (s *store) row(t *testing.T, kind byte, suffix string) (k, v []byte) {
	t.Helper()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: append(bytes.Clone(prefix), kind), UpperBound: append(bytes.Clone(prefix), kind+1)})
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if bytes.HasSuffix(it.Key(), []byte(suffix)) {
			return bytes.Clone(it.Key()), bytes.Clone(it.Value())
		}
	}
	t.Fatalf("no row of kind %c", kind)
	return nil, nil
}

func number(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

// TestAuditFinds damages one row in each way an audit can notice, and asserts
// that it notices that, and nothing else where the damage is of one row.
func TestAuditFinds(t *testing.T) {
	for name, x := range map[string]struct {
		damage  func(t *testing.T, s *store)
		faults  map[string]int
		orphans map[string]int
	}{
		"a lost entry": {func(t *testing.T, s *store) {
			k, _ := s.row(t, 'e', number(7))
			check(t, s.db.Delete(k, pebble.Sync))
		}, map[string]int{"queue: gap between entries": 1}, nil},
		"the last entry lost": {func(t *testing.T, s *store) {
			k, _ := s.row(t, 'e', number(10))
			check(t, s.db.Delete(k, pebble.Sync))
		}, map[string]int{"queue: entries missing at its end": 1}, nil},
		"a shorter entry": {func(t *testing.T, s *store) {
			k, v := s.row(t, 'e', number(5))
			check(t, s.db.Set(k, v[:len(v)-1], pebble.Sync))
		}, map[string]int{"entry: running total is wrong": 1}, nil},
		"an entry of nothing": {func(t *testing.T, s *store) {
			k, v := s.row(t, 'e', number(10))
			check(t, s.db.Set(k, v[:8], pebble.Sync))
		}, map[string]int{"entry: does not decode": 1, "queue: entries missing at its end": 1}, nil},
		"an acknowledged entry that is back": {func(t *testing.T, s *store) {
			k, v := s.row(t, 'e', number(5))
			check(t, s.db.Set(append(k[:len(k)-8], number(1)...), v, pebble.Sync))
		}, map[string]int{"entry: number outside its queue's": 1}, nil},
		"a state of another format": {func(t *testing.T, s *store) {
			k, v := s.row(t, 's', "q")
			v[0] = 9
			check(t, s.db.Set(k, v, pebble.Sync))
		}, map[string]int{"queue: state does not decode": 1}, map[string]int{"entry of a deleted queue": 8, "dedup key of a deleted queue": 10, "expiry of a queue without entries": 1}},
		"a state cut short": {func(t *testing.T, s *store) {
			k, v := s.row(t, 's', "q")
			check(t, s.db.Set(k, v[:len(v)-1], pebble.Sync))
		}, map[string]int{"queue: state does not decode": 1}, map[string]int{"entry of a deleted queue": 8, "dedup key of a deleted queue": 10, "expiry of a queue without entries": 1}},
		"a lost state": {func(t *testing.T, s *store) {
			k, _ := s.row(t, 's', "q")
			check(t, s.db.Delete(k, pebble.Sync))
		}, nil, map[string]int{"entry of a deleted queue": 8, "dedup key of a deleted queue": 10, "expiry of a queue without entries": 1}},
		"a state of before": {func(t *testing.T, s *store) {
			k, v := s.row(t, 's', "q")
			v[bytes.Index(v, []byte{10, 2, 50, 10})]-- // newest number, acknowledged one, bytes of both
			check(t, s.db.Set(k, v, pebble.Sync))
		}, map[string]int{"queue: days disagree with entries": 1, "entry: number outside its queue's": 1, "queue: entries missing at its end": 1, "dedup key: of an entry that never was": 1}, nil},
		"a lost expiry": {func(t *testing.T, s *store) {
			k, _ := s.row(t, 'x', "q")
			check(t, s.db.Delete(k, pebble.Sync))
		}, map[string]int{"queue: entries that never expire": 1}, nil},
		"a stray expiry": {func(t *testing.T, s *store) {
			k, _ := s.row(t, 'x', "q")
			check(t, s.db.Set(append(k[:len(k)-1], "gone"...), nil, pebble.Sync))
		}, nil, map[string]int{"expiry of a queue without entries": 1}},
		"a dedup key of nothing": {func(t *testing.T, s *store) {
			k, _ := s.row(t, 'd', "")
			check(t, s.db.Set(k, nil, pebble.Sync))
		}, map[string]int{"dedup key: does not decode": 1}, nil},
		"a row of a later version": {func(t *testing.T, s *store) {
			check(t, s.db.Set(append(bytes.Clone(prefix), 'z'), nil, pebble.Sync))
		}, map[string]int{"row of no known kind": 1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			check(t, s.Create(t.Context(), "q", queue.Limits{}))
			for i := range 10 {
				if _, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte("entry"), Dedup: []byte{byte(i)}}); err != nil {
					t.Fatal(err)
				}
			}
			check(t, s.Ack(t.Context(), "q", 2))
			if r, err := s.Audit(t.Context(), false); err != nil || !r.Sound() || len(r.Orphans) != 0 {
				t.Fatalf("before: %v, %v", r, err)
			}
			x.damage(t, s)
			r, err := s.Audit(t.Context(), false)
			check(t, err)
			for what, p := range map[string]struct{ got, want map[string]int }{"faults": {r.Faults, x.faults}, "orphans": {r.Orphans, x.orphans}} {
				if len(p.want) != len(p.got) || len(p.want) > 0 && !cmp.Equal(p.want, p.got) {
					t.Errorf("%s %v, want %v", what, p.got, p.want)
				}
			}
			if _, err := s.Audit(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			if r, err := s.Audit(t.Context(), false); err != nil || len(r.Orphans) != 0 || len(r.Faults) != len(x.faults) {
				t.Errorf("after the removal of orphans: %v, %v", r, err)
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
