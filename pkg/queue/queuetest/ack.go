package queuetest

import (
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Idempotent: a dedup key stores one entry, for an hour at least, whether the
// entry is still there or not; keys of queues are apart.
func Idempotent(t *testing.T, open Open) {
	s := open(t)
	create(t, s, "a", queue.Limits{})
	create(t, s, "b", queue.Limits{})
	again := func(id queue.ID, dedup string, first queue.Seq) {
		t.Helper()
		r, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: id, Entry: []byte("other"), Dedup: []byte(dedup)})
		if err != nil || !r.Duplicate || r.Seq != first && r.Seq != 0 {
			t.Fatalf("repeated append = %+v, %v, want a duplicate of %d", r, err, first)
		}
	}
	equal(t, "number", add(t, s, "a", "1", "k"), queue.Seq(1))
	again("a", "k", 1)
	equal(t, "number", add(t, s, "a", "2", "K"), queue.Seq(2))
	equal(t, "number", add(t, s, "b", "1", "k"), queue.Seq(1))
	again("a", "k", 1)
	equal(t, "number", add(t, s, "a", "3", ""), queue.Seq(3))
	equal(t, "number", add(t, s, "a", "4", ""), queue.Seq(4)) // no key, no duplicate
	equal(t, "entries", read(t, s, "a", 0, 10), entries{{1, "1"}, {2, "2"}, {3, "3"}, {4, "4"}})
	ack(t, s, "a", 4)
	again("a", "k", 1)
	again("a", "K", 2)
	equal(t, "Stat", stat(t, s, "a"), queue.Stat{Last: 4, Acked: 4})

	// More keys than any fast path for few of them.
	create(t, s, "many", queue.Limits{})
	for range 2 {
		var batch []queue.Append
		for i := 1; i <= 400; i++ {
			batch = append(batch, queue.Append{Queue: "many", Entry: []byte(entry(i)), Dedup: []byte(entry(i))})
		}
		appendAll(t, s, batch)
	}
	equal(t, "entries with keys", read(t, s, "many", 0, 1000), numbered(1, 400))
	for i := 1; i <= 400; i += 7 {
		again("many", entry(i), queue.Seq(i))
	}

	// What was refused is not a duplicate later.
	create(t, s, "full", queue.Limits{MaxEntries: 1})
	add(t, s, "full", "1", "x")
	_, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "full", Entry: []byte("2"), Dedup: []byte("y")})
	wantErr(t, "a full queue", err, queue.ErrFull)
	again("full", "x", 1)
	ack(t, s, "full", 1)
	equal(t, "number", add(t, s, "full", "2", "y"), queue.Seq(2))

	c, ok := s.(Clock)
	if !ok {
		return
	}
	for range 4 { // in four steps, since keys may be kept by the hour
		again("a", "k", 1)
		again("many", entry(1), 1)
		again("many", entry(400), 400)
		c.Advance(queue.DedupTTL / 4)
	}
	again("a", "k", 1)
	again("many", entry(1), 1)
	c.Advance(queue.DedupTTL)
	equal(t, "number of an entry whose key is forgotten", add(t, s, "a", "5", "k"), queue.Seq(5))
	equal(t, "number of an entry whose key is forgotten", add(t, s, "many", "401", entry(1)), queue.Seq(401))
	again("a", "k", 5)
}

// Ack: cumulative, idempotent, and it may run ahead without effect.
func Ack(t *testing.T, open Open) {
	s := open(t)
	create(t, s, "q", queue.Limits{})
	ack(t, s, "q", 3) // nothing to acknowledge
	fill(t, s, "q", 10)
	equal(t, "entries", read(t, s, "q", 0, 100), numbered(1, 10))
	for _, upTo := range []queue.Seq{0, 4, 4, 2, 0} {
		ack(t, s, "q", upTo)
	}
	equal(t, "entries", read(t, s, "q", 0, 100), numbered(5, 10))
	equal(t, "entries after 2", read(t, s, "q", 2, 100), numbered(5, 10))
	equal(t, "entries after 7", read(t, s, "q", 7, 100), numbered(8, 10))
	equal(t, "Stat", stat(t, s, "q"), queue.Stat{Entries: 6, Bytes: int64(5*len(entry(5)) + len(entry(10))), Last: 10, Acked: 4})
	ack(t, s, "q", 1<<60)
	equal(t, "Stat", stat(t, s, "q"), queue.Stat{Last: 10, Acked: 10})
	equal(t, "entries", read(t, s, "q", 0, 100), entries{})
	equal(t, "number", add(t, s, "q", entry(11), ""), queue.Seq(11))
	equal(t, "entries", read(t, s, "q", 0, 100), numbered(11, 11))
	ack(t, s, "q", 10)
	equal(t, "entries", read(t, s, "q", 10, 100), numbered(11, 11))

	create(t, s, "big", queue.Limits{}) // an ack of many
	fill(t, s, "big", 3000)
	ack(t, s, "big", 1)
	ack(t, s, "big", 2500)
	equal(t, "entries", read(t, s, "big", 0, 10), numbered(2501, 2510))
	equal(t, "Stat", stat(t, s, "big").Entries, 500)
	ack(t, s, "big", 3000)
	equal(t, "Stat", stat(t, s, "big"), queue.Stat{Last: 3000, Acked: 3000})
}

// Expiry: entries go by the day, not before their age, a day after it at the
// latest; numbers and limits know of it.
func Expiry(t *testing.T, open Open) {
	s, ok := open(t).(Clock)
	if !ok {
		t.Skip("the store has no clock that a test can move")
	}
	const day = 24 * time.Hour
	create(t, s, "q", queue.Limits{MaxEntries: 4, MaxAge: 3 * day})
	create(t, s, "short", queue.Limits{MaxAge: time.Minute})
	create(t, s, "default", queue.Limits{})
	s.Advance(day - s.Now().Sub(s.Now().Truncate(day)) + time.Hour) // 01:00
	for _, id := range []queue.ID{"q", "short", "default"} {
		add(t, s, id, "monday", "")
	}
	s.Advance(22 * time.Hour) // 23:00
	add(t, s, "q", "monday late", "")
	s.Advance(2 * time.Hour) // 01:00 of the next day
	equal(t, "the shortest age", stat(t, s, "short"), queue.Stat{Last: 1, Acked: 1})
	add(t, s, "q", "tuesday", "")
	equal(t, "entries", len(read(t, s, "q", 0, 10)), 3)
	s.Advance(2 * day) // 01:00 of the fourth day
	equal(t, "entries of full age", len(read(t, s, "q", 0, 10)), 3)
	add(t, s, "q", "thursday", "")
	_, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte("no")})
	wantErr(t, "a full queue", err, queue.ErrFull)
	s.Advance(day) // monday's are gone
	equal(t, "entries", read(t, s, "q", 0, 10), entries{{3, "tuesday"}, {4, "thursday"}})
	equal(t, "entries after 1", read(t, s, "q", 1, 10), entries{{3, "tuesday"}, {4, "thursday"}})
	equal(t, "Stat", stat(t, s, "q"), queue.Stat{Entries: 2, Bytes: int64(len("tuesdaythursday")), Last: 4, Acked: 2, Dropped: 1})
	ack(t, s, "q", 1) // of what expired
	equal(t, "number", add(t, s, "q", "friday", ""), queue.Seq(5))
	s.Advance(day)
	equal(t, "entries", read(t, s, "q", 0, 10), entries{{4, "thursday"}, {5, "friday"}})
	ack(t, s, "q", 4)
	equal(t, "entries", read(t, s, "q", 0, 10), entries{{5, "friday"}})
	s.Advance(10 * day)
	equal(t, "entries", read(t, s, "q", 0, 10), entries{})
	equal(t, "Stat", stat(t, s, "q"), queue.Stat{Last: 5, Acked: 5, Dropped: 1})
	equal(t, "number", add(t, s, "q", "later", ""), queue.Seq(6))
	equal(t, "entries", read(t, s, "q", 0, 10), entries{{6, "later"}})
	equal(t, "Stat", stat(t, s, "q"), queue.Stat{Entries: 1, Bytes: 5, Last: 6, Acked: 5, Dropped: 1})
	equal(t, "the default age is not over", len(read(t, s, "default", 0, 10)), 1)
	s.Advance(20 * day)
	equal(t, "the default age is over", len(read(t, s, "default", 0, 10)), 0)
}

// Quota: what does not fit is refused and counted, and nothing stored is lost.
func Quota(t *testing.T, open Open) {
	s := open(t)
	refuse := func(id queue.ID, data string) {
		t.Helper()
		_, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: id, Entry: []byte(data)})
		wantErr(t, "Append", err, queue.ErrFull)
	}
	create(t, s, "entries", queue.Limits{MaxEntries: 2})
	add(t, s, "entries", "1", "")
	add(t, s, "entries", "2", "")
	refuse("entries", "3")
	refuse("entries", "3")
	equal(t, "entries", read(t, s, "entries", 0, 10), entries{{1, "1"}, {2, "2"}})
	equal(t, "Stat", stat(t, s, "entries"), queue.Stat{Entries: 2, Bytes: 2, Last: 2, Dropped: 2})
	ack(t, s, "entries", 1)
	equal(t, "number", add(t, s, "entries", "3", ""), queue.Seq(3))
	refuse("entries", "4")
	equal(t, "Stat", stat(t, s, "entries"), queue.Stat{Entries: 2, Bytes: 2, Last: 3, Acked: 1, Dropped: 3})

	create(t, s, "bytes", queue.Limits{MaxBytes: 10})
	add(t, s, "bytes", "1234567", "")
	refuse("bytes", "1234")
	add(t, s, "bytes", "123", "") // to the last byte
	refuse("bytes", "1")
	ack(t, s, "bytes", 1)
	refuse("bytes", "12345678")
	add(t, s, "bytes", "1234567", "")
	refuse("bytes", "12345678901") // more than ever fits
	equal(t, "Stat", stat(t, s, "bytes"), queue.Stat{Entries: 2, Bytes: 10, Last: 3, Acked: 1, Dropped: 4})

	create(t, s, "huge", queue.Limits{MaxEntries: 1 << 31, MaxBytes: 1 << 50, MaxAge: 100 * 365 * 24 * time.Hour})
	add(t, s, "huge", "1", "")
	equal(t, "Stat", stat(t, s, "huge"), queue.Stat{Entries: 1, Bytes: 1, Last: 1})
}
