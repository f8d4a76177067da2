// Package pebblekv is the kv.Store on an embedded Pebble database: one process,
// durable without set-up. Apply returns when the transaction is synced to disk;
// transactions of several callers share a sync.
//
// Keys, under the prefix of the store:
//
//	r len(group) group name              expiry || version || content
//	t minute len(group) group name       the record expires in that minute or before
//	v                                    versions up to here may have been used
//
// Transactions of one group run one after another under a lock, each in one
// batch; a reader of the group waits for the one under way, so that it sees
// nothing that a crash could take back. Expired records are invisible at once,
// and a sweep every minute removes them by the keys of kind t.
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
	kindExpiry  = 't'
	kindVersion = 'v'
	headerSize  = 16
	// reserve is how many versions are claimed on disk at once: after a crash
	// numbering goes on behind them.
	reserve = 1 << 20
)

// Store implements kv.Store.
type Store struct {
	db     *pebble.DB
	prefix []byte
	now    func() time.Time
	seed   maphash.Seed
	groups [256]sync.RWMutex // by hash of the group

	life   sync.RWMutex // held for reading by calls, for writing by Close
	closed bool
	stop   chan struct{}
	wg     sync.WaitGroup

	mu       sync.Mutex // guards below
	last     uint64
	reserved uint64
}

var _ kv.Auditor = (*Store)(nil)

// New returns a store of the keys that begin with prefix in db. It does not
// close db; Close must be called before db is closed.
func New(db *pebble.DB, prefix []byte) (*Store, error) {
	s := &Store{db: db, prefix: bytes.Clone(prefix), now: time.Now, seed: maphash.MakeSeed(), stop: make(chan struct{})}
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
	s.wg.Go(s.sweepLoop)
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
	m := s.group(key.Group)
	m.RLock()
	defer m.RUnlock()
	r, err := s.read(key, s.now())
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
	m.RLock() // no transaction of the group comes between the reads
	defer m.RUnlock()
	rs := make([]kv.Record, len(names))
	now := s.now()
	for i, n := range names {
		if rs[i], err = s.read(kv.Key{Group: group, Name: n}, now); err != nil {
			return nil, err
		}
	}
	return rs, nil
}

func (s *Store) group(group string) *sync.RWMutex {
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
	now := s.now()
	if err := s.check(ops, now); err != nil {
		return nil, err
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // committed or not, it holds nothing else
	vs := make([]kv.Version, len(ops))
	for i, op := range ops {
		if op.Value != nil {
			vs[i] = kv.Version(first + uint64(i))
		}
		if err := s.put(b, op, vs[i], now); err != nil {
			return nil, err
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return nil, err
	}
	return vs, nil
}

// check compares versions. The caller holds the group's lock.
func (s *Store) check(ops []kv.Op, now time.Time) error {
	for _, op := range ops {
		if !op.Check {
			continue
		}
		r, err := s.read(op.Key, now)
		if err != nil {
			return err
		}
		if r.Version != op.Old {
			return kv.ErrConflict
		}
	}
	return nil
}

// put adds one write to a batch.
func (s *Store) put(b *pebble.Batch, op kv.Op, v kv.Version, now time.Time) error {
	if op.Value == nil {
		return b.Delete(s.recordKey(op.Key), nil)
	}
	if op.TTL > 0 {
		if err := b.Set(s.expiryKey(op.Key, now.Add(op.TTL)), nil, nil); err != nil {
			return err
		}
	}
	return b.Set(s.recordKey(op.Key), marshal(op, uint64(v), now), nil)
}

// Scan implements kv.Store, over a snapshot of the moment it begins.
func (s *Store) Scan(ctx context.Context, group, prefix string) iter.Seq2[kv.Record, error] {
	return func(yield func(kv.Record, error) bool) {
		if err := kv.CheckScan(group, prefix); err != nil {
			yield(kv.Record{}, err)
			return
		}
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
	m := s.group(group)
	m.RLock() // the iterator sees the database as it is now
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: successor(lower)})
	m.RUnlock()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	now := s.now()
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
	now := s.now()
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
