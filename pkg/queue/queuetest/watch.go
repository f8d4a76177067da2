package queuetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/queue"
)

// patience is how long the tests wait for what must happen. It is longer than
// any poll interval.
const patience = time.Minute

func watch(tb testing.TB, ctx context.Context, s queue.Store, id queue.ID) <-chan struct{} {
	tb.Helper()
	c, err := s.Watch(ctx, id)
	if err != nil {
		tb.Fatalf("Watch: %v", err)
	}
	return c
}

// woken waits for a wake-up.
func woken(tb testing.TB, c <-chan struct{}) {
	tb.Helper()
	select {
	case _, ok := <-c:
		if !ok {
			tb.Fatal("the watcher ended")
		}
	case <-time.After(patience):
		tb.Fatal("no wake-up")
	}
}

// Watch: an append wakes all watchers of its queue; a watcher ends with its
// context.
func Watch(t *testing.T, open Open) {
	s := open(t)
	create(t, s, "q", queue.Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	a, b := watch(t, ctx, s, "q"), watch(t, t.Context(), s, "q")
	for i := range 3 {
		add(t, s, "q", entry(i), "")
		woken(t, a)
		woken(t, b)
	}
	cancel()
	for range a { // ends when the channel is closed
	}
	add(t, s, "q", "more", "")
	woken(t, b)

	early := watch(t, t.Context(), s, "later") // before the queue exists
	create(t, s, "later", queue.Limits{})
	add(t, s, "later", "x", "")
	woken(t, early)
	wantErr(t, "Delete", s.Delete(t.Context(), "later"), nil)
	woken(t, early)

	other := watch(t, t.Context(), s, "other")
	wantErr(t, "Wake", s.Wake(t.Context(), "other"), nil) // without a queue
	woken(t, other)
	wantErr(t, "Wake", s.Wake(t.Context(), ""), queue.ErrInvalid)

	// Nobody receives: appends must not wait, and the wake-ups are one.
	for i := range 100 {
		add(t, s, "q", entry(i), "")
	}
	woken(t, b)

	follow(t, s, s)
}

// follow reads a queue as a listener does while another goroutine writes it: no
// entry waits for longer than the poll interval.
func follow(t *testing.T, writer, reader queue.Store) {
	t.Helper()
	create(t, writer, "followed", queue.Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := watch(t, ctx, reader, "followed")
	const n = 200
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := 1; i <= n; i++ {
			if _, err := queue.AppendOne(ctx, writer, queue.Append{Queue: "followed", Entry: fmt.Append(nil, i)}); err != nil {
				t.Errorf("Append: %v", err)
				return
			}
		}
	})
	for last := queue.Seq(0); last < n; {
		es, err := reader.Read(ctx, "followed", last, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if e.Seq != last+1 || string(e.Data) != fmt.Sprint(e.Seq) {
				t.Fatalf("entry %d (%s) after %d", e.Seq, e.Data, last)
			}
			last = e.Seq
		}
		if len(es) == 0 {
			woken(t, c)
		}
	}
}

// Share: processes see each other's queues, and wake each other.
func Share(t *testing.T, open Open) {
	s, ok := open(t).(Peers)
	if !ok {
		t.Skip("one process only")
	}
	p := s.Peer(t)
	create(t, s, "q", queue.Limits{})
	wantErr(t, "creating again", p.Create(t.Context(), "q", queue.Limits{}), queue.ErrExists)
	equal(t, "number", add(t, s, "q", entry(1), "k"), queue.Seq(1))
	equal(t, "number", add(t, p, "q", entry(2), ""), queue.Seq(2))
	r, err := queue.AppendOne(t.Context(), p, queue.Append{Queue: "q", Entry: []byte("x"), Dedup: []byte("k")})
	if err != nil || !r.Duplicate {
		t.Errorf("append repeated through another process = %+v, %v", r, err)
	}
	equal(t, "entries", read(t, p, "q", 0, 10), numbered(1, 2))
	ack(t, p, "q", 1)
	equal(t, "entries", read(t, s, "q", 0, 10), numbered(2, 2))
	follow(t, p, s)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	equal(t, "number", add(t, s, "q", entry(3), ""), queue.Seq(3)) // one process's end is not the other's
}
