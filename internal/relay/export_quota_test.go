package relay

import (
	"context"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// AddWithin adds records to the group of a guard under a quota.
func AddWithin(ctx context.Context, s kv.Store, guard kv.Key, prefix string, max int, writes ...kv.Op) (int, error) {
	return quota{store: s, guard: guard, prefix: prefix, max: max}.add(ctx, writes...)
}

// Aside runs f on a goroutine of its own.
func Aside(f func() error) error { return aside(f) }
