package queue

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Memory is the Store without durability: a real backend for tests and the
// lab, and the model the others are compared with.
type Memory struct {
	mu       sync.Mutex // guards all below
	queues   map[ID]*memoryQueue
	watchers map[ID]map[chan struct{}]struct{}
	done     chan struct{} // closed by Close
}

type memoryQueue struct {
	limits  Limits
	entries []memoryEntry
	bytes   int64
	last    Seq
	acked   Seq
	dropped uint64
	seen    map[string]memorySeen
	swept   time.Time
}

type memoryEntry struct {
	Entry
	expires time.Time
}

type memorySeen struct {
	seq     Seq
	expires time.Time
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		queues:   make(map[ID]*memoryQueue),
		watchers: make(map[ID]map[chan struct{}]struct{}),
		done:     make(chan struct{}),
	}
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
	if m.closed() {
		m.mu.Unlock()
		return ErrClosed
	}
	return nil
}

func (m *Memory) closed() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// Create implements Store.
func (m *Memory) Create(ctx context.Context, id ID, l Limits) error {
	if err := m.begin(ctx, id); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.queues[id] != nil {
		return ErrExists
	}
	m.queues[id] = &memoryQueue{limits: l.WithDefaults(), seen: make(map[string]memorySeen), swept: time.Now()}
	return nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, id ID) error {
	if err := m.begin(ctx, id); err != nil {
		return err
	}
	defer m.mu.Unlock()
	delete(m.queues, id)
	m.wake(id)
	return nil
}

// AppendBatch implements Store.
func (m *Memory) AppendBatch(ctx context.Context, batch []Append) ([]Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed() {
		return nil, ErrClosed
	}
	now := time.Now()
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
			m.wake(a.Queue)
		}
	}
	return rs, nil
}

func (q *memoryQueue) append(a Append, now time.Time) Result {
	if len(a.Dedup) > 0 {
		if s, ok := q.seen[string(a.Dedup)]; ok && now.Before(s.expires) {
			return Result{Seq: s.seq, Duplicate: true}
		}
	}
	if len(q.entries) >= q.limits.MaxEntries || q.bytes+int64(len(a.Entry)) > q.limits.MaxBytes {
		q.dropped++
		return Result{Err: ErrFull}
	}
	q.last++
	q.entries = append(q.entries, memoryEntry{Entry{q.last, slices.Clone(a.Entry)}, now.Add(q.limits.MaxAge)})
	q.bytes += int64(len(a.Entry))
	if len(a.Dedup) > 0 {
		q.seen[string(a.Dedup)] = memorySeen{q.last, now.Add(DedupTTL)}
	}
	return Result{Seq: q.last}
}

// expire drops entries past their age, and forgotten dedup keys once a minute.
func (q *memoryQueue) expire(now time.Time) {
	n := 0
	for n < len(q.entries) && !now.Before(q.entries[n].expires) {
		n++
	}
	q.drop(n)
	if now.Sub(q.swept) < time.Minute {
		return
	}
	q.swept = now
	for k, s := range q.seen {
		if !now.Before(s.expires) {
			delete(q.seen, k)
		}
	}
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
	q.expire(time.Now())
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
	q.expire(time.Now())
	return Stat{Entries: len(q.entries), Bytes: q.bytes, Last: q.last, Acked: q.acked, Dropped: q.dropped}, nil
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, id ID) (<-chan struct{}, error) {
	if err := m.begin(ctx, id); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	in := make(chan struct{}, 1)
	if m.watchers[id] == nil {
		m.watchers[id] = make(map[chan struct{}]struct{})
	}
	m.watchers[id][in] = struct{}{}
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		defer m.unwatch(id, in)
		for {
			select {
			case <-ctx.Done():
				return
			case <-m.done:
				return
			case <-in:
				select {
				case out <- struct{}{}:
				default:
				}
			}
		}
	}()
	return out, nil
}

func (m *Memory) unwatch(id ID, in chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.watchers[id], in)
	if len(m.watchers[id]) == 0 {
		delete(m.watchers, id)
	}
}

// wake notifies the watchers of a queue; mu is held.
func (m *Memory) wake(id ID) {
	for in := range m.watchers[id] {
		select {
		case in <- struct{}{}:
		default:
		}
	}
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed() {
		close(m.done)
	}
	return nil
}
