package queuetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Linearizable: concurrent clients, through as many processes as there can be,
// whose calls end early or lose their answer now and then, see a queue that does one thing after
// another.
func Linearizable(t *testing.T, open Open) {
	s := open(t)
	stores := []queue.Store{s}
	if p, ok := s.(Peers); ok {
		stores = append(stores, p.Peer(t))
	}
	const clients, calls = 6, 40
	ids := []queue.ID{"a", "b"}
	for _, id := range ids {
		create(t, s, id, queue.Limits{})
	}
	h := new(History)
	var wg sync.WaitGroup
	for c := range clients {
		r := rand.New(rand.NewPCG(uint64(c), 1))
		s := h.Client(Faulty(stores[c%len(stores)], func(string) (apply bool, err error) {
			if r.IntN(25) == 0 {
				return r.IntN(2) == 0, ErrFault
			}
			return true, nil
		}))
		wg.Go(func() {
			for n := range calls {
				ctx, cancel := t.Context(), func() {}
				if r.IntN(20) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(300))*time.Microsecond)
				}
				RandomCall(ctx, s, ids[r.IntN(len(ids))], r, fmt.Sprint(c, " ", n))
				cancel()
			}
		})
	}
	wg.Wait()
	h.Check(t)
	all, unknown := h.Ops()
	t.Logf("%d calls, %d with unknown outcome", all, unknown)
}

// RandomCall makes one call; name is one of its own. An append with an unknown
// outcome is repeated once. It reports whether the outcome is known.
func RandomCall(ctx context.Context, s queue.Store, id queue.ID, r *rand.Rand, name string) bool {
	var err error
	switch r.IntN(8) {
	case 0, 1, 2:
		a := queue.Append{Queue: id, Entry: []byte(name), Dedup: []byte(name)}
		if r.IntN(4) == 0 {
			a.Dedup = fmt.Append(nil, "shared ", r.IntN(8)) // several clients race to it
		}
		if _, err = s.AppendBatch(ctx, []queue.Append{a}); err != nil {
			_, _ = s.AppendBatch(ctx, []queue.Append{a}) // recorded, whatever comes
		}
	case 3:
		_, err = s.AppendBatch(ctx, []queue.Append{{Queue: id, Entry: []byte(name)}})
	case 4:
		err = s.Ack(ctx, id, queue.Seq(r.IntN(40)))
	default:
		_, err = s.Read(ctx, id, queue.Seq(r.IntN(20)), 1+r.IntN(30))
	}
	return err == nil
}
