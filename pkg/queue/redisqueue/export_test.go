package redisqueue

import "time"

// SetNow replaces the clock; call it before the store is used.
func (s *Store) SetNow(now func() time.Time) { s.now = now }
