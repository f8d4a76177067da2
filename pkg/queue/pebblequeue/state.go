package pebblequeue

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// stateFormat is the first byte of a state. Pebble's format as a whole has a
// version too; this one is for changes of this package alone.
const stateFormat = 1

// errFormat reports a state this program cannot read.
var errFormat = errors.New("pebblequeue: unknown format of a queue's state: it was written by a newer version or is damaged")

// state is everything about a queue but its entries and dedup keys.
type state struct {
	incarnation uint64
	limits      queue.Limits
	last        queue.Seq // number of the newest entry
	acked       queue.Seq // entries up to here are gone
	total       uint64    // bytes of entries 1 … last
	ackedTotal  uint64    // bytes of entries 1 … acked
	dropped     uint64
	days        []day // ascending; only days with entries that are waiting
}

// day is where the entries of one UTC day end.
type day struct {
	expires int64 // when they expire, in Unix seconds
	last    queue.Seq
	total   uint64
}

func newState(l queue.Limits) *state {
	var r [8]byte
	_, _ = rand.Read(r[:]) // never fails
	return &state{incarnation: binary.BigEndian.Uint64(r[:]), limits: l}
}

func (st *state) waiting() int { return int(st.last - st.acked) }

func (st *state) bytes() int64 { return int64(st.total - st.ackedTotal) }

// expire moves acked past the days that are over.
func (st *state) expire(now time.Time) {
	for _, d := range st.days {
		if d.expires > now.Unix() {
			break
		}
		if d.last > st.acked {
			st.acked, st.ackedTotal = d.last, d.total
		}
	}
	st.dropDays()
}

// dropDays forgets the days of which nothing is waiting.
func (st *state) dropDays() {
	for len(st.days) > 0 && st.days[0].last <= st.acked {
		st.days = st.days[1:]
	}
}

// add counts one entry of n bytes.
func (st *state) add(n int, now time.Time) {
	st.last++
	st.total += uint64(n)
	at := st.limits.ExpiresAt(now).Unix()
	if len(st.days) > 0 {
		// A clock that went back must not make a later day expire first.
		if d := &st.days[len(st.days)-1]; d.expires >= at {
			d.last, d.total = st.last, st.total
			return
		}
	}
	st.days = append(st.days, day{expires: at, last: st.last, total: st.total})
}

func (st *state) marshal() []byte {
	b := append(make([]byte, 0, 96), stateFormat)
	b = binary.BigEndian.AppendUint64(b, st.incarnation)
	for _, n := range []uint64{
		uint64(st.limits.MaxEntries), uint64(st.limits.MaxBytes), uint64(st.limits.MaxAge),
		uint64(st.last), uint64(st.acked), st.total, st.ackedTotal, st.dropped, uint64(len(st.days)),
	} {
		b = binary.AppendUvarint(b, n)
	}
	for _, d := range st.days {
		b = binary.AppendUvarint(b, uint64(d.expires))
		b = binary.AppendUvarint(b, uint64(d.last))
		b = binary.AppendUvarint(b, d.total)
	}
	return b
}

func parseState(b []byte) (*state, error) {
	if len(b) < 9 || b[0] != stateFormat {
		return nil, errFormat
	}
	st := &state{incarnation: binary.BigEndian.Uint64(b[1:])}
	b = b[9:]
	bad := false
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	st.limits = queue.Limits{MaxEntries: int(next()), MaxBytes: int64(next()), MaxAge: time.Duration(next())}
	st.last, st.acked = queue.Seq(next()), queue.Seq(next())
	st.total, st.ackedTotal, st.dropped = next(), next(), next()
	for n := next(); n > 0 && !bad; n-- {
		st.days = append(st.days, day{int64(next()), queue.Seq(next()), next()})
	}
	if bad || len(b) != 0 {
		return nil, errFormat
	}
	return st, nil
}

// load reads a queue's state; nil if there is no such queue. The caller holds
// the queue's lock.
func (s *Store) load(id queue.ID) (*state, error) {
	v, closer, err := s.db.Get(s.stateKey(id))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = closer.Close() }() // releases the value, nothing else
	return parseState(v)
}

// manyEntries is where deleting a range is cheaper than deleting its entries:
// a range deletion slows all reads down until it is compacted away.
const manyEntries = 256

// save writes a queue's state, and deletes the entries and the expiry keys
// that it no longer has compared with before.
func (s *Store) save(b *pebble.Batch, id queue.ID, before, after *state) error {
	first, end := before.acked+1, after.acked+1
	if end > first+manyEntries {
		if err := b.DeleteRange(s.entryKey(after.incarnation, first), s.entryKey(after.incarnation, end), nil); err != nil {
			return err
		}
		first = end
	}
	for ; first < end; first++ {
		if err := b.Delete(s.entryKey(after.incarnation, first), nil); err != nil {
			return err
		}
	}
	for _, d := range before.days {
		if len(after.days) > 0 && d.expires >= after.days[0].expires {
			break
		}
		if err := b.Delete(s.expiryKey(d.expires, id), nil); err != nil {
			return err
		}
	}
	for _, d := range after.days {
		if len(before.days) > 0 && d.expires <= before.days[len(before.days)-1].expires {
			continue
		}
		if err := b.Set(s.expiryKey(d.expires, id), nil, nil); err != nil {
			return err
		}
	}
	return b.Set(s.stateKey(id), after.marshal(), nil)
}

func (st *state) clone() *state {
	c := *st
	c.days = append([]day(nil), st.days...)
	return &c
}
