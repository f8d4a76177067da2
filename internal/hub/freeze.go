package hub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/store"
)

// frozen knows whether the store was restored to an older point: then no room
// changes until the operator has verified that none is behind (SPEC.md R-106).
type frozen struct {
	mu sync.Mutex // guards all below
	is bool
	at time.Time // of the last look; zero: never
}

// frozenFor is how long an answer of the store is good for, so that an operator's
// word reaches every replica.
const frozenFor = 10 * time.Second

// frozen reports whether rooms are frozen. A store that does not answer is an
// error: a room that may be behind must not change.
func (h *Hub) frozen(ctx context.Context) (bool, error) {
	f := &h.freeze
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.at.IsZero() && time.Since(f.at) < frozenFor {
		return f.is, nil
	}
	_, err := h.cfg.Store.Get(ctx, store.Restored)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return false, err
	}
	f.is, f.at = err == nil, time.Now()
	return f.is, nil
}

// Unfreeze is the operator's word that no room of a restored store is behind
// what its members saw.
func (h *Hub) Unfreeze(ctx context.Context) error {
	if err := kv.Delete(ctx, h.cfg.Store, store.Restored); err != nil {
		return err
	}
	h.freeze.mu.Lock()
	defer h.freeze.mu.Unlock()
	h.freeze.at = time.Time{}
	return nil
}
