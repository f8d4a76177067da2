package wake_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/mmrelay/mmrelay/pkg/queue/internal/wake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pending(c <-chan struct{}) bool {
	select {
	case _, ok := <-c:
		return ok
	default:
		return false
	}
}

func TestWake(t *testing.T) {
	var s wake.Set
	a1, a2, b := s.Add(t.Context(), "a"), s.Add(t.Context(), "a"), s.Add(t.Context(), "b")
	s.Wake("a")
	s.Wake("a") // coalesced
	s.Wake("nobody")
	for range 2 {
		if pending(b) {
			t.Error("the watcher of another queue is woken")
		}
	}
	for _, c := range []<-chan struct{}{a1, a2} {
		if !pending(c) {
			t.Error("a watcher is not woken")
		}
		if pending(c) {
			t.Error("wake-ups that nobody received are two")
		}
	}
	s.WakeIf(func(id string) bool { return id == "b" })
	if pending(a1) || !pending(b) {
		t.Error("WakeIf wakes others than chosen")
	}
	s.Close()
}

// TestChanged asserts that the first and the last watcher of a queue are told.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards got
		var got []string
		s := wake.Set{Changed: func(id string, watched bool) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprint(id, watched))
		}}
		c1, cancel1 := context.WithCancel(t.Context())
		c2, cancel2 := context.WithCancel(t.Context())
		w1, w2 := s.Add(c1, "a"), s.Add(c2, "a")
		if !s.Has("a") || s.Has("b") || !slices.Equal(s.Watched(), []string{"a"}) {
			t.Error("the watched queue is not known")
		}
		cancel1()
		<-w1 // closed
		s.Wake("a")
		if !pending(w2) {
			t.Error("the end of a watcher ended another")
		}
		cancel2()
		<-w2
		synctest.Wait()
		if s.Has("a") || len(s.Watched()) != 0 {
			t.Error("a queue is watched after all watchers ended")
		}
		s.Add(t.Context(), "a")
		if want := []string{"atrue", "afalse", "atrue"}; !slices.Equal(got, want) {
			t.Errorf("changes %v, want %v", got, want)
		}
		s.Close()
	})
}

func TestClose(t *testing.T) {
	var s wake.Set
	ctx, cancel := context.WithCancel(t.Context())
	a := s.Add(ctx, "a")
	s.Close()
	s.Close()
	cancel() // after the end
	s.Wake("a")
	if _, ok := <-a; ok {
		t.Error("the channel is open after Close")
	}
	if _, ok := <-s.Add(t.Context(), "a"); ok {
		t.Error("a channel of a closed set is open")
	}
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	var s wake.Set
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				c := s.Add(ctx, fmt.Sprint(j%3))
				s.Wake(fmt.Sprint((i + j) % 3))
				cancel()
				for range c { // ends when the channel is closed
				}
			}
		})
	}
	wg.Wait()
	if len(s.Watched()) != 0 {
		t.Errorf("watched: %v", s.Watched())
	}
	s.Close()
}
