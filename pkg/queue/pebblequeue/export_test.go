package pebblequeue

import "time"

// SetNow replaces the clock; call it before the store is used.
func (s *Store) SetNow(now func() time.Time) { s.now = now }

// Sweep runs the sweep now.
func (s *Store) Sweep() error { return s.sweep() }
