// Package pebblekv is the kv.Store on an embedded Pebble database: one process,
// durable without set-up. Apply returns when the transaction is synced to disk;
// transactions of several callers share a sync.
//
// A record is one key, prefix || 'r' || len(group) || group || name, with the
// value expiry || version || content. Transactions of one group run one after
// another under a lock; the database is written in one batch each. Expired
// records are invisible at once and removed by a sweep.
package pebblekv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"iter"
	"math"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/internal/kv"
)

const (
	kindRecord  = 'r'
	kindVersion = 'v'
	headerSize  = 16
	// reserve is how many versions are claimed on disk at once: after a crash
	// numbering goes on behind them.
	reserve = 1 << 20
	// sweepEvery and sweepKeys bound the work of removing expired records.
	sweepEvery = time.Minute
	sweepKeys  = 100_000
)

// Store implements kv.Store.
type Store struct {
	db     *pebble.DB
	prefix []byte
	seed   maphash.Seed
	groups [256]sync.Mutex // by hash of the group

	life   sync.RWMutex // held for reading by calls, for writing by Close
	closed bool
	stop   chan struct{}
	wg     sync.WaitGroup

	mu       sync.Mutex // guards below
	last     uint64
	reserved uint64
}

var _ kv.Store = (*Store)(nil)

// New returns a store under prefix in db, which it does not close.
func New(db *pebble.DB, prefix []byte) (*Store, error) {
	s := &Store{db: db, prefix: bytes.Clone(prefix), seed: maphash.MakeSeed(), stop: make(chan struct{})}
	v, closer, err := db.Get(s.key(kindVersion))
	switch {
	case err == nil:
		s.last = binary.BigEndian.Uint64(v)
		s.reserved = s.last
		if err := closer.Close(); err != nil {
			return nil, err
		}
	case !errors.Is(err, pebble.ErrNotFound):
		return nil, err
	}
	s.wg.Go(s.sweep)
	return s, nil
}

func (s *Store) key(kind byte, parts ...[]byte) []byte {
	k := append(bytes.Clone(s.prefix), kind)
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

func (s *Store) groupPrefix(group string) []byte {
	return s.key(kindRecord, []byte{byte(len(group))}, []byte(group))
}

func (s *Store) recordKey(k kv.Key) []byte { return append(s.groupPrefix(k.Group), k.Name...) }

// versions claims n numbers that were never used.
func (s *Store) versions(n int) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last+uint64(n) > s.reserved {
		next := s.last + uint64(n) + reserve
		if err := s.db.Set(s.key(kindVersion), binary.BigEndian.AppendUint64(nil, next), pebble.Sync); err != nil {
			return 0, err
		}
		s.reserved = next
	}
	first := s.last + 1
	s.last += uint64(n)
	return first, nil
}

// begin keeps Close waiting until the call ends.
func (s *Store) begin(ctx context.Context) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return nil, kv.ErrClosed
	}
	return s.life.RUnlock, nil
}

func marshal(op kv.Op, version uint64, now time.Time) []byte {
	expires := uint64(0)
	if op.TTL > 0 {
		expires = uint64(now.Add(op.TTL).UnixMilli())
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, headerSize+len(op.Value)), expires)
	b = binary.BigEndian.AppendUint64(b, version)
	return append(b, op.Value...)
}

// parse splits a stored value; live reports whether it has not expired.
func parse(b []byte, now time.Time) (value []byte, version kv.Version, live bool) {
	if len(b) < headerSize {
		return nil, 0, false
	}
	expires := binary.BigEndian.Uint64(b)
	if expires != 0 && expires <= uint64(now.UnixMilli()) {
		return nil, 0, false
	}
	return b[headerSize:], kv.Version(binary.BigEndian.Uint64(b[8:])), true
}

func (s *Store) read(key kv.Key, now time.Time) (kv.Record, error) {
	b, closer, err := s.db.Get(s.recordKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return kv.Record{Key: key}, nil
	}
	if err != nil {
		return kv.Record{}, err
	}
	defer func() { _ = closer.Close() }() // releases the value, nothing else
	r := kv.Record{Key: key}
	if v, version, live := parse(b, now); live {
		r.Value, r.Version = append([]byte{}, v...), version
	}
	return r, nil
}

// Get implements kv.Store.
func (s *Store) Get(ctx context.Context, key kv.Key) (kv.Record, error) {
	if err := key.Check(); err != nil {
		return kv.Record{}, err
	}
	end, err := s.begin(ctx)
	if err != nil {
		return kv.Record{}, err
	}
	defer end()
	r, err := s.read(key, time.Now())
	if err == nil && r.Version == 0 {
		return kv.Record{}, kv.ErrNotFound
	}
	return r, err
}

// GetMany implements kv.Store.
func (s *Store) GetMany(ctx context.Context, group string, names []string) ([]kv.Record, error) {
	for _, n := range names {
		if err := (kv.Key{Group: group, Name: n}).Check(); err != nil {
			return nil, err
		}
	}
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	m := s.group(group)
	m.Lock() // no transaction of the group comes between the reads
	defer m.Unlock()
	rs := make([]kv.Record, len(names))
	now := time.Now()
	for i, n := range names {
		if rs[i], err = s.read(kv.Key{Group: group, Name: n}, now); err != nil {
			return nil, err
		}
	}
	return rs, nil
}

func (s *Store) group(group string) *sync.Mutex {
	return &s.groups[maphash.String(s.seed, group)%uint64(len(s.groups))]
}

// Apply implements kv.Store.
func (s *Store) Apply(ctx context.Context, ops []kv.Op) ([]kv.Version, error) {
	if err := kv.CheckOps(ops); err != nil {
		return nil, err
	}
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if len(ops) == 0 {
		return nil, nil
	}
	first, err := s.versions(len(ops))
	if err != nil {
		return nil, err
	}
	m := s.group(ops[0].Key.Group)
	m.Lock()
	defer m.Unlock()
	now := time.Now()
	for _, op := range ops {
		if !op.Check {
			continue
		}
		r, err := s.read(op.Key, now)
		if err != nil {
			return nil, err
		}
		if r.Version != op.Old {
			return nil, kv.ErrConflict
		}
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // committed or not, it holds nothing else
	vs := make([]kv.Version, len(ops))
	for i, op := range ops {
		if op.Value == nil {
			err = b.Delete(s.recordKey(op.Key), nil)
		} else {
			vs[i] = kv.Version(first + uint64(i))
			err = b.Set(s.recordKey(op.Key), marshal(op, uint64(vs[i]), now), nil)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return nil, err
	}
	return vs, nil
}

// Scan implements kv.Store, over a snapshot of the moment it begins.
func (s *Store) Scan(ctx context.Context, group, prefix string) iter.Seq2[kv.Record, error] {
	return func(yield func(kv.Record, error) bool) {
		end, err := s.begin(ctx)
		if err != nil {
			yield(kv.Record{}, err)
			return
		}
		rs, err := s.scan(ctx, group, prefix)
		end()
		for _, r := range rs {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(kv.Record{}, err)
		}
	}
}

// scan collects the records, so that the caller may write while it walks them
// and Close need not wait for it.
func (s *Store) scan(ctx context.Context, group, prefix string) (rs []kv.Record, err error) {
	base := s.groupPrefix(group)
	lower := append(bytes.Clone(base), prefix...)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: successor(lower)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	now := time.Now()
	for it.First(); it.Valid(); it.Next() {
		if err := ctx.Err(); err != nil {
			return rs, err
		}
		if v, version, live := parse(it.Value(), now); live {
			rs = append(rs, kv.Record{Key: kv.Key{Group: group, Name: string(it.Key()[len(base):])}, Value: append([]byte{}, v...), Version: version})
		}
	}
	return rs, it.Error()
}

// Groups implements kv.Store: it jumps from group to group.
func (s *Store) Groups(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		end, err := s.begin(ctx)
		if err != nil {
			yield("", err)
			return
		}
		gs, err := s.listGroups(ctx, prefix)
		end()
		for _, g := range gs {
			if !yield(g, nil) {
				return
			}
		}
		if err != nil {
			yield("", err)
		}
	}
}

func (s *Store) listGroups(ctx context.Context, prefix string) (gs []string, err error) {
	base := s.key(kindRecord)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: base, UpperBound: successor(base)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	now := time.Now()
	for ok := it.First(); ok; {
		if err := ctx.Err(); err != nil {
			return gs, err
		}
		k := it.Key()[len(base):]
		n := int(k[0])
		group := string(k[1 : 1+n])
		_, _, live := parse(it.Value(), now)
		switch {
		case !live:
			ok = it.Next() // another record of the group may live
		default:
			if len(group) >= len(prefix) && group[:len(prefix)] == prefix {
				gs = append(gs, group)
			}
			ok = it.SeekGE(successor(s.groupPrefix(group)))
		}
	}
	return gs, it.Error()
}

// successor is the first key behind all keys that begin with p.
func successor(p []byte) []byte {
	u := bytes.Clone(p)
	for i := len(u) - 1; i >= 0; i-- {
		if u[i] < math.MaxUint8 {
			u[i]++
			return u[:i+1]
		}
	}
	return nil
}

// sweep removes expired records, a bounded number of keys at a time.
func (s *Store) sweep() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	var from []byte
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			from = s.sweepFrom(from)
		}
	}
}

// sweepFrom looks at sweepKeys keys from a place on and returns where it stopped,
// nil at the end.
func (s *Store) sweepFrom(from []byte) []byte {
	base := s.key(kindRecord)
	if from == nil {
		from = base
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: successor(base)})
	if err != nil {
		return nil // the next sweep begins again
	}
	defer func() { _ = it.Close() }() // its errors end the sweep early, no more
	now := time.Now()
	n := 0
	for it.First(); it.Valid(); it.Next() {
		if n++; n > sweepKeys {
			return bytes.Clone(it.Key())
		}
		if _, _, live := parse(it.Value(), now); live {
			continue
		}
		s.expire(bytes.Clone(it.Key()))
	}
	return nil
}

// expire removes one record if it is still expired: a transaction may have
// written it again.
func (s *Store) expire(key []byte) {
	rest := key[len(s.prefix)+1:]
	m := s.group(string(rest[1 : 1+int(rest[0])]))
	m.Lock()
	defer m.Unlock()
	b, closer, err := s.db.Get(key)
	if err != nil {
		return
	}
	_, _, live := parse(b, time.Now())
	_ = closer.Close() // releases the value, nothing else
	if !live {
		_ = s.db.Delete(key, pebble.NoSync) // the next sweep repeats what did not work
	}
}

// Close implements kv.Store.
func (s *Store) Close() error {
	s.life.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	s.life.Unlock()
	s.wg.Wait()
	return nil
}
