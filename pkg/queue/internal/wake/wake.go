// Package wake keeps the watchers of queues within one process: what the
// backends of package queue share of Store.Watch. A watcher costs a channel and
// a context callback, not a goroutine.
package wake

import (
	"context"
	"slices"
	"sync"
)

// Set is a set of watchers by queue. The zero value is ready.
type Set struct {
	// Changed is called when a queue gets its first watcher and when it loses its
	// last one. It is called with the set locked: it must neither block nor call
	// back. Nil means that nobody asks.
	Changed func(id string, watched bool)

	mu       sync.Mutex // guards all below
	watchers map[string][]*watcher
	closed   bool
}

type watcher struct {
	c    chan struct{}
	stop func() bool
}

// Add returns a channel that receives after Wake(id) and is closed when ctx
// ends or the set is closed. Wake-ups that nobody received yet are one.
func (s *Set) Add(ctx context.Context, id string) <-chan struct{} {
	w := &watcher{c: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		close(w.c)
		return w.c
	}
	if s.watchers == nil {
		s.watchers = make(map[string][]*watcher)
	}
	s.watchers[id] = append(s.watchers[id], w)
	if len(s.watchers[id]) == 1 && s.Changed != nil {
		s.Changed(id, true)
	}
	w.stop = context.AfterFunc(ctx, func() { s.remove(id, w) })
	return w.c
}

func (s *Set) remove(id string, w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.watchers[id], w)
	if i < 0 {
		return
	}
	close(w.c)
	if len(s.watchers[id]) > 1 {
		s.watchers[id] = slices.Delete(s.watchers[id], i, i+1)
		return
	}
	delete(s.watchers, id)
	if s.Changed != nil {
		s.Changed(id, false)
	}
}

// Wake wakes the watchers of one queue.
func (s *Set) Wake(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.watchers[id] {
		w.wake()
	}
}

// WakeIf wakes the watchers of the queues that f chooses.
func (s *Set) WakeIf(f func(id string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, ws := range s.watchers {
		if !f(id) {
			continue
		}
		for _, w := range ws {
			w.wake()
		}
	}
}

// Has reports whether a queue has watchers now.
func (s *Set) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watchers[id]) > 0
}

// Watched returns the queues that have watchers now.
func (s *Set) Watched() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.watchers))
	for id := range s.watchers {
		ids = append(ids, id)
	}
	return ids
}

func (w *watcher) wake() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

// Close closes the channels of all watchers, now and later.
func (s *Set) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, ws := range s.watchers {
		for _, w := range ws {
			w.stop()
			close(w.c)
		}
	}
	s.watchers = nil
}
