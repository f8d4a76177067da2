package relay_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// walked is one request of a walk.
type walked struct {
	// send makes the request, or what is left of it, once.
	send func(w *world) error
	// refused is what a repeat may be answered besides that it worked.
	refused []mmrerr.Code
	// after asserts that the outcome is right. worked says that the client had an
	// answer.
	after func(w *world, worked bool)
}

// walk cuts the way of a request at every write, before and after it was carried
// out, alone and with the process; the client repeats it as clients do, and sweeps
// come by. Then the outcome is right, and the stores have no fault and no orphan.
func walk(t *testing.T, prepare func(w *world) walked) {
	t.Helper()
	queuetest.Walk(t, func(t *testing.T, p *queuetest.Failpoint) {
		w := newWorld(t)
		q := prepare(w)
		w.restart(p)
		err := q.send(w)
		if p.Halt {
			w.stop()
			p.Heal()
			w.start(p.Fault)
		}
		for range 4 {
			if err == nil || !passing(err) {
				break
			}
			err = q.send(w)
		}
		if err != nil && !slices.Contains(q.refused, codeOf(err)) {
			t.Fatalf("the repeat: %v", err)
		}
		p.Heal()
		later := time.Now().Add(relay.SettleAfter)
		for range 2 { // the last fault may be here
			if e := w.r.Settle(t.Context(), later); e == nil {
				break
			}
		}
		w.restart(noFault()) // what follows looks at the outcome
		if n := w.records(w.mailboxes, relay.UnsettledGroup, ""); len(n) > 0 {
			t.Errorf("%d mailboxes are unsettled", len(n))
		}
		q.after(w, err == nil)
		w.sound()
	})
}

// TestWalk cuts every request that writes. Every method behind the gateway does: it
// remembers the request.
func TestWalk(t *testing.T) {
	walks := map[string]func(w *world) walked{"Deliver": deliveryWalk, "Listen": listenWalk}
	for _, m := range []map[string]func(w *world) walked{mailboxWalks, poolWalks, accountWalks, connectionWalks} {
		maps.Copy(walks, m)
	}
	for _, m := range newWorld(t).r.Methods() {
		if walks[m] == nil {
			t.Errorf("%s is served and not walked", m)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(walks)) {
		t.Run(name, func(t *testing.T) { walk(t, walks[name]) })
	}
}

// sound asserts that tools find nothing wrong in the relay's stores.
func (w *world) sound() {
	w.t.Helper()
	for kind, s := range w.kinds() {
		r, err := s.Audit(w.t.Context(), relay.Inspectors()[kind], false)
		w.must(err)
		if !r.Sound() || len(r.Orphans) > 0 {
			w.t.Errorf("the store of %s:\n%s", kind, r)
		}
	}
}

// kinds are the stores as a daemon has them.
func (w *world) kinds() map[string]*store.Stores {
	return map[string]*store.Stores{
		"accounts": {KV: w.accounts, Queue: queue.NewMemory()}, "packages": {KV: w.packages, Queue: queue.NewMemory()}, "queues": {KV: w.mailboxes, Queue: w.queues},
	}
}
