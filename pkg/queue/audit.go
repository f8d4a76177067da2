package queue

import (
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/queue/audit"
)

// Auditor is a Store that can look at all it has, as every backend can. It is for
// tools: it costs a walk over the store.
type Auditor interface {
	Store
	// Audit looks at every row, compares it with the others and counts what it
	// finds. With remove it deletes what nobody can reach any more. The store may be
	// in use meanwhile. Damage is in the report; the error is for an audit that could
	// not be made.
	Audit(ctx context.Context, remove bool) (*audit.Report, error)
	// Queues yields the ids of all queues in any order, possibly more than once. An
	// error ends the sequence.
	Queues(ctx context.Context) iter.Seq2[ID, error]
}

var _ Auditor = (*Memory)(nil)

// Audit implements Auditor.
func (m *Memory) Audit(ctx context.Context, remove bool) (*audit.Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	r, now := audit.New(), m.now()
	for _, q := range m.queues {
		r.Row("queue")
		r.Rows["entry"] += len(q.entries)
		r.Rows["dedup key"] += len(q.seen)
		var bytes int64
		for i, e := range q.entries {
			bytes += int64(len(e.Data))
			if e.Seq != q.acked+Seq(i)+1 {
				r.Fault("queue: gap between entries")
			}
			if !now.Before(e.expires) {
				r.Orphan("entry that expired")
			}
		}
		if bytes != q.bytes || q.last != q.acked+Seq(len(q.entries)) {
			r.Fault("queue: counters disagree")
		}
		old := 0
		for _, s := range q.seen {
			if s.hour < DedupHour(now)-1 {
				old++
			}
		}
		if old > 0 {
			r.Orphans["dedup key that expired"] += old
		}
		if remove {
			n := len(q.entries) + len(q.seen)
			q.swept = 0
			q.expire(now)
			r.Deleted += n - len(q.entries) - len(q.seen)
		}
	}
	return r, nil
}

// Queues implements Auditor.
func (m *Memory) Queues(ctx context.Context) iter.Seq2[ID, error] {
	return func(yield func(ID, error) bool) {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		m.mu.Lock()
		ids, closed := slices.Collect(maps.Keys(m.queues)), m.closed
		m.mu.Unlock()
		if closed {
			yield("", ErrClosed)
			return
		}
		for _, id := range ids {
			if !yield(id, nil) {
				return
			}
		}
	}
}
