package pebblekv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/internal/kv"
)

const (
	sweepEvery = time.Minute
	// sweepRecords bounds how many records one sweep looks at; the next one goes on.
	sweepRecords = 100_000
)

// expiryKey names a record by the first full minute after its expiry, so that
// one that is renewed often has few such keys.
func (s *Store) expiryKey(k kv.Key, at time.Time) []byte {
	return s.expiryKeyMilli(k, uint64(at.UnixMilli()))
}

// expiryKeyMilli is expiryKey with the time as a record has it.
func (s *Store) expiryKeyMilli(k kv.Key, at uint64) []byte {
	b := binary.BigEndian.AppendUint64(s.key(kindExpiry), at/60_000+1)
	b = append(b, byte(len(k.Group)))
	return append(append(b, k.Group...), k.Name...)
}

func (s *Store) parseExpiryKey(b []byte) kv.Key {
	b = b[len(s.prefix)+1+8:]
	n := int(b[0])
	return kv.Key{Group: string(b[1 : 1+n]), Name: string(b[1+n:])}
}

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

// sweep removes what is invisible already. It does not wait for the disk: after
// a crash it is done again.
func (s *Store) sweep() error {
	keys, err := s.due()
	if err != nil {
		return err
	}
	for _, k := range keys {
		select {
		case <-s.stop:
			return nil
		default:
		}
		if err := s.expire(k); err != nil {
			return err
		}
	}
	return nil
}

// due returns the expiry keys whose minute has come.
func (s *Store) due() (keys [][]byte, err error) {
	base := s.key(kindExpiry)
	end := binary.BigEndian.AppendUint64(bytes.Clone(base), uint64(s.now().Unix()/60)+1)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: base, UpperBound: end})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok && len(keys) < sweepRecords; ok = it.Next() {
		keys = append(keys, bytes.Clone(it.Key()))
	}
	return keys, it.Error()
}

// expire removes an expiry key, and its record unless that was written again.
func (s *Store) expire(key []byte) error {
	k := s.parseExpiryKey(key)
	m := s.group(k.Group)
	m.Lock()
	defer m.Unlock()
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // committed or not, it holds nothing else
	if err := b.Delete(key, nil); err != nil {
		return err
	}
	r, err := s.read(k, s.now())
	if err != nil {
		return err
	}
	if r.Version == 0 {
		if err := b.Delete(s.recordKey(k), nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.NoSync)
}
