package pebblequeue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/audit"
)

// auditor walks over all rows of a store as they are at one moment. Rows of kind
// s come last in the order of keys, so that they are read first.
type auditor struct {
	s       *Store
	r       *audit.Report
	snap    *pebble.Snapshot
	byQueue map[queue.ID]*state
	byInc   map[uint64]*state
	seen    map[uint64]*seen
	days    map[string]bool // expiry keys that states ask for and were not found yet
	orphans [][]byte
}

// seen is how far the entries of a queue were walked.
type seen struct {
	next  queue.Seq
	total uint64
}

// Audit reads every row and compares it with the others: states decode, their
// numbers agree with each other and with the entries, which have no gaps, and
// every day with entries has the row that lets them expire. With remove it
// deletes what nobody can reach, expired entries included. It can be called
// while the store is in use.
func (s *Store) Audit(ctx context.Context, remove bool) (*audit.Report, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	swept := 0
	if remove {
		if swept, err = s.sweepAll(); err != nil {
			return nil, err
		}
	}
	a := &auditor{
		s: s, r: audit.New(), snap: s.db.NewSnapshot(), byQueue: make(map[queue.ID]*state),
		byInc: make(map[uint64]*state), seen: make(map[uint64]*seen), days: make(map[string]bool),
	}
	a.r.Deleted = swept
	err = errors.Join(a.walk(ctx), a.snap.Close())
	if err != nil || !remove || len(a.orphans) == 0 {
		return a.r, err
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }() // committed or not, it holds nothing else
	for _, k := range a.orphans {
		if err := b.Delete(k, nil); err != nil {
			return nil, err
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return nil, err
	}
	a.r.Deleted += len(a.orphans)
	return a.r, nil
}

// sweepAll sweeps until nothing is due, and returns how many queues had expired
// entries.
func (s *Store) sweepAll() (n int, err error) {
	if err := s.sweepDedup(); err != nil {
		return 0, err
	}
	for {
		keys, err := s.due(s.key('x', nil, ""), s.key('x', []uint64{uint64(s.now().Unix()) + 1}, ""))
		if err != nil || len(keys) == 0 {
			return n, err
		}
		for _, k := range keys {
			if err := s.expireQueue(k); err != nil {
				return n, err
			}
		}
		n += len(keys)
	}
}

func (a *auditor) walk(ctx context.Context) error {
	for k, v := range a.rows(ctx, 's') {
		if v.err != nil {
			return v.err
		}
		a.state(queue.ID(k), v.data)
	}
	for _, kind := range []struct {
		letter byte
		row    func(k, v []byte)
	}{{'e', a.entry}, {'d', a.dedup}, {'x', a.expiry}} {
		for k, v := range a.rows(ctx, kind.letter) {
			if v.err != nil {
				return v.err
			}
			kind.row([]byte(k), v.data)
		}
	}
	for inc, st := range a.byInc {
		if w := a.seen[inc]; st.waiting() > 0 && (w == nil || w.next != st.last+1 || w.total != st.total) {
			a.r.Fault("queue: entries missing at its end")
		}
	}
	for range a.days {
		a.r.Fault("queue: entries that never expire")
	}
	return a.unknown(ctx)
}

// value is a row's value, or why there is none.
type value struct {
	data []byte
	err  error
}

// rows yields the rows of one kind, without prefix and kind.
func (a *auditor) rows(ctx context.Context, kind byte) iter.Seq2[string, value] {
	return func(yield func(string, value) bool) {
		base := a.s.key(kind, nil, "")
		it, err := a.snap.NewIter(&pebble.IterOptions{LowerBound: base, UpperBound: a.s.key(kind+1, nil, "")})
		if err != nil {
			yield("", value{err: err})
			return
		}
		for ok := it.First(); ok; ok = it.Next() {
			v, err := it.ValueAndErr()
			if err == nil {
				err = ctx.Err()
			}
			if !yield(string(it.Key()[len(base):]), value{v, err}) {
				_ = it.Close() // the caller has what it wanted
				return
			}
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			yield("", value{err: err})
		}
	}
}

func (a *auditor) state(id queue.ID, v []byte) {
	a.r.Row("queue")
	st, err := parseState(v)
	if err != nil || id.Check() != nil {
		a.r.Fault("queue: state does not decode")
		return
	}
	a.byQueue[id], a.byInc[st.incarnation] = st, st
	if st.acked > st.last || st.ackedTotal > st.total || st.waiting() > st.limits.MaxEntries || st.bytes() > st.limits.MaxBytes {
		a.r.Fault("queue: counters disagree")
	}
	for _, d := range st.days {
		a.days[string(a.s.expiryKey(d.expires, id))] = true
	}
	if !soundDays(st) {
		a.r.Fault("queue: days disagree with entries")
	}
}

// soundDays reports whether days rise, begin behind what was acknowledged, and
// end at the last entry.
func soundDays(st *state) bool {
	if st.waiting() <= 0 {
		return len(st.days) == 0
	}
	before := day{last: st.acked, total: st.ackedTotal}
	for _, d := range st.days {
		if d.expires <= before.expires || d.last <= before.last || d.total <= before.total {
			return false
		}
		before = d
	}
	return before.last == st.last && before.total == st.total
}

func (a *auditor) entry(k, v []byte) {
	a.r.Row("entry")
	if len(k) != 16 || len(v) <= 8 {
		a.r.Fault("entry: does not decode")
		return
	}
	inc, seq := binary.BigEndian.Uint64(k), queue.Seq(binary.BigEndian.Uint64(k[8:]))
	st := a.byInc[inc]
	if st == nil {
		a.orphan("entry of a deleted queue", 'e', k)
		return
	}
	if seq <= st.acked || seq > st.last {
		a.r.Fault("entry: number outside its queue's")
		return
	}
	w := a.seen[inc]
	if w == nil {
		w = &seen{next: st.acked + 1, total: st.ackedTotal}
		a.seen[inc] = w
	}
	if seq != w.next {
		a.r.Fault("queue: gap between entries")
	} else if binary.BigEndian.Uint64(v) != w.total+uint64(len(v)-8) {
		a.r.Fault("entry: running total is wrong")
	}
	w.next, w.total = seq+1, binary.BigEndian.Uint64(v)
	if slices.ContainsFunc(st.days, func(d day) bool { return seq <= d.last && d.expires <= a.s.now().Unix() }) {
		a.r.Orphan("entry that expired") // the sweep takes it with its queue's counters
	}
}

func (a *auditor) dedup(k, v []byte) {
	a.r.Row("dedup key")
	seq, n := binary.Uvarint(v)
	if len(k) <= 16 || len(k) > 16+queue.MaxDedupKey || n != len(v) || n <= 0 {
		a.r.Fault("dedup key: does not decode")
		return
	}
	hour, st := binary.BigEndian.Uint64(k), a.byInc[binary.BigEndian.Uint64(k[8:])]
	switch {
	case st == nil:
		a.orphan("dedup key of a deleted queue", 'd', k)
	case queue.Seq(seq) > st.last || seq == 0:
		a.r.Fault("dedup key: of an entry that never was")
	case hour+1 < uint64(queue.DedupHour(a.s.now())):
		a.orphan("dedup key that expired", 'd', k)
	}
}

func (a *auditor) expiry(k, _ []byte) {
	a.r.Row("expiry")
	if len(k) <= 8 || len(k) > 8+queue.MaxID {
		a.r.Fault("expiry: does not decode")
		return
	}
	full := string(a.s.key('x', nil, string(k)))
	if a.days[full] {
		delete(a.days, full)
		return
	}
	if st := a.byQueue[queue.ID(k[8:])]; st != nil && len(st.days) > 0 {
		return // of a day that was acknowledged meanwhile: the sweep takes it
	}
	a.orphan("expiry of a queue without entries", 'x', k)
}

func (a *auditor) orphan(what string, kind byte, k []byte) {
	a.r.Orphan(what)
	a.orphans = append(a.orphans, a.s.key(kind, nil, string(k)))
}

// unknown counts rows of no kind.
func (a *auditor) unknown(ctx context.Context) (err error) {
	it, err := a.snap.NewIter(&pebble.IterOptions{LowerBound: a.s.prefix, UpperBound: upperBound(a.s.prefix)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := it.Key()[len(a.s.prefix):]
		if len(k) > 0 && bytes.IndexByte([]byte("sedx"), k[0]) >= 0 {
			ok = it.SeekGE(a.s.key(k[0]+1, nil, ""))
			continue
		}
		a.r.Fault("row of no known kind")
		ok = it.Next()
	}
	return it.Error()
}

// upperBound is the first key behind all that begin with p; nil if there is none.
func upperBound(p []byte) []byte {
	u := bytes.Clone(p)
	for i := len(u) - 1; i >= 0; i-- {
		if u[i] < 0xff {
			u[i]++
			return u[:i+1]
		}
	}
	return nil
}

// Queues yields the ids of all queues, as they are at one moment.
func (s *Store) Queues(ctx context.Context) iter.Seq2[queue.ID, error] {
	return func(yield func(queue.ID, error) bool) {
		end, err := s.begin(ctx)
		if err != nil {
			yield("", err)
			return
		}
		ids, err := s.queues(ctx)
		end()
		for _, id := range ids {
			if !yield(id, nil) {
				return
			}
		}
		if err != nil {
			yield("", err)
		}
	}
}

func (s *Store) queues(ctx context.Context) (ids []queue.ID, err error) {
	a := &auditor{s: s, snap: s.db.NewSnapshot()}
	defer func() { err = errors.Join(err, a.snap.Close()) }()
	for k, v := range a.rows(ctx, 's') {
		if v.err != nil {
			return ids, v.err
		}
		ids = append(ids, queue.ID(k))
	}
	return ids, nil
}
