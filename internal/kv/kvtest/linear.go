package kvtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// Linearizable: concurrent clients, through as many processes as there can be,
// whose calls end early or lose their answer now and then, see records that change
// one transaction after another.
func Linearizable(t *testing.T, open Open) {
	s := open(t)
	stores := []kv.Store{s}
	if p, ok := s.(Peers); ok {
		stores = append(stores, p.Peer(t))
	}
	const clients, calls = 6, 40
	h := new(History)
	var wg sync.WaitGroup
	for c := range clients {
		r := rand.New(rand.NewPCG(uint64(c), 2))
		s := h.Client(Faulty(stores[c%len(stores)], func(string) (apply bool, err error) {
			if r.IntN(25) == 0 {
				return r.IntN(2) == 0, queuetest.ErrFault
			}
			return true, nil
		}))
		wg.Go(func() {
			for n := range calls {
				ctx, cancel := t.Context(), func() {}
				if r.IntN(20) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(300))*time.Microsecond)
				}
				RandomCall(ctx, s, fmt.Sprint("g", r.IntN(2)), r, fmt.Sprint(c, " ", n))
				cancel()
			}
		})
	}
	wg.Wait()
	h.Check(t)
	all, unknown := h.Ops()
	t.Logf("%d calls, %d with unknown outcome", all, unknown)
}

// RandomCall makes one call, or what is made of a few; value is one of its own. It
// reports whether the outcome is known.
func RandomCall(ctx context.Context, s kv.Store, group string, r *rand.Rand, value string) bool {
	name := fmt.Sprint("n", r.IntN(3))
	k, v := key(group, name), []byte(value)
	var err error
	switch r.IntN(8) {
	case 0, 1, 2: // compare-and-swap
		var rec kv.Record
		if rec, err = s.Get(ctx, k); err != nil {
			rec.Version = 0
		}
		_, err = s.Apply(ctx, []kv.Op{{Key: k, Value: v, Check: true, Old: rec.Version, TTL: time.Duration(r.IntN(2)) * time.Hour}})
	case 3: // two records at once
		_, err = s.Apply(ctx, []kv.Op{{Key: k, Value: v}, {Key: key(group, "pair"), Value: v}})
	case 4:
		err = kv.Delete(ctx, s, k)
	case 5:
		_, _, err = kv.Once(ctx, s, key(group, fmt.Sprint("once", r.IntN(6))), v, time.Hour)
	case 6:
		_, err = kv.Acquire(ctx, s, key(group, "lease"), value[:1], time.Unix(int64(r.IntN(100)), 0), 10*time.Second)
	default:
		_, err = s.GetMany(ctx, group, []string{"n0", "pair", "n1", "lease", "once1"})
	}
	return err == nil
}
