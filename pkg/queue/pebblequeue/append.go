package pebblequeue

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// appendQueue is one queue of a batch that is being appended.
type appendQueue struct {
	id            queue.ID
	before, after *state // nil: no such queue
	stored        bool
	dirty         bool
	seen          map[string]queue.Seq // dedup keys of this batch
}

// AppendBatch implements queue.Store: one Pebble batch, one sync.
func (s *Store) AppendBatch(ctx context.Context, batch []queue.Append) ([]queue.Result, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	rs := make([]queue.Result, len(batch))
	unlock := s.lockAll(batch, rs)
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // committed or not, it holds nothing else
	qs, err := s.fill(b, batch, rs)
	if err != nil {
		unlock()
		return nil, err
	}
	if b.Empty() {
		unlock()
		return rs, nil
	}
	s.hold(qs)
	err = s.commit(b, unlock)
	s.release(qs, err == nil)
	if err != nil {
		return nil, err
	}
	for _, q := range qs {
		if q.stored {
			s.watchers.Wake(string(q.id))
		}
	}
	return rs, nil
}

// lockAll checks the entries and locks the queues of those that are in order.
func (s *Store) lockAll(batch []queue.Append, rs []queue.Result) (unlock func()) {
	var need [stripes]bool
	for i, a := range batch {
		if rs[i].Err = a.Check(); rs[i].Err == nil {
			need[s.stripe(a.Queue)] = true
		}
	}
	for i := range need { // in one order everywhere, so that calls do not block each other
		if need[i] {
			s.locks[i].Lock()
		}
	}
	return func() {
		for i := range need {
			if need[i] {
				s.locks[i].Unlock()
			}
		}
	}
}

// fill decides about every entry and puts into b what is to be written.
func (s *Store) fill(b *pebble.Batch, batch []queue.Append, rs []queue.Result) ([]*appendQueue, error) {
	now := s.now()
	byID := make(map[queue.ID]*appendQueue)
	var qs []*appendQueue
	for i, a := range batch {
		if rs[i].Err != nil {
			continue
		}
		q := byID[a.Queue]
		if q == nil {
			var err error
			if q, err = s.open(a.Queue, now); err != nil {
				return nil, err
			}
			byID[a.Queue] = q
			qs = append(qs, q)
		}
		var err error
		if rs[i], err = s.appendOne(b, q, a, now); err != nil {
			return nil, err
		}
	}
	for _, q := range qs {
		if !q.dirty {
			continue
		}
		if err := s.save(b, q.id, q.before, q.after); err != nil {
			return nil, err
		}
	}
	return qs, nil
}

func (s *Store) open(id queue.ID, now time.Time) (*appendQueue, error) {
	before, err := s.load(id)
	if err != nil || before == nil {
		return &appendQueue{id: id}, err
	}
	after := before.clone()
	after.expire(now)
	return &appendQueue{id: id, before: before, after: after}, nil
}

func (s *Store) appendOne(b *pebble.Batch, q *appendQueue, a queue.Append, now time.Time) (queue.Result, error) {
	st := q.after
	if st == nil {
		return queue.Result{Err: queue.ErrNotFound}, nil
	}
	if len(a.Dedup) > 0 {
		seq, err := s.lookup(q, a.Dedup, now)
		if err != nil {
			return queue.Result{}, err
		}
		if seq != 0 {
			// The caller may be told of a duplicate when the first is durable: a write
			// of ours is synced after it.
			q.dirty = q.dirty || !s.isSynced(st.incarnation, seq)
			return queue.Result{Seq: seq, Duplicate: true}, nil
		}
	}
	q.dirty = true
	if st.waiting() >= st.limits.MaxEntries || st.bytes()+int64(len(a.Entry)) > st.limits.MaxBytes {
		st.dropped++
		return queue.Result{Err: queue.ErrFull}, nil
	}
	st.add(len(a.Entry), now)
	q.stored = true
	value := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(a.Entry)), st.total)
	if err := b.Set(s.entryKey(st.incarnation, st.last), append(value, a.Entry...), nil); err != nil {
		return queue.Result{}, err
	}
	if len(a.Dedup) == 0 {
		return queue.Result{Seq: st.last}, nil
	}
	if q.seen == nil {
		q.seen = make(map[string]queue.Seq)
	}
	q.seen[string(a.Dedup)] = st.last
	return queue.Result{Seq: st.last}, b.Set(s.dedupKey(uint64(queue.DedupHour(now)), st.incarnation, a.Dedup), binary.AppendUvarint(nil, uint64(st.last)), nil)
}

// lookup returns the number of the entry with a dedup key, 0 if it is new.
func (s *Store) lookup(q *appendQueue, dedup []byte, now time.Time) (queue.Seq, error) {
	if seq, ok := q.seen[string(dedup)]; ok {
		return seq, nil
	}
	h := uint64(queue.DedupHour(now))
	for _, h := range [...]uint64{h, h - 1} {
		v, closer, err := s.db.Get(s.dedupKey(h, q.after.incarnation, dedup))
		if errors.Is(err, pebble.ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, err
		}
		seq, n := binary.Uvarint(v)
		_ = closer.Close() // releases the value, nothing else
		if n <= 0 {
			return 0, errFormat
		}
		return queue.Seq(seq), nil
	}
	return 0, nil
}

// hold notes how far the queues are synced before entries of this batch become
// visible in the database. The caller holds their locks.
func (s *Store) hold(qs []*appendQueue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range qs {
		if !q.stored {
			continue
		}
		u := s.synced[q.before.incarnation]
		if u == nil {
			u = &unsynced{last: q.before.last, total: q.before.total}
			s.synced[q.before.incarnation] = u
		}
		u.calls++
	}
}

// release undoes hold. Syncs are in the order of writes, so that everything up
// to the last entry of this batch is synced if it is.
func (s *Store) release(qs []*appendQueue, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range qs {
		if !q.stored {
			continue
		}
		u := s.synced[q.before.incarnation]
		if ok && q.after.last > u.last {
			u.last, u.total = q.after.last, q.after.total
		}
		if u.calls--; u.calls == 0 {
			delete(s.synced, q.before.incarnation)
		}
	}
}

func (s *Store) isSynced(incarnation uint64, seq queue.Seq) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.synced[incarnation]
	return u == nil || seq <= u.last
}

// clip hides what is not synced yet. The caller holds the queue's lock.
func (s *Store) clip(st *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.synced[st.incarnation]
	if u == nil || u.last >= st.last {
		return
	}
	st.last, st.total = max(u.last, st.acked), max(u.total, st.ackedTotal)
}
