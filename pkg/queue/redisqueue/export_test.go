package redisqueue

import (
	"context"
	"time"
)

// SetNow replaces the clock; call it before the store is used.
func (s *Store) SetNow(now func() time.Time) { s.now = now }

// SweepDaily sweeps unless that was done today.
func (s *Store) SweepDaily(ctx context.Context) error { return s.sweepDaily(ctx) }
