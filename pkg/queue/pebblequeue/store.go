// Package pebblequeue is the queue.Store on an embedded Pebble database: one
// process, durable without set-up. A call that changes something returns when
// the change is synced to disk; callers share syncs, and an entry is neither
// read nor reported as a duplicate before it is synced.
//
// Keys, under the prefix of the store:
//
//	s id                          the queue's state (state.go)
//	e incarnation seq             an entry: running total of bytes, then the entry
//	d hour incarnation dedup      number of the entry with that dedup key
//	x time id                     the queue has entries that expire then
//
// An incarnation is a random number per Create, so that nothing of a deleted
// queue can meet a new one of the same name. Expiry is by day: the entries of
// one UTC day expire together, at the end of that day plus the queue's
// MaxAge. From then on they are invisible; a sweep every minute removes them.
// Dedup keys are kept by the hour they came in, and are forgotten when the next
// hour is over. No time is kept with an entry.
package pebblequeue

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/internal/wake"
)

const stripes = 256

// Store implements queue.Store.
type Store struct {
	db       *pebble.DB
	prefix   []byte
	now      func() time.Time
	seed     maphash.Seed
	locks    [stripes]sync.RWMutex // by hash of the queue's id
	watchers wake.Set

	life   sync.RWMutex // held for reading by calls, for writing by Close
	closed bool
	stop   chan struct{}
	wg     sync.WaitGroup

	mu     sync.Mutex // guards synced
	synced map[uint64]*unsynced
}

// unsynced says how far a queue is synced while appends to it are not.
type unsynced struct {
	last  queue.Seq
	total uint64
	calls int
}

var _ queue.Auditor = (*Store)(nil)

// New returns a store of the keys that begin with prefix in db. It does not
// close db; Close must be called before db is closed.
func New(db *pebble.DB, prefix []byte) *Store {
	s := &Store{
		db: db, prefix: bytes.Clone(prefix), now: time.Now, seed: maphash.MakeSeed(),
		stop: make(chan struct{}), synced: make(map[uint64]*unsynced),
	}
	s.wg.Go(s.sweepLoop)
	return s
}

// Close implements queue.Store.
func (s *Store) Close() error {
	s.life.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
		s.watchers.Close()
	}
	s.life.Unlock()
	s.wg.Wait()
	return nil
}

// begin keeps Close waiting until the call ends.
func (s *Store) begin(ctx context.Context) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return nil, queue.ErrClosed
	}
	return s.life.RUnlock, nil
}

// beginOne is begin for a call about one queue.
func (s *Store) beginOne(ctx context.Context, id queue.ID) (end func(), err error) {
	if err := id.Check(); err != nil {
		return nil, err
	}
	return s.begin(ctx)
}

func (s *Store) stripe(id queue.ID) int {
	return int(maphash.String(s.seed, string(id)) % stripes)
}

// key makes a key of one kind. The parts of fixed size come first.
func (s *Store) key(kind byte, numbers []uint64, tail string) []byte {
	k := make([]byte, 0, len(s.prefix)+1+8*len(numbers)+len(tail))
	k = append(append(k, s.prefix...), kind)
	for _, n := range numbers {
		k = binary.BigEndian.AppendUint64(k, n)
	}
	return append(k, tail...)
}

func (s *Store) stateKey(id queue.ID) []byte { return s.key('s', nil, string(id)) }

func (s *Store) entryKey(incarnation uint64, seq queue.Seq) []byte {
	return s.key('e', []uint64{incarnation, uint64(seq)}, "")
}

func (s *Store) dedupKey(hour, incarnation uint64, dedup []byte) []byte {
	return s.key('d', []uint64{hour, incarnation}, string(dedup))
}

func (s *Store) expiryKey(at int64, id queue.ID) []byte {
	return s.key('x', []uint64{uint64(at)}, string(id))
}

// commit writes b, releases the locks as soon as the order of writes is fixed,
// and waits for the sync, which other calls share.
func (s *Store) commit(b *pebble.Batch, unlock func()) error {
	err := s.db.ApplyNoSyncWait(b, pebble.Sync)
	unlock()
	if err != nil {
		return err
	}
	return b.SyncWait()
}

// Create implements queue.Store.
func (s *Store) Create(ctx context.Context, id queue.ID, l queue.Limits) error {
	if err := l.Check(); err != nil {
		return err
	}
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return err
	}
	defer end()
	m := &s.locks[s.stripe(id)]
	m.Lock()
	st, err := s.load(id)
	if err == nil && st != nil {
		err = queue.ErrExists
	}
	if err != nil {
		m.Unlock()
		return err
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // committed or not, it holds nothing else
	if err := b.Set(s.stateKey(id), newState(l.WithDefaults()).marshal(), nil); err != nil {
		m.Unlock()
		return err
	}
	return s.commit(b, m.Unlock)
}

// Delete implements queue.Store.
func (s *Store) Delete(ctx context.Context, id queue.ID) error {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return err
	}
	defer end()
	m := &s.locks[s.stripe(id)]
	m.Lock()
	st, err := s.load(id)
	if err != nil || st == nil {
		m.Unlock()
		return err
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // committed or not, it holds nothing else
	if err := s.erase(b, id, st); err != nil {
		m.Unlock()
		return err
	}
	if err := s.commit(b, m.Unlock); err != nil {
		return err
	}
	s.watchers.Wake(string(id))
	return nil
}

func (s *Store) erase(b *pebble.Batch, id queue.ID, st *state) error {
	for _, d := range st.days {
		if err := b.Delete(s.expiryKey(d.expires, id), nil); err != nil {
			return err
		}
	}
	if st.last > st.acked {
		if err := b.DeleteRange(s.entryKey(st.incarnation, 0), s.entryKey(st.incarnation, st.last+1), nil); err != nil {
			return err
		}
	}
	return b.Delete(s.stateKey(id), nil)
}

// Wake implements queue.Store.
func (s *Store) Wake(ctx context.Context, id queue.ID) error {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return err
	}
	defer end()
	s.watchers.Wake(string(id))
	return nil
}

// Watch implements queue.Store. All appends are made by this process, so that
// no poll is needed.
func (s *Store) Watch(ctx context.Context, id queue.ID) (<-chan struct{}, error) {
	end, err := s.beginOne(ctx, id)
	if err != nil {
		return nil, err
	}
	defer end()
	return s.watchers.Add(ctx, string(id)), nil
}
