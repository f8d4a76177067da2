package queuetest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Lifecycle: queues come and go; what is missing is ErrNotFound.
func Lifecycle(t *testing.T, open Open) {
	s := open(t)
	ctx := t.Context()
	missing := func() {
		t.Helper()
		_, err := s.Read(ctx, "q", 0, 10)
		wantErr(t, "Read", err, queue.ErrNotFound)
		_, err = s.Stat(ctx, "q")
		wantErr(t, "Stat", err, queue.ErrNotFound)
		wantErr(t, "Ack", s.Ack(ctx, "q", 1), queue.ErrNotFound)
		_, err = queue.AppendOne(ctx, s, queue.Append{Queue: "q", Entry: []byte("x"), Dedup: []byte("d")})
		wantErr(t, "Append", err, queue.ErrNotFound)
	}
	missing()
	wantErr(t, "deleting a missing queue", s.Delete(ctx, "q"), nil)
	create(t, s, "q", queue.Limits{})
	equal(t, "a new queue", stat(t, s, "q"), queue.Stat{})
	equal(t, "entries of a new queue", read(t, s, "q", 0, 10), entries{})
	wantErr(t, "creating again", s.Create(ctx, "q", queue.Limits{}), queue.ErrExists)
	add(t, s, "q", "old", "d")
	add(t, s, "q", "old 2", "")
	wantErr(t, "creating with entries", s.Create(ctx, "q", queue.Limits{MaxEntries: 1}), queue.ErrExists)
	equal(t, "entries", len(read(t, s, "q", 0, 10)), 2)
	wantErr(t, "Delete", s.Delete(ctx, "q"), nil)
	missing()

	create(t, s, "q", queue.Limits{}) // has nothing of the old one
	equal(t, "a queue of the same name", stat(t, s, "q"), queue.Stat{})
	equal(t, "first number", add(t, s, "q", "new", "d"), queue.Seq(1))
	equal(t, "entries", read(t, s, "q", 0, 10), entries{{1, "new"}})
	create(t, s, "r", queue.Limits{})
	wantErr(t, "Delete", s.Delete(ctx, "q"), nil)
	equal(t, "another queue", stat(t, s, "r"), queue.Stat{})
}

// Order: numbers from 1 without gaps, in the order of appends, and reading
// changes nothing.
func Order(t *testing.T, open Open) {
	s := open(t)
	create(t, s, "a", queue.Limits{})
	create(t, s, "b", queue.Limits{})
	for i := 1; i <= 20; i++ {
		equal(t, "number", add(t, s, "a", entry(i), ""), queue.Seq(i))
		if i%2 == 0 {
			equal(t, "number", add(t, s, "b", entry(i/2), ""), queue.Seq(i/2))
		}
	}
	for range 2 {
		equal(t, "a", read(t, s, "a", 0, 100), numbered(1, 20))
		equal(t, "b", read(t, s, "b", 0, 100), numbered(1, 10))
	}
	equal(t, "after 5", read(t, s, "a", 5, 100), numbered(6, 20))
	equal(t, "after 5, 3 of them", read(t, s, "a", 5, 3), numbered(6, 8))
	equal(t, "after the last", read(t, s, "a", 20, 100), entries{})
	equal(t, "after what will come", read(t, s, "a", 1<<40, 100), entries{})
	equal(t, "none of them", read(t, s, "a", 0, 0), entries{})
	equal(t, "Stat", stat(t, s, "a"), queue.Stat{Entries: 20, Bytes: int64(9*len("entry 1") + 11*len("entry 10")), Last: 20})
}

// Batch: each entry has its own fate, and those of one queue keep their order.
func Batch(t *testing.T, open Open) {
	s := open(t)
	create(t, s, "a", queue.Limits{})
	create(t, s, "b", queue.Limits{MaxEntries: 1})
	x := func(id queue.ID, data, dedup string) queue.Append {
		return queue.Append{Queue: id, Entry: []byte(data), Dedup: []byte(dedup)}
	}
	rs := appendAll(t, s, []queue.Append{
		x("a", "1", "k"), x("b", "1", ""), x("missing", "1", ""), x("a", "2", ""), x("a", "again", "k"),
		x("", "no queue", ""), x("b", "too many", ""), x("a", "3", ""),
		{Queue: "a"},
		x("a", "4", "l"), x("a", "again", "l"),
	})
	want := []queue.Result{
		{Seq: 1},
		{Seq: 1},
		{Err: queue.ErrNotFound},
		{Seq: 2},
		{Seq: 1, Duplicate: true},
		{Err: queue.ErrInvalid},
		{Err: queue.ErrFull},
		{Seq: 3},
		{Err: queue.ErrInvalid},
		{Seq: 4},
		{Seq: 4, Duplicate: true},
	}
	for i, r := range rs {
		if r.Duplicate && r.Seq == 0 { // allowed: the number is forgotten
			r.Seq = want[i].Seq
		}
		wantErr(t, "result", r.Err, want[i].Err)
		r.Err, want[i].Err = nil, nil
		equal(t, "result", r, want[i])
	}
	equal(t, "a", read(t, s, "a", 0, 10), entries{{1, "1"}, {2, "2"}, {3, "3"}, {4, "4"}})
	equal(t, "b", read(t, s, "b", 0, 10), entries{{1, "1"}})
	equal(t, "empty batch", len(appendAll(t, s, nil)), 0)

	var batch []queue.Append // one entry each to many queues
	for i := range 300 {
		id := queue.ID(entry(i))
		create(t, s, id, queue.Limits{})
		batch = append(batch, x(id, entry(i), "k"))
	}
	for range 2 {
		for _, r := range appendAll(t, s, batch) {
			wantErr(t, "result", r.Err, nil)
		}
	}
	for i := range 300 {
		equal(t, "one of many queues", read(t, s, queue.ID(entry(i)), 0, 10), entries{{1, entry(i)}})
	}

	data := []byte("mine")
	appendAll(t, s, []queue.Append{{Queue: "a", Entry: data}})
	data[0] = 'X' // the store has its own copy
	equal(t, "a", read(t, s, "a", 4, 10), entries{{5, "mine"}})
}

// Pages: Read stops at max entries and at ReadBytes, but returns one at least.
func Pages(t *testing.T, open Open) {
	s := open(t)
	create(t, s, "many", queue.Limits{})
	fill(t, s, "many", 1200)
	var got entries
	for after := queue.Seq(0); ; {
		es := read(t, s, "many", after, 64)
		if len(es) == 0 {
			break
		}
		got = append(got, es...)
		after = es[len(es)-1].Seq
	}
	equal(t, "all pages", got, numbered(1, 1200))
	equal(t, "one page", read(t, s, "many", 0, 5000), numbered(1, 1200))

	create(t, s, "big", queue.Limits{})
	big := strings.Repeat("x", queue.MaxEntry)
	for _, data := range []string{big, big, "small", big, "last"} {
		add(t, s, "big", data, "")
	}
	sizes := func(after queue.Seq) (ns []int) {
		for _, e := range read(t, s, "big", after, 10) {
			ns = append(ns, len(e.Data))
		}
		return ns
	}
	equal(t, "two of the largest", sizes(0), []int{queue.MaxEntry, queue.MaxEntry})
	equal(t, "up to the bound", sizes(1), []int{queue.MaxEntry, 5})
	equal(t, "the rest", sizes(3), []int{queue.MaxEntry, 4})

	create(t, s, "mixed", queue.Limits{})
	fill(t, s, "mixed", 300) // small on average
	for range 4 {
		add(t, s, "mixed", big, "")
	}
	es := read(t, s, "mixed", 298, 100)
	equal(t, "small, then large", len(es), 3)
	equal(t, "large", len(read(t, s, "mixed", 300, 100)), 2)
	ack(t, s, "mixed", 300)
	equal(t, "large, small ones acknowledged", len(read(t, s, "mixed", 0, 100)), 2)
	equal(t, "bytes", stat(t, s, "mixed").Bytes, int64(4*queue.MaxEntry))
}

// Binary: ids, entries and dedup keys are opaque bytes and never meet.
func Binary(t *testing.T, open Open) {
	s := open(t)
	ids := []queue.ID{
		"{", "}", "{}", "}{", "{a}", "a}", ":", "*", "?", "\x00", "\x00\x00", "\xff", "\xff\xff", "\xff\xfe", "a", "aa", "a\x00", "\r\n", " ",
		queue.ID(strings.Repeat("\xff", queue.MaxID)), queue.ID(strings.Repeat("{", queue.MaxID)),
	}
	for _, id := range ids {
		create(t, s, id, queue.Limits{})
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	dedups := []string{"\x00", "\x00\x00", "\xff", "{", strings.Repeat("\xff", queue.MaxDedupKey), strings.Repeat("\x00", queue.MaxDedupKey)}
	for _, id := range ids {
		for i, d := range dedups {
			data := append([]byte(id), all...)
			equal(t, "number", add(t, s, id, string(append(data, byte(i))), d), queue.Seq(i+1))
		}
	}
	for _, id := range ids {
		es, err := s.Read(t.Context(), id, 0, 100)
		if err != nil || len(es) != len(dedups) {
			t.Fatalf("Read = %d entries, %v", len(es), err)
		}
		for i, e := range es {
			if !bytes.Equal(e.Data, append(append([]byte(id), all...), byte(i))) {
				t.Errorf("entry %d of queue %q has other bytes", i, id)
			}
		}
	}
	wantErr(t, "Delete", s.Delete(t.Context(), "\xff"), nil)
	equal(t, "a queue whose name begins alike", stat(t, s, "\xff\xff").Entries, len(dedups))
	equal(t, "a queue whose name begins alike", len(read(t, s, "\xff\xfe", 0, 10)), len(dedups))
}
