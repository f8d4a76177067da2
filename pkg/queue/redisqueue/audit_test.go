package redisqueue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/redisqueue"
)

// TestAuditFinds damages the keys of a queue in each way an audit can notice.
// The queue has entries of two days and more dedup keys than its state holds.
func TestAuditFinds(t *testing.T) {
	const state, list, even, odd = "p{cQ}s", "p{cQ}e", "p{cQ}0", "p{cQ}1"
	s := open(t, redistest.Options{}, redisqueue.Options{})
	c := s.client
	ctx := t.Context()
	for name, x := range map[string]struct {
		damage  func() error
		faults  map[string]int
		orphans map[string]int
	}{
		"an entry lost":   {func() error { return c.LPop(ctx, list).Err() }, map[string]int{"queue: list is not as long as its state says": 1, "queue: bytes are not those of its entries": 1}, nil},
		"an entry more":   {func() error { return c.RPush(ctx, list, "").Err() }, map[string]int{"queue: list is not as long as its state says": 1}, nil},
		"another entry":   {func() error { return c.LSet(ctx, list, 3, "something longer").Err() }, map[string]int{"queue: bytes are not those of its entries": 1}, nil},
		"a later format":  {func() error { return c.SetRange(ctx, state, 0, "\x09").Err() }, map[string]int{"queue: state does not decode": 1}, nil},
		"a cut state":     {func() error { return c.Set(ctx, state, "\x01xyz", 0).Err() }, map[string]int{"queue: state does not decode": 1}, nil},
		"a lost state":    {func() error { return c.Del(ctx, state).Err() }, nil, map[string]int{"entries of a deleted queue": 1, "dedup keys of a deleted queue": 1}},
		"smaller limits":  {func() error { return c.SetRange(ctx, state, 1, "\x00\x00\x00\x05").Err() }, map[string]int{"queue: counters disagree": 1}, nil},
		"eternal dedup":   {func() error { c.Persist(ctx, even); return c.Persist(ctx, odd).Err() }, map[string]int{"dedup keys: never expire": 1}, nil},
		"an alien key":    {func() error { return c.Set(ctx, "p{cQ}z", "", 0).Err() }, map[string]int{"row of no known kind": 1}, nil},
		"an alien id":     {func() error { return c.Set(ctx, "p{c!}s", "", 0).Err() }, map[string]int{"row of no known kind": 1}, nil},
		"another's state": {func() error { return c.Set(ctx, "q{cQ}s", "", 0).Err() }, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			if err := s.Create(ctx, "q", queue.Limits{MaxAge: 48 * time.Hour}); err != nil {
				t.Fatal(err)
			}
			for i := range 60 {
				if i == 30 {
					s.Advance(24 * time.Hour)
				}
				if _, err := queue.AppendOne(ctx, s, queue.Append{Queue: "q", Entry: []byte("entry"), Dedup: fmt.Appendf(nil, "dedup key %6d", i)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Ack(ctx, "q", 5); err != nil {
				t.Fatal(err)
			}
			// The hash of the first day's hour may be there or be reused.
			if err := c.Del(ctx, map[bool]string{true: odd, false: even}[queue.DedupHour(s.Now())%2 == 0]).Err(); err != nil {
				t.Fatal(err)
			}
			if r, err := s.Audit(ctx, false); err != nil || !r.Sound() || len(r.Orphans) != 0 || r.Rows["entry"] != 55 {
				t.Fatalf("before: %v, %v", r, err)
			}
			if err := x.damage(); err != nil {
				t.Fatal(err)
			}
			r, err := s.Audit(ctx, false)
			if err != nil {
				t.Fatal(err)
			}
			for what, p := range map[string]struct{ got, want map[string]int }{"faults": {r.Faults, x.faults}, "orphans": {r.Orphans, x.orphans}} {
				if len(p.want) != len(p.got) || len(p.want) > 0 && !cmp.Equal(p.want, p.got) {
					t.Errorf("%s %v, want %v", what, p.got, p.want)
				}
			}
			if _, err := s.Audit(ctx, true); err != nil {
				t.Fatal(err)
			}
			if r, err := s.Audit(ctx, false); err != nil || len(r.Orphans) != 0 {
				t.Errorf("after the removal of orphans: %v, %v", r, err)
			}
		})
	}
}
