package queuetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Limits: arguments outside the bounds are refused and change nothing.
func Limits(t *testing.T, open Open) {
	s := open(t)
	ctx := t.Context()
	for _, id := range []queue.ID{"", queue.ID(strings.Repeat("x", queue.MaxID+1))} {
		for what, err := range calls(ctx, s, id) {
			wantErr(t, what, err, queue.ErrInvalid)
		}
	}
	for _, l := range []queue.Limits{{MaxEntries: -1}, {MaxBytes: -1}, {MaxAge: -1}} {
		wantErr(t, "Create", s.Create(ctx, "q", l), queue.ErrInvalid)
	}
	create(t, s, "q", queue.Limits{})
	for what, a := range map[string]queue.Append{
		"no entry":             {Queue: "q"},
		"an entry too large":   {Queue: "q", Entry: make([]byte, queue.MaxEntry+1)},
		"a dedup key too long": {Queue: "q", Entry: []byte("x"), Dedup: make([]byte, queue.MaxDedupKey+1)},
	} {
		_, err := queue.AppendOne(ctx, s, a)
		wantErr(t, what, err, queue.ErrInvalid)
	}
	equal(t, "Stat", stat(t, s, "q"), queue.Stat{})
	if _, err := queue.AppendOne(ctx, s, queue.Append{Queue: "q", Entry: make([]byte, queue.MaxEntry), Dedup: make([]byte, queue.MaxDedupKey)}); err != nil {
		t.Errorf("the largest entry: %v", err)
	}
}

// calls makes a call of every method and returns the errors.
func calls(ctx context.Context, s queue.Store, id queue.ID) map[string]error {
	errs := make(map[string]error)
	errs["Create"] = s.Create(ctx, id, queue.Limits{})
	_, errs["Append"] = queue.AppendOne(ctx, s, queue.Append{Queue: id, Entry: []byte("x")})
	_, errs["Read"] = s.Read(ctx, id, 0, 10)
	errs["Ack"] = s.Ack(ctx, id, 1)
	_, errs["Stat"] = s.Stat(ctx, id)
	_, errs["Watch"] = s.Watch(ctx, id)
	errs["Wake"] = s.Wake(ctx, id)
	errs["Delete"] = s.Delete(ctx, id)
	return errs
}

// Cancel: a cancelled context ends every call, and nothing changes.
func Cancel(t *testing.T, open Open) {
	s := open(t)
	create(t, s, "q", queue.Limits{})
	add(t, s, "q", "1", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, err := range calls(ctx, s, "q") {
		wantErr(t, what, err, context.Canceled)
	}
	equal(t, "entries", read(t, s, "q", 0, 10), entries{{1, "1"}})
	equal(t, "Stat", stat(t, s, "q"), queue.Stat{Entries: 1, Bytes: 1, Last: 1})
}

// AfterClose: every method fails with ErrClosed, watchers end, and Close may be
// repeated.
func AfterClose(t *testing.T, open Open) {
	s := open(t)
	create(t, s, "q", queue.Limits{})
	c, err := s.Watch(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range c { // ends when the channel is closed
	}
	for what, err := range calls(t.Context(), s, "q") {
		wantErr(t, what, err, queue.ErrClosed)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

// stores are a store and, if there can be one, another process's.
func stores(tb testing.TB, s queue.Store) []queue.Store {
	if p, ok := s.(Peers); ok {
		return []queue.Store{s, p.Peer(tb)}
	}
	return []queue.Store{s}
}

// Concurrent: writers with and without retries, a reader that acknowledges:
// every entry is read once, in each writer's order.
func Concurrent(t *testing.T, open Open) {
	s := open(t)
	const writers, each = 6, 60
	create(t, s, "q", queue.Limits{})
	create(t, s, "other", queue.Limits{})
	ss := stores(t, s)
	var wg sync.WaitGroup
	for w := range writers {
		s := ss[w%len(ss)]
		wg.Go(func() {
			for i := 0; i < each; i += 3 {
				var batch []queue.Append
				for j := i; j < i+3; j++ {
					name := fmt.Appendf(nil, "%d %d", w, j)
					batch = append(batch, queue.Append{Queue: "q", Entry: name, Dedup: name}, queue.Append{Queue: "other", Entry: name})
				}
				for range 1 + i%2 { // every other batch is repeated
					rs, err := s.AppendBatch(t.Context(), batch)
					if err != nil {
						t.Errorf("AppendBatch: %v", err)
						return
					}
					for _, r := range rs {
						if r.Err != nil {
							t.Errorf("result: %v", r.Err)
						}
					}
				}
			}
		})
	}
	next := make([]int, writers)
	last := queue.Seq(0)
	deadline := time.Now().Add(time.Minute)
	for n := 0; n < writers*each; {
		if time.Now().After(deadline) {
			t.Errorf("%d of %d entries after a minute", n, writers*each)
			break
		}
		es, err := ss[len(ss)-1].Read(t.Context(), "q", last, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if e.Seq != last+1 {
				t.Fatalf("entry %d after %d", e.Seq, last)
			}
			last = e.Seq
			var w, i int
			if _, err := fmt.Sscanf(string(e.Data), "%d %d", &w, &i); err != nil || next[w] != i {
				t.Fatalf("writer %d: entry %d, want %d", w, i, next[w])
			}
			next[w]++
			n++
		}
		if err := s.Ack(t.Context(), "q", last); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	equal(t, "Stat", stat(t, s, "q"), queue.Stat{Last: writers * each, Acked: writers * each})
	created := atomic.Int64{}
	for i := range 8 {
		wg.Go(func() {
			err := ss[i%len(ss)].Create(t.Context(), "raced", queue.Limits{})
			if err == nil {
				created.Add(1)
			} else if !errors.Is(err, queue.ErrExists) {
				t.Errorf("Create: %v", err)
			}
		})
	}
	wg.Wait()
	equal(t, "successful Creates of 8", created.Load(), int64(1))
}

// Reopen: what a call returned is there after the store was closed and opened.
func Reopen(t *testing.T, open Open) {
	s, ok := open(t).(Reopener)
	if !ok {
		t.Skip("the store does not outlive its process")
	}
	create(t, s, "q", queue.Limits{MaxEntries: 4})
	create(t, s, "deleted", queue.Limits{})
	add(t, s, "deleted", "x", "")
	for i := 1; i <= 4; i++ {
		add(t, s, "q", entry(i), entry(i))
	}
	_, err := queue.AppendOne(t.Context(), s, queue.Append{Queue: "q", Entry: []byte("5")})
	wantErr(t, "a full queue", err, queue.ErrFull)
	ack(t, s, "q", 2)
	wantErr(t, "Delete", s.Delete(t.Context(), "deleted"), nil)
	before := stat(t, s, "q")

	n := s.Reopen(t)
	equal(t, "Stat", stat(t, n, "q"), before)
	equal(t, "entries", read(t, n, "q", 0, 10), numbered(3, 4))
	_, err = n.Stat(t.Context(), "deleted")
	wantErr(t, "a deleted queue", err, queue.ErrNotFound)
	for i := 1; i <= 4; i++ {
		r, err := queue.AppendOne(t.Context(), n, queue.Append{Queue: "q", Entry: []byte("again"), Dedup: []byte(entry(i))})
		if err != nil || !r.Duplicate {
			t.Errorf("repeated append after reopening = %+v, %v", r, err)
		}
	}
	equal(t, "number", add(t, n, "q", entry(5), ""), queue.Seq(5))
}
