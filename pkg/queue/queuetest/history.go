package queuetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest/history"
)

// History is what concurrent clients of queues asked and were answered, and when.
// Check says whether it could have come about one call after another, each at some
// moment between its beginning and its end. A call that failed without a
// documented error may have been carried out, at any moment after its beginning,
// or not.
//
// The queues must be empty at first, and nothing may expire meanwhile. Create,
// Delete, Stat and Watch are not recorded.
type History struct {
	// Untold says that answers to appends tell neither number nor duplicate, as
	// where a relay is between the caller and the queue.
	Untold bool

	calls history.Calls[call, answer]
}

// Client returns s for one client of the history, whose calls are recorded.
func (h *History) Client(s queue.Store) queue.Store {
	return &recorded{s, h, h.calls.Client()}
}

// call is what is asked of one queue.
type call struct {
	queue queue.ID
	kind  string // append, read, ack
	data  string
	dedup string
	seq   queue.Seq // after which to read, up to which to acknowledge
	max   int
}

// answer is what came of it.
type answer struct {
	unknown bool
	untold  bool
	result  queue.Result
	entries []queue.Entry
}

func (h *History) add(client int, begin int64, c call, a answer) {
	if a.unknown && c.kind == "read" {
		return // it says nothing
	}
	h.calls.Add(client, begin, c, a, a.unknown)
}

type recorded struct {
	queue.Store
	h      *History
	client int
}

func (r *recorded) AppendBatch(ctx context.Context, batch []queue.Append) ([]queue.Result, error) {
	begin := r.h.calls.Now()
	rs, err := r.Store.AppendBatch(ctx, batch)
	for i, a := range batch {
		var ans answer
		switch {
		case err != nil:
			ans.unknown = true
		case errors.Is(rs[i].Err, queue.ErrInvalid):
			continue
		default:
			ans = answer{result: rs[i], untold: r.h.Untold, unknown: rs[i].Err != nil && !errors.Is(rs[i].Err, queue.ErrFull) && !errors.Is(rs[i].Err, queue.ErrNotFound)}
		}
		r.h.add(r.client, begin, call{queue: a.Queue, kind: "append", data: string(a.Entry), dedup: string(a.Dedup)}, ans)
	}
	return rs, err
}

func (r *recorded) Read(ctx context.Context, id queue.ID, after queue.Seq, max int) ([]queue.Entry, error) {
	begin := r.h.calls.Now()
	es, err := r.Store.Read(ctx, id, after, max)
	r.h.add(r.client, begin, call{queue: id, kind: "read", seq: after, max: max}, answer{unknown: err != nil, entries: es})
	return es, err
}

func (r *recorded) Ack(ctx context.Context, id queue.ID, upTo queue.Seq) error {
	begin := r.h.calls.Now()
	err := r.Store.Ack(ctx, id, upTo)
	r.h.add(r.client, begin, call{queue: id, kind: "ack", seq: upTo}, answer{unknown: err != nil})
	return err
}

// model is a queue as the contract describes it.
type model struct {
	acked queue.Seq
	items []item // all ever, entry n at n-1
}

type item struct{ data, dedup string }

func (m *model) last() queue.Seq { return queue.Seq(len(m.items)) }

func (m *model) append(c call) *model {
	return &model{m.acked, append(slices.Clip(m.items), item{c.data, c.dedup})}
}

func (m *model) ack(upTo queue.Seq) *model {
	return &model{max(m.acked, min(upTo, m.last())), m.items}
}

// find returns the number of the entry with a dedup key, 0 if there is none.
func (m *model) find(dedup string) queue.Seq {
	if dedup == "" {
		return 0
	}
	return queue.Seq(slices.IndexFunc(m.items, func(i item) bool { return i.dedup == dedup }) + 1)
}

// step returns the states in which a queue may be after a call with that answer;
// none if it cannot have been answered so.
func (m *model) step(c call, a answer) []*model {
	switch c.kind {
	case "append":
		first := m.find(c.dedup)
		switch {
		case a.unknown && first != 0:
			return []*model{m}
		case a.unknown:
			return []*model{m, m.append(c)}
		case a.result.Err != nil: // these histories fill no queue and delete none
			return nil
		case a.untold && first != 0:
			return []*model{m}
		case a.untold:
			return []*model{m.append(c)}
		case a.result.Duplicate:
			if first == 0 || a.result.Seq != 0 && a.result.Seq != first {
				return nil
			}
			return []*model{m}
		case first != 0 || a.result.Seq != m.last()+1:
			return nil
		}
		return []*model{m.append(c)}
	case "ack":
		if a.unknown {
			return []*model{m, m.ack(c.seq)}
		}
		return []*model{m.ack(c.seq)}
	default: // read
		from := max(c.seq, m.acked)
		if want := min(queue.Seq(c.max), m.last()-min(from, m.last())); queue.Seq(len(a.entries)) != want {
			return nil
		}
		for i, e := range a.entries {
			if e.Seq != from+queue.Seq(i)+1 || string(e.Data) != m.items[e.Seq-1].data {
				return nil
			}
		}
		return []*model{m}
	}
}

func (m *model) equal(o *model) bool {
	return m.acked == o.acked && slices.Equal(m.items, o.items)
}

// meaning is what the calls mean.
func meaning() history.Model[call, answer, *model] {
	return history.Model[call, answer, *model]{
		Object: func(c call) string { return string(c.queue) },
		Init:   new(model),
		Step:   (*model).step,
		Equal:  (*model).equal,
	}
}

// Ops is how many calls were recorded, and how many of them have an unknown outcome.
func (h *History) Ops() (all, unknown int) { return h.calls.Count() }

// Linearizable reports whether the history can be put in order.
func (h *History) Linearizable() porcupine.CheckResult {
	return history.Linearizable(&h.calls, meaning())
}

// Check asserts that the history can be put in order.
func (h *History) Check(t *testing.T) {
	t.Helper()
	history.Check(t, &h.calls, meaning())
}
