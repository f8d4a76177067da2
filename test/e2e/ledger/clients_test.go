package ledger_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What happens to clients, besides what happens to services.

// fullMailbox is the fault of a client that is away until its mailbox is full.
const fullMailbox = "a client is away for long"

// mortals are the people whose clients are processes of their own.
func (p *party) mortals() (out []*remote) {
	for _, x := range p.people {
		if r, ok := x.account.(*remote); ok {
			out = append(out, r)
		}
	}
	return out
}

// killClients kills up to three clients in whatever they do, and starts them again
// up to two seconds later.
func (f *faults) killClients(ctx context.Context) {
	rs := f.p.mortals()
	f.rnd.Shuffle(len(rs), func(i, j int) { rs[i], rs[j] = rs[j], rs[i] })
	rs = rs[:min(len(rs), 3)]
	var wg sync.WaitGroup
	for _, r := range rs {
		before, after := time.Duration(f.rnd.Int64N(int64(time.Second))), time.Duration(f.rnd.Int64N(int64(2*time.Second)))
		wg.Go(func() {
			sleep(ctx, before)
			r.kill()
			sleep(ctx, after)
			if err := r.start(); err != nil {
				f.d.tb.Errorf("starting a client again: %v", err)
			}
		})
	}
	wg.Wait()
}

// overflow lets somebody be away until its mailbox has refused something, which
// the relay tells its owner, and nobody else.
func (f *faults) overflow(ctx context.Context) {
	var xs []*person
	for _, x := range f.p.people {
		if _, mortal := x.account.(*remote); x.domain == bDomain && !mortal {
			xs = append(xs, x)
		}
	}
	x := xs[f.rnd.IntN(len(xs))]
	before, err := x.Mailbox(ctx)
	if err != nil {
		f.log("  its mailbox is out of reach")
		return
	}
	back := x.leaves()
	defer back()
	for range 40 {
		sleep(ctx, time.Second)
		if now, err := x.Mailbox(ctx); err == nil && now.Dropped > before.Dropped+smallMailbox {
			f.log("  its mailbox refused %d", now.Dropped-before.Dropped)
			f.overflown = true
			return
		}
		if ctx.Err() != nil {
			break
		}
	}
	f.log("  it came back early")
}

// refused counts what full mailboxes refused, as their owners are told.
func (p *party) refused(t *testing.T) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), settleFor)
	defer cancel()
	var sum atomic.Uint64
	var wg sync.WaitGroup
	for _, x := range p.people {
		wg.Go(func() {
			st, err := x.Mailbox(ctx)
			for err != nil && ctx.Err() == nil { // by a connection that was forgotten
				sleep(ctx, time.Second)
				st, err = x.Mailbox(ctx)
			}
			if err != nil {
				t.Errorf("the mailbox of %s: %v", x.name, err)
			}
			sum.Add(st.Dropped)
		})
	}
	wg.Wait()
	return sum.Load()
}
