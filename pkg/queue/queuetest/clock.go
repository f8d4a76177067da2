package queuetest

import (
	"sync"
	"time"
)

// ManualClock is a clock that a test moves, for stores that take theirs from outside.
type ManualClock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

// NewManualClock returns a clock that stands at the present.
func NewManualClock() *ManualClock { return &ManualClock{now: time.Now()} }

// Now is what the clock shows.
func (c *ManualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *ManualClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
