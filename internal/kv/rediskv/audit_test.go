package rediskv_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// TestAuditFinds damages the keys of a group in each way an audit can notice.
func TestAuditFinds(t *testing.T) {
	const index, record = "p*{Zw}", "p*{Zw}n"
	s := open(t)
	c, ctx := s.client, t.Context()
	for name, x := range map[string]struct {
		damage  func() error
		faults  map[string]int
		orphans map[string]int
	}{
		"a cut record":       {func() error { return c.Set(ctx, record, "1234567", 0).Err() }, map[string]int{"record: does not decode": 1}, nil},
		"no version":         {func() error { return c.SetRange(ctx, record, 0, "\x00\x00\x00\x00\x00\x00\x00\x00").Err() }, map[string]int{"record: does not decode": 1}, nil},
		"another type":       {func() error { c.Del(ctx, record); return c.LPush(ctx, record, "x").Err() }, map[string]int{"record: does not decode": 1}, nil},
		"a lost index":       {func() error { return c.Del(ctx, index).Err() }, map[string]int{"record: not in its index": 2}, nil},
		"a name lost":        {func() error { return c.ZRem(ctx, index, "n").Err() }, map[string]int{"record: not in its index": 1}, nil},
		"a name more":        {func() error { return c.ZAdd(ctx, index, redis.Z{Member: "m"}).Err() }, nil, map[string]int{"name of a record that expired": 1}},
		"an index too short": {func() error { return c.PExpire(ctx, index, time.Minute).Err() }, map[string]int{"record: outlives its index": 2}, nil},
		"another index":      {func() error { c.Del(ctx, index); return c.Set(ctx, index, "", 0).Err() }, map[string]int{"index: does not decode": 1, "record: does not decode": 2}, nil},
		"an alien key":       {func() error { return c.Set(ctx, "p*{Z!}n", "", 0).Err() }, map[string]int{"row of no known kind": 1}, nil},
		"no tag":             {func() error { return c.Set(ctx, "p*{Zw", "", 0).Err() }, map[string]int{"row of no known kind": 1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			for _, n := range []string{"n", "}"} {
				if _, err := kv.Put(ctx, s, kv.Key{Group: "g", Name: n}, 0, []byte("x"), time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			if r, err := s.Audit(ctx, false); err != nil || !r.Sound() || len(r.Orphans) != 0 || r.Rows["record"] != 2 {
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
		})
	}
}
