package pebblequeue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

const (
	sweepEvery = time.Minute
	// sweepQueues bounds how many queues one sweep looks at; the next one goes on.
	sweepQueues = 10_000
)

func (s *Store) sweepLoop() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			_ = s.sweep() // what did not work is repeated a minute later
		}
	}
}

// sweep removes what is invisible already: expired entries and old dedup keys.
// It does not wait for the disk: after a crash it is done again.
func (s *Store) sweep() error {
	return errors.Join(s.sweepDedup(), s.sweepEntries())
}

func (s *Store) sweepDedup() error {
	first := s.key('d', nil, "")
	end := s.key('d', []uint64{uint64(queue.DedupHour(s.now())) - 1}, "")
	if k, err := s.firstKey(first, end); k == nil || err != nil {
		return err
	}
	return s.db.DeleteRange(first, end, pebble.NoSync)
}

// firstKey returns the first key of a range, nil if it is empty.
func (s *Store) firstKey(first, end []byte) (k []byte, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: first, UpperBound: end})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if !it.First() {
		return nil, it.Error()
	}
	return bytes.Clone(it.Key()), nil
}

func (s *Store) sweepEntries() error {
	keys, err := s.due(s.key('x', nil, ""), s.key('x', []uint64{uint64(s.now().Unix()) + 1}, ""))
	if err != nil {
		return err
	}
	for _, k := range keys {
		select {
		case <-s.stop:
			return nil
		default:
		}
		if err := s.expireQueue(k); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) due(first, end []byte) (keys [][]byte, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: first, UpperBound: end})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok && len(keys) < sweepQueues; ok = it.Next() {
		keys = append(keys, bytes.Clone(it.Key()))
	}
	return keys, it.Error()
}

// expireQueue removes the expired entries of the queue an expiry key names.
func (s *Store) expireQueue(key []byte) error {
	id := queue.ID(key[len(s.prefix)+1+8:])
	m := &s.locks[s.stripe(id)]
	m.Lock()
	defer m.Unlock()
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // committed or not, it holds nothing else
	if err := b.Delete(key, nil); err != nil {
		return err
	}
	before, err := s.load(id)
	if err != nil {
		return err
	}
	if before != nil && len(before.days) > 0 && before.days[0].expires <= int64(binary.BigEndian.Uint64(key[len(s.prefix)+1:])) {
		after := before.clone()
		after.expire(s.now())
		if err := s.save(b, id, before, after); err != nil {
			return err
		}
	}
	return b.Commit(pebble.NoSync)
}
