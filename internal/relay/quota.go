package relay

import (
	"context"
	"errors"
	"strings"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// quota bounds how many records of a group have names with a prefix. It holds for
// all processes on the store together: whoever adds a record writes the guard
// again in the same transaction, and only if nobody did so since it began to count.
type quota struct {
	store kv.Store
	// guard is a record of the group that is there anyway and does not expire.
	guard  kv.Key
	prefix string
	max    int
}

// add makes writes and returns how many records there are then. It is mmr/limit if
// they would be more than max, and nothing is written; kv.ErrNotFound without the
// guard. Writes of names without the prefix, and of names that exist, need no room.
func (q quota) add(ctx context.Context, writes ...kv.Op) (int, error) {
	for {
		guard, err := q.store.Get(ctx, q.guard)
		if err != nil {
			return 0, err
		}
		fresh := make(map[string]bool)
		for _, w := range writes {
			if strings.HasPrefix(w.Key.Name, q.prefix) {
				fresh[w.Key.Name] = true
			}
		}
		n := 0
		for rec, err := range q.store.Scan(ctx, q.guard.Group, q.prefix) {
			if err != nil {
				return 0, err
			}
			n++
			delete(fresh, rec.Key.Name)
		}
		if n += len(fresh); len(fresh) > 0 && n > q.max {
			return 0, mmrerr.Limit
		}
		all := append([]kv.Op{{Key: q.guard, Value: guard.Value, Check: true, Old: guard.Version}}, writes...)
		if _, err = q.store.Apply(ctx, all); !errors.Is(err, kv.ErrConflict) {
			return n, err
		}
	}
}
