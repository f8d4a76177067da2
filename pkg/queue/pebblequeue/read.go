package pebblequeue

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// view returns the state as callers may see it now. The caller holds the
// queue's lock.
func (s *Store) view(id queue.ID) (*state, error) {
	st, err := s.load(id)
	if err != nil {
		return nil, err
	}
	if st == nil {
		return nil, queue.ErrNotFound
	}
	st.expire(s.now())
	s.clip(st)
	return st, nil
}

// Read implements queue.Store.
func (s *Store) Read(ctx context.Context, id queue.ID, after queue.Seq, max int) ([]queue.Entry, error) {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return nil, err
	}
	defer end()
	it, first, err := s.iterate(id, after)
	if err != nil || it == nil {
		return nil, err
	}
	es, err := collect(it, first, max)
	return es, errors.Join(err, it.Close())
}

// iterate returns an iterator over the entries after a number, nil if there are
// none. It sees the database as it is while the lock is held.
func (s *Store) iterate(id queue.ID, after queue.Seq) (*pebble.Iterator, queue.Seq, error) {
	m := &s.locks[s.stripe(id)]
	m.RLock()
	defer m.RUnlock()
	st, err := s.view(id)
	if err != nil {
		return nil, 0, err
	}
	first := max(after, st.acked) + 1
	if after >= st.last || first > st.last {
		return nil, 0, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: s.entryKey(st.incarnation, first),
		UpperBound: s.entryKey(st.incarnation, st.last+1),
	})
	return it, first, err
}

func collect(it *pebble.Iterator, first queue.Seq, max int) ([]queue.Entry, error) {
	var es []queue.Entry
	size := 0
	for ok := it.First(); ok && len(es) < max; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		if len(v) < 8 {
			return nil, errFormat
		}
		data := v[8:]
		if size += len(data); len(es) > 0 && size > queue.ReadBytes {
			break
		}
		es = append(es, queue.Entry{Seq: first + queue.Seq(len(es)), Data: append([]byte{}, data...)})
	}
	return es, it.Error()
}

// Ack implements queue.Store.
func (s *Store) Ack(ctx context.Context, id queue.ID, upTo queue.Seq) error {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return err
	}
	defer end()
	m := &s.locks[s.stripe(id)]
	m.Lock()
	before, err := s.load(id)
	if err == nil && before == nil {
		err = queue.ErrNotFound
	}
	if err != nil || min(upTo, before.last) <= before.acked {
		m.Unlock()
		return err
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // committed or not, it holds nothing else
	if err := s.ack(b, id, before, min(upTo, before.last)); err != nil {
		m.Unlock()
		return err
	}
	return s.commit(b, m.Unlock)
}

func (s *Store) ack(b *pebble.Batch, id queue.ID, before *state, upTo queue.Seq) error {
	after := before.clone()
	after.expire(s.now())
	if upTo > after.acked {
		total, err := s.totalAt(after, upTo)
		if err != nil {
			return err
		}
		after.acked, after.ackedTotal = upTo, total
		after.dropDays()
	}
	return s.save(b, id, before, after)
}

// totalAt returns the bytes of all entries up to one that is waiting.
func (s *Store) totalAt(st *state, seq queue.Seq) (uint64, error) {
	if seq == st.last {
		return st.total, nil
	}
	v, closer, err := s.db.Get(s.entryKey(st.incarnation, seq))
	if err != nil {
		return 0, err
	}
	defer func() { _ = closer.Close() }() // releases the value, nothing else
	if len(v) < 8 {
		return 0, errFormat
	}
	return binary.BigEndian.Uint64(v), nil
}

// Stat implements queue.Store.
func (s *Store) Stat(ctx context.Context, id queue.ID) (queue.Stat, error) {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return queue.Stat{}, err
	}
	defer end()
	m := &s.locks[s.stripe(id)]
	m.RLock()
	defer m.RUnlock()
	st, err := s.view(id)
	if err != nil {
		return queue.Stat{}, err
	}
	return queue.Stat{Entries: st.waiting(), Bytes: st.bytes(), Last: st.last, Acked: st.acked, Dropped: st.dropped}, nil
}
