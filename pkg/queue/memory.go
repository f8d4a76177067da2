package queue

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mmrelay/mmrelay/pkg/queue/internal/wake"
)

// Memory is the Store without durability: a real backend for tests and the
// lab, and the model the others are compared with.
type Memory struct {
	now      func() time.Time
	watchers wake.Set

	mu     sync.Mutex // guards all below
	queues map[ID]*memoryQueue
	calls  int // of AppendBatch
	closed bool
}

type memoryQueue struct {
	limits  Limits
	entries []memoryEntry
	bytes   int64
	last    Seq
	acked   Seq
	dropped uint64
	seen    map[string]memorySeen
	swept   int64 // the hour in which seen was swept last
}

type memoryEntry struct {
	Entry
	expires time.Time
}

type memorySeen struct {
	seq  Seq
	hour int64
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return NewMemoryAt(time.Now) }

// NewMemoryAt returns an empty store that takes the time from now: for virtual
// time in tests and the lab.
func NewMemoryAt(now func() time.Time) *Memory {
	return &Memory{now: now, queues: make(map[ID]*memoryQueue)}
}

// begin checks the arguments common to all calls and takes the lock.
func (m *Memory) begin(ctx context.Context, id ID) error {
	if err := id.Check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// Create implements Store.
func (m *Memory) Create(ctx context.Context, id ID, l Limits) error {
	if err := l.Check(); err != nil {
		return err
	}
	if err := m.begin(ctx, id); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.queues[id] != nil {
		return ErrExists
	}
	m.queues[id] = &memoryQueue{limits: l.WithDefaults(), seen: make(map[string]memorySeen), swept: DedupHour(m.now())}
	return nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, id ID) error {
	if err := m.begin(ctx, id); err != nil {
		return err
	}
	defer m.mu.Unlock()
	delete(m.queues, id)
	m.watchers.Wake(string(id))
	return nil
}

// AppendBatch implements Store.
func (m *Memory) AppendBatch(ctx context.Context, batch []Append) ([]Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	now := m.now()
	m.sweep(now)
	rs := make([]Result, len(batch))
	for i, a := range batch {
		if rs[i].Err = a.Check(); rs[i].Err != nil {
			continue
		}
		q := m.queues[a.Queue]
		if q == nil {
			rs[i].Err = ErrNotFound
			continue
		}
		q.expire(now)
		rs[i] = q.append(a, now)
		if rs[i].Err == nil && !rs[i].Duplicate {
			m.watchers.Wake(string(a.Queue))
		}
	}
	return rs, nil
}

// sweep expires what is in queues that nobody touches, every 1,024 calls, so that
// the store does not grow with them.
func (m *Memory) sweep(now time.Time) {
	if m.calls++; m.calls%1024 != 0 {
		return
	}
	for _, q := range m.queues {
		q.expire(now)
	}
}

func (q *memoryQueue) append(a Append, now time.Time) Result {
	if len(a.Dedup) > 0 {
		if s, ok := q.seen[string(a.Dedup)]; ok && s.hour >= DedupHour(now)-1 {
			return Result{Seq: s.seq, Duplicate: true}
		}
	}
	if len(q.entries) >= q.limits.MaxEntries || q.bytes+int64(len(a.Entry)) > q.limits.MaxBytes {
		q.dropped++
		return Result{Err: ErrFull}
	}
	q.last++
	q.entries = append(q.entries, memoryEntry{Entry{q.last, slices.Clone(a.Entry)}, q.limits.ExpiresAt(now)})
	q.bytes += int64(len(a.Entry))
	if len(a.Dedup) > 0 {
		q.seen[string(a.Dedup)] = memorySeen{q.last, DedupHour(now)}
	}
	return Result{Seq: q.last}
}

// expire drops entries past their age, and forgotten dedup keys once an hour.
func (q *memoryQueue) expire(now time.Time) {
	n := 0
	for n < len(q.entries) && !now.Before(q.entries[n].expires) {
		n++
	}
	q.drop(n)
	hour := DedupHour(now)
	if q.swept == hour {
		return
	}
	q.swept = hour
	maps.DeleteFunc(q.seen, func(_ string, s memorySeen) bool { return s.hour < hour-1 })
}

// drop removes the n oldest entries.
func (q *memoryQueue) drop(n int) {
	if n == 0 {
		return
	}
	for _, e := range q.entries[:n] {
		q.bytes -= int64(len(e.Data))
		q.acked = e.Seq
	}
	q.entries = slices.Delete(q.entries, 0, n)
}

// Read implements Store.
func (m *Memory) Read(ctx context.Context, id ID, after Seq, max int) ([]Entry, error) {
	if err := m.begin(ctx, id); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	q := m.queues[id]
	if q == nil {
		return nil, ErrNotFound
	}
	q.expire(m.now())
	var es []Entry
	size := 0
	for _, e := range q.entries {
		if e.Seq <= after {
			continue
		}
		if len(es) >= max || (len(es) > 0 && size+len(e.Data) > ReadBytes) {
			break
		}
		size += len(e.Data)
		es = append(es, Entry{e.Seq, slices.Clone(e.Data)})
	}
	return es, nil
}

// Ack implements Store.
func (m *Memory) Ack(ctx context.Context, id ID, upTo Seq) error {
	if err := m.begin(ctx, id); err != nil {
		return err
	}
	defer m.mu.Unlock()
	q := m.queues[id]
	if q == nil {
		return ErrNotFound
	}
	n := 0
	for n < len(q.entries) && q.entries[n].Seq <= upTo {
		n++
	}
	q.drop(n)
	return nil
}

// Stat implements Store.
func (m *Memory) Stat(ctx context.Context, id ID) (Stat, error) {
	if err := m.begin(ctx, id); err != nil {
		return Stat{}, err
	}
	defer m.mu.Unlock()
	q := m.queues[id]
	if q == nil {
		return Stat{}, ErrNotFound
	}
	q.expire(m.now())
	return Stat{Entries: len(q.entries), Bytes: q.bytes, Last: q.last, Acked: q.acked, Dropped: q.dropped}, nil
}

// Wake implements Store.
func (m *Memory) Wake(ctx context.Context, id ID) error {
	if err := m.begin(ctx, id); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.watchers.Wake(string(id))
	return nil
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, id ID) (<-chan struct{}, error) {
	if err := m.begin(ctx, id); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	return m.watchers.Add(ctx, string(id)), nil
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.watchers.Close()
	return nil
}
