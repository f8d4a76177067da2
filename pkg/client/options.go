package client

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// Option adjusts a client. The zero set is right for most.
type Option interface{ apply(*options) }

type options struct {
	log      *slog.Logger
	retryFor time.Duration
	poolSets int
	tokens   int
	gapWait  time.Duration
	// refreshDelay bounds the random time before a refresh of link keys.
	refreshDelay time.Duration
	// leaveDelay bounds the random time before the leave of others is committed.
	leaveDelay time.Duration
	dial       func(ctx context.Context, addr string) (net.Conn, error)
}

type optionFunc func(*options)

func (f optionFunc) apply(o *options) { f(o) }

// WithLogger makes the client report what it repeats and repairs. Default: silence.
func WithLogger(l *slog.Logger) Option { return optionFunc(func(o *options) { o.log = l }) }

// WithRetryFor sets how long a call is repeated while services are out of
// reach. Default 30 s.
func WithRetryFor(d time.Duration) Option { return optionFunc(func(o *options) { o.retryFor = d }) }

// WithPoolSets sets how many KeyPackages are kept in each connection's pool.
// Default 6, besides two last-resort ones; at most 30.
func WithPoolSets(n int) Option {
	return optionFunc(func(o *options) { o.poolSets = min(max(n, 1), 30) })
}

// WithTokenBatch sets how many tokens are fetched at once. Default 8; at most 64.
func WithTokenBatch(n int) Option {
	return optionFunc(func(o *options) { o.tokens = min(max(n, 1), 64) })
}

// WithGapWait sets how long a gap in a room's events is waited out before the
// client catches up. Default 30 s (SPEC.md R-76).
func WithGapWait(d time.Duration) Option { return optionFunc(func(o *options) { o.gapWait = d }) }

// WithRefreshDelay sets the longest random time that a client waits before it
// writes link keys which the hub's state lacks. Default 5 s (SPEC.md R-98).
func WithRefreshDelay(d time.Duration) Option {
	return optionFunc(func(o *options) { o.refreshDelay = d })
}

// WithLeaveDelay sets the longest random time that a client waits before it
// commits the leave of others. Default 30 s (SPEC.md R-113).
func WithLeaveDelay(d time.Duration) Option {
	return optionFunc(func(o *options) { o.leaveDelay = d })
}

// WithDialer makes connections by dial instead of TCP: through a proxy, or for
// networks inside one process. TLS runs over them all the same.
func WithDialer(dial func(ctx context.Context, addr string) (net.Conn, error)) Option {
	return optionFunc(func(o *options) { o.dial = dial })
}

func newOptions(os []Option) options {
	o := options{log: slog.New(slog.DiscardHandler), retryFor: 30 * time.Second, poolSets: 6, tokens: 8, gapWait: 30 * time.Second, refreshDelay: 5 * time.Second, leaveDelay: 30 * time.Second}
	for _, x := range os {
		x.apply(&o)
	}
	return o
}
