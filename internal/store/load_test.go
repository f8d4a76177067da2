package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// load is what daemons do to a store, and a ledger of what they were answered:
// writers hand numbered entries over until that worked, readers read and
// acknowledge, others count records up by compare-and-swap and claim names once.
// An error leaves open what happened; the caller asks or repeats. Whatever fails in
// between, each entry is read once, in its writer's order, and no count goes back.
type load struct {
	t      *testing.T
	s      *store.Stores
	ctx    context.Context
	cancel context.CancelFunc
	stop   chan struct{}
	wg     sync.WaitGroup // writers
	rg     sync.WaitGroup // readers

	sent    [loadWriters]atomic.Uint64 // newest number that was answered, by writer
	read    [loadWriters]atomic.Uint64 // newest number that was read
	counted [2]atomic.Uint64
	claimed atomic.Uint64
	errors  atomic.Uint64
}

const (
	loadWriters = 6
	loadQueues  = 3 // two writers each
)

func loadQueue(i int) queue.ID { return queue.ID(fmt.Append(nil, "load ", i)) }

func startLoad(t *testing.T, s *store.Stores) *load {
	t.Helper()
	l := &load{t: t, s: s, stop: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(func() { l.cancel(); l.wg.Wait(); l.rg.Wait() })
	for i := range loadQueues {
		mustDo(t, s.Queue.Create(l.ctx, loadQueue(i), queue.Limits{MaxEntries: 1 << 20}))
		l.rg.Go(func() { l.reader(i) })
	}
	for w := range loadWriters {
		l.wg.Go(func() { l.writer(w) })
	}
	for i := range l.counted {
		l.wg.Go(func() { l.counter(i) })
	}
	l.wg.Go(l.claimer)
	return l
}

// until repeats f until it works, and reports whether it did before the end.
func (l *load) until(f func() error) bool {
	for l.ctx.Err() == nil {
		ctx := l.ctx
		err := f()
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			l.errors.Add(1)
		}
		select {
		case <-l.ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}

func (l *load) going() bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(2 * time.Millisecond): // room for others on the machine
		return true
	}
}

func (l *load) writer(w int) {
	id := loadQueue(w % loadQueues)
	for n := uint64(1); l.going(); n++ {
		key := binary.BigEndian.AppendUint64([]byte{byte(w)}, n)
		if !l.until(func() error {
			_, err := queue.AppendOne(l.ctx, l.s.Queue, queue.Append{Queue: id, Entry: key, Dedup: key})
			return err
		}) {
			return
		}
		l.sent[w].Store(n)
	}
}

func (l *load) reader(i int) {
	id, last := loadQueue(i), queue.Seq(0)
	for l.ctx.Err() == nil {
		var es []queue.Entry
		if !l.until(func() (err error) { es, err = l.s.Queue.Read(l.ctx, id, last, 50); return err }) {
			return
		}
		for _, e := range es {
			if e.Seq != last+1 {
				l.t.Errorf("queue %d: entry %d follows %d", i, e.Seq, last)
			}
			last = e.Seq
			w, n := int(e.Data[0]), binary.BigEndian.Uint64(e.Data[1:])
			if before := l.read[w].Swap(n); n != before+1 {
				l.t.Errorf("writer %d: entry %d follows %d", w, n, before)
			}
		}
		if len(es) > 0 && last%7 == 0 {
			l.until(func() error { return l.s.Queue.Ack(l.ctx, id, last) })
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (l *load) counter(i int) {
	key := kv.Key{Group: fmt.Sprint("count", i), Name: "n"}
	var v kv.Version
	for n := uint64(1); l.going(); n++ {
		if !l.until(func() error {
			nv, err := kv.Put(l.ctx, l.s.KV, key, v, binary.BigEndian.AppendUint64(nil, n), 0)
			if err == nil {
				v = nv
				return nil
			}
			r, err2 := l.s.KV.Get(l.ctx, key) // was it written?
			if err2 != nil && !errors.Is(err2, kv.ErrNotFound) {
				return err2
			}
			have := uint64(0)
			if err2 == nil {
				have = binary.BigEndian.Uint64(r.Value)
			}
			v = r.Version
			switch have {
			case n:
				return nil
			case n - 1:
				return err
			}
			l.t.Errorf("record %d is %d, while %d is being written", i, have, n)
			return nil
		}) {
			return
		}
		l.counted[i].Store(n)
	}
}

func (l *load) claimer() {
	for n := uint64(1); l.going(); n++ {
		mine := binary.BigEndian.AppendUint64(nil, n)
		if !l.until(func() error {
			first, earlier, err := kv.Once(l.ctx, l.s.KV, kv.Key{Group: "once", Name: string(mine)}, mine, time.Hour)
			if err == nil && !first && string(earlier) != string(mine) {
				l.t.Errorf("claim %d is another's", n)
			}
			return err
		}) {
			return
		}
		l.claimed.Store(n)
	}
}

// progress waits until every writer has got on.
func (l *load) progress() {
	l.t.Helper()
	var from [loadWriters]uint64
	for w := range from {
		from[w] = l.sent[w].Load()
	}
	deadline := time.Now().Add(time.Minute)
	for w := range from {
		for l.sent[w].Load() < from[w]+20 {
			if time.Now().After(deadline) {
				l.t.Fatal("a writer does not get on")
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// finish stops the writers and asserts that readers get all they were answered, and
// that records are where they were counted to.
func (l *load) finish() {
	l.t.Helper()
	close(l.stop)
	l.wg.Wait()
	sum := uint64(0)
	deadline := time.Now().Add(time.Minute)
	for w := range l.sent {
		want := l.sent[w].Load()
		sum += want
		for l.read[w].Load() < want && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		if got := l.read[w].Load(); got != want {
			l.t.Errorf("writer %d: %d entries were answered, %d were read", w, want, got)
		}
	}
	for i := range l.counted {
		r, err := l.s.KV.Get(l.ctx, kv.Key{Group: fmt.Sprint("count", i), Name: "n"})
		if want := l.counted[i].Load(); err != nil || binary.BigEndian.Uint64(r.Value) != want {
			l.t.Errorf("record %d: %x, %v, want %d", i, r.Value, err, want)
		}
	}
	claims := uint64(0)
	for r, err := range l.s.KV.Scan(l.ctx, "once", "") {
		mustDo(l.t, err)
		if string(r.Value) == r.Key.Name {
			claims++
		}
	}
	if want := l.claimed.Load(); claims != want {
		l.t.Errorf("%d claims, want %d", claims, want)
	}
	l.cancel()
	l.rg.Wait()
	l.t.Logf("%d entries answered and read, %d and %d writes of records, %d claims, %d calls failed meanwhile", sum, l.counted[0].Load(), l.counted[1].Load(), claims, l.errors.Load())
}
