package pebblekv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/queue/audit"
)

// Audit reads every row: keys and headers decode, no version is beyond those
// that were claimed, and every record that expires has the row by which the
// sweep finds it. With remove it deletes what has expired. It can be called
// while the store is in use.
func (s *Store) Audit(ctx context.Context, remove bool) (*audit.Report, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	r := audit.New()
	if remove {
		if r.Deleted, err = s.sweepAll(); err != nil {
			return nil, err
		}
	}
	snap := s.db.NewSnapshot()
	err = s.audit(ctx, snap, r)
	return r, errors.Join(err, snap.Close())
}

// sweepAll sweeps until nothing is due.
func (s *Store) sweepAll() (n int, err error) {
	for {
		keys, err := s.due()
		if err != nil || len(keys) == 0 {
			return n, err
		}
		for _, k := range keys {
			if err := s.expire(k); err != nil {
				return n, err
			}
		}
		n += len(keys)
	}
}

func (s *Store) audit(ctx context.Context, snap *pebble.Snapshot, r *audit.Report) (err error) {
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: s.prefix, UpperBound: successor(s.prefix)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	claimed, err := claimed(snap, s.key(kindVersion))
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		k := it.Key()[len(s.prefix):]
		switch {
		case len(k) > 0 && k[0] == kindRecord:
			if err := s.auditRecord(snap, k[1:], v, claimed, r); err != nil {
				return err
			}
		case len(k) > 0 && k[0] == kindExpiry:
			r.Row("expiry")
			if _, ok := parseName(k[min(len(k), 9):]); !ok {
				r.Fault("expiry: does not decode")
			}
		case bytes.Equal(k, []byte{kindVersion}):
			r.Row("versions")
		default:
			r.Fault("row of no known kind")
		}
	}
	return it.Error()
}

// claimed returns the highest version that may have been used.
func claimed(snap *pebble.Snapshot, key []byte) (uint64, error) {
	v, closer, err := snap.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = closer.Close() }() // releases the value, nothing else
	if len(v) != 8 {
		return 0, nil // then every record has a version beyond it
	}
	return binary.BigEndian.Uint64(v), nil
}

func (s *Store) auditRecord(snap *pebble.Snapshot, name, v []byte, claimed uint64, r *audit.Report) error {
	r.Row("record")
	k, ok := parseName(name)
	if !ok || len(v) < headerSize || len(v) > headerSize+kv.MaxValue {
		r.Fault("record: does not decode")
		return nil
	}
	if version := binary.BigEndian.Uint64(v[8:]); version == 0 || version > claimed {
		r.Fault("record: version was never claimed")
	}
	expires := binary.BigEndian.Uint64(v)
	if expires == 0 {
		return nil
	}
	if expires <= uint64(s.now().UnixMilli()) {
		r.Orphan("record that expired")
	}
	_, closer, err := snap.Get(s.expiryKeyMilli(k, expires))
	if errors.Is(err, pebble.ErrNotFound) {
		r.Fault("record: expires, and no sweep would find it")
		return nil
	}
	if err != nil {
		return err
	}
	return closer.Close()
}

// parseName splits the name of a record as keys have it.
func parseName(b []byte) (kv.Key, bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return kv.Key{}, false
	}
	n := int(b[0])
	k := kv.Key{Group: string(b[1 : 1+n]), Name: string(b[1+n:])}
	return k, k.Check() == nil
}
