package queuetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Model: after any sequence of calls the store answers as queue.Memory does.
// Time moves if the store has a Clock.
func Model(t *testing.T, open Open) {
	s := open(t)
	var round atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{s: s, base: fmt.Sprintf("%d.", round.Add(1)), last: map[queue.ID]queue.Seq{}}
		if c, ok := s.(Clock); ok {
			m.now = c.Now()
		}
		m.model = queue.NewMemoryAt(func() time.Time { return m.now })
		t.Repeat(map[string]func(*rapid.T){
			"":       m.compare,
			"create": m.create,
			"delete": m.delete,
			"append": m.append,
			"read":   m.read,
			"ack":    m.ack,
			"pass":   m.pass,
		})
	})
}

type machine struct {
	s, model queue.Store
	base     string // of all queues of this run
	now      time.Time
	last     map[queue.ID]queue.Seq
}

var (
	genQueue = rapid.SampledFrom([]string{"a", "b", "c"})
	genDedup = rapid.SampledFrom([]string{"", "", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w"})
)

func (m *machine) id(t *rapid.T) queue.ID { return queue.ID(m.base + genQueue.Draw(t, "queue")) }

func (m *machine) check(t *rapid.T, what string, store, model error) {
	if !errors.Is(store, model) {
		t.Fatalf("%s: store %v, model %v", what, store, model)
	}
}

func (m *machine) create(t *rapid.T) {
	id := m.id(t)
	l := queue.Limits{
		MaxEntries: rapid.SampledFrom([]int{0, 3, 20}).Draw(t, "entries"),
		MaxBytes:   rapid.SampledFrom([]int64{0, 40}).Draw(t, "bytes"),
		MaxAge:     rapid.SampledFrom([]time.Duration{0, time.Hour, 48*time.Hour + time.Millisecond}).Draw(t, "age"),
	}
	m.check(t, "Create", m.s.Create(t.Context(), id, l), m.model.Create(t.Context(), id, l))
}

func (m *machine) delete(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "really") > 0 {
		t.Skip("rarely")
	}
	id := m.id(t)
	m.check(t, "Delete", m.s.Delete(t.Context(), id), m.model.Delete(t.Context(), id))
	delete(m.last, id)
}

func (m *machine) append(t *rapid.T) {
	batch := make([]queue.Append, rapid.IntRange(1, 12).Draw(t, "batch"))
	for i := range batch {
		batch[i] = queue.Append{
			Queue: m.id(t),
			Entry: rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "entry"),
			Dedup: []byte(genDedup.Draw(t, "dedup")),
		}
	}
	sr, serr := m.s.AppendBatch(t.Context(), batch)
	mr, merr := m.model.AppendBatch(t.Context(), batch)
	if serr != nil || merr != nil || len(sr) != len(mr) {
		t.Fatalf("AppendBatch: store %v, model %v", serr, merr)
	}
	for i := range sr {
		m.check(t, "result", sr[i].Err, mr[i].Err)
		if sr[i].Duplicate && sr[i].Seq == 0 { // allowed: the number is forgotten
			sr[i].Seq = mr[i].Seq
		}
		if sr[i].Seq != mr[i].Seq || sr[i].Duplicate != mr[i].Duplicate {
			t.Fatalf("result %d: store %+v, model %+v", i, sr[i], mr[i])
		}
		m.last[batch[i].Queue] = max(m.last[batch[i].Queue], mr[i].Seq)
	}
}

// seq draws a number around those in use.
func (m *machine) seq(t *rapid.T, id queue.ID) queue.Seq {
	return queue.Seq(rapid.Uint64Range(0, uint64(m.last[id])+2).Draw(t, "seq"))
}

func (m *machine) read(t *rapid.T) {
	id := m.id(t)
	m.compareRead(t, id, m.seq(t, id), rapid.IntRange(0, 5).Draw(t, "max"))
}

func (m *machine) compareRead(t *rapid.T, id queue.ID, after queue.Seq, max int) {
	se, serr := m.s.Read(t.Context(), id, after, max)
	me, merr := m.model.Read(t.Context(), id, after, max)
	m.check(t, "Read", serr, merr)
	if len(se) == 0 && len(me) == 0 {
		return
	}
	if d := cmp.Diff(me, se); d != "" {
		t.Fatalf("Read after %d, %d entries (-model +store):\n%s", after, max, d)
	}
}

func (m *machine) ack(t *rapid.T) {
	id := m.id(t)
	upTo := m.seq(t, id)
	m.check(t, "Ack", m.s.Ack(t.Context(), id, upTo), m.model.Ack(t.Context(), id, upTo))
}

func (m *machine) pass(t *rapid.T) {
	c, ok := m.s.(Clock)
	if !ok {
		t.Skip("the store has no clock")
	}
	c.Advance(rapid.SampledFrom([]time.Duration{20 * time.Minute, time.Hour, 25 * time.Hour, 24 * 31 * time.Hour}).Draw(t, "time"))
	m.now = c.Now()
}

func (m *machine) compare(t *rapid.T) {
	for _, q := range []string{"a", "b", "c"} {
		id := queue.ID(m.base + q)
		ss, serr := m.s.Stat(t.Context(), id)
		ms, merr := m.model.Stat(t.Context(), id)
		m.check(t, "Stat", serr, merr)
		if d := cmp.Diff(ms, ss); d != "" {
			t.Fatalf("Stat (-model +store):\n%s", d)
		}
		m.compareRead(t, id, 0, 1000)
	}
}
