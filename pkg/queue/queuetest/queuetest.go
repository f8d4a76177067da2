// Package queuetest is the proof of the contract in package queue: every
// backend runs all of it.
//
//	func TestConformance(t *testing.T) {
//		t.Run("memory", func(t *testing.T) { queuetest.Run(t, open) })
//	}
//
// A store may implement the interfaces Clock, Reopener and Peers of this
// package to have more of itself tested; the test wraps its store to do so.
package queuetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Open makes an empty store that ends with the test.
type Open func(tb testing.TB) queue.Store

// Clock is a store whose time the tests move. Without it, what needs a day or
// an hour to pass is skipped.
type Clock interface {
	queue.Store
	Now() time.Time
	Advance(d time.Duration)
}

// Reopener is a store that survives being closed.
type Reopener interface {
	queue.Store
	// Reopen closes the store and opens what it left.
	Reopen(tb testing.TB) queue.Store
}

// Peers is a store that several processes can have open.
type Peers interface {
	queue.Store
	// Peer opens the same queues as another process would.
	Peer(tb testing.TB) queue.Store
}

// Run runs every theme against stores that open makes.
func Run(t *testing.T, open Open) {
	for _, x := range []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"Lifecycle", Lifecycle},
		{"Order", Order},
		{"Batch", Batch},
		{"Pages", Pages},
		{"Idempotent", Idempotent},
		{"Ack", Ack},
		{"Expiry", Expiry},
		{"Quota", Quota},
		{"Limits", Limits},
		{"Binary", Binary},
		{"Concurrent", Concurrent},
		{"Cancel", Cancel},
		{"AfterClose", AfterClose},
		{"Reopen", Reopen},
		{"Watch", Watch},
		{"Peers", Share},
		{"Audit", Audit},
		{"Linearizable", Linearizable},
		{"Model", Model},
		{"Faults", Faults},
	} {
		t.Run(x.name, func(t *testing.T) { x.test(t, open) })
	}
}

// create makes a queue.
func create(tb testing.TB, s queue.Store, id queue.ID, l queue.Limits) {
	tb.Helper()
	if err := s.Create(tb.Context(), id, l); err != nil {
		tb.Fatalf("Create: %v", err)
	}
}

// add stores one entry and returns its number.
func add(tb testing.TB, s queue.Store, id queue.ID, data, dedup string) queue.Seq {
	tb.Helper()
	r, err := queue.AppendOne(tb.Context(), s, queue.Append{Queue: id, Entry: []byte(data), Dedup: []byte(dedup)})
	if err != nil {
		tb.Fatalf("Append: %v", err)
	}
	if r.Duplicate {
		tb.Fatal("Append: an entry counts as a duplicate")
	}
	return r.Seq
}

// fill stores the entries 1 to n, which say their number.
func fill(tb testing.TB, s queue.Store, id queue.ID, n int) {
	tb.Helper()
	for first := 1; first <= n; first += 500 {
		var batch []queue.Append
		for i := first; i <= min(n, first+499); i++ {
			batch = append(batch, queue.Append{Queue: id, Entry: []byte(entry(i))})
		}
		for i, r := range appendAll(tb, s, batch) {
			if r.Err != nil || r.Seq != queue.Seq(first+i) {
				tb.Fatalf("entry %d: %+v", first+i, r)
			}
		}
	}
}

func entry(i int) string { return fmt.Sprintf("entry %d", i) }

func appendAll(tb testing.TB, s queue.Store, batch []queue.Append) []queue.Result {
	tb.Helper()
	rs, err := s.AppendBatch(tb.Context(), batch)
	if err != nil {
		tb.Fatalf("AppendBatch: %v", err)
	}
	if len(rs) != len(batch) {
		tb.Fatalf("AppendBatch of %d entries gives %d results", len(batch), len(rs))
	}
	return rs
}

// entries are what Read returned, readable in a test's output.
type entries []struct {
	Seq  queue.Seq
	Data string
}

func read(tb testing.TB, s queue.Store, id queue.ID, after queue.Seq, max int) entries {
	tb.Helper()
	es, err := s.Read(tb.Context(), id, after, max)
	if err != nil {
		tb.Fatalf("Read: %v", err)
	}
	out := entries{}
	for _, e := range es {
		out = append(out, struct {
			Seq  queue.Seq
			Data string
		}{e.Seq, string(e.Data)})
	}
	return out
}

// numbered are the entries first to last as fill makes them.
func numbered(first, last int) entries {
	out := entries{}
	for i := first; i <= last; i++ {
		out = append(out, struct {
			Seq  queue.Seq
			Data string
		}{queue.Seq(i), entry(i)})
	}
	return out
}

func stat(tb testing.TB, s queue.Store, id queue.ID) queue.Stat {
	tb.Helper()
	st, err := s.Stat(tb.Context(), id)
	if err != nil {
		tb.Fatalf("Stat: %v", err)
	}
	return st
}

func ack(tb testing.TB, s queue.Store, id queue.ID, upTo queue.Seq) {
	tb.Helper()
	if err := s.Ack(tb.Context(), id, upTo); err != nil {
		tb.Fatalf("Ack: %v", err)
	}
}

func wantErr(tb testing.TB, what string, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("%s: %v, want %v", what, err, want)
	}
}

func equal(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if d := cmp.Diff(want, got); d != "" {
		tb.Fatalf("%s (-want +got):\n%s", what, d)
	}
}
