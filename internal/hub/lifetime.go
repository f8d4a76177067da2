package hub

import (
	"context"
	"errors"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// A room ends when its last leaves are leaving (SPEC.md R-113), or when nobody
// has used it for months. First goes the record with the sealed head, which
// alone names the big rows; a tombstone keeps the group id from being used again
// until a sweep has deleted what is left. Under a key of the members it cannot
// be opened by then; under the hub's it is deleted within a sweep.
const (
	nameTombstone = "deleted"
	deleteBatch   = 500
	deleteStep    = 5_000 // rows of one room and sweep
)

// end puts the end of the room into a change: no row of it is written.
func (c *change) end() {
	c.ops = nil
	for _, l := range c.base.roster.leaves {
		c.stopped = append(c.stopped, l.lane)
	}
	c.ended = true
}

// deleteRoom ends a room.
func (h *Hub) deleteRoom(ctx context.Context, r *room, now time.Time) error {
	ch := h.begin(r, now)
	ch.end()
	return h.accept(ctx, ch, nil)
}

// sweepDeleted deletes the rows of a room with a tombstone, the tombstone last,
// in bounded steps.
func (h *Hub) sweepDeleted(ctx context.Context, groupID []byte) (more bool, err error) {
	tombstone := roomKey(groupID, nameTombstone)
	if _, err := h.cfg.Store.Get(ctx, tombstone); errors.Is(err, kv.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	var ops []kv.Op
	n := 0
	apply := func() error {
		if len(ops) == 0 {
			return nil
		}
		_, err := h.cfg.Store.Apply(ctx, ops)
		n, ops = n+len(ops), nil
		return err
	}
	for rec, err := range h.cfg.Store.Scan(ctx, tombstone.Group, "") {
		if err != nil {
			return true, err
		}
		if rec.Key == tombstone {
			continue
		}
		if ops = append(ops, kv.Op{Key: rec.Key}); len(ops) == deleteBatch {
			if err := apply(); err != nil {
				return true, err
			}
		}
		if n >= deleteStep {
			return true, nil
		}
	}
	if err := apply(); err != nil {
		return true, err
	}
	h.metrics.rooms.WithLabelValues("deleted").Inc()
	return true, kv.Delete(ctx, h.cfg.Store, tombstone)
}

// idleEvery is how often rooms are looked through for idle ones.
const idleEvery = 24 * time.Hour

var idleSwept = kv.Key{Group: "sweep", Name: "idle"}

// sweepIdle deletes the rooms that nobody has used for the configured number of
// months; what is known of a room's use is the month. Once a day one replica
// walks over the records, which are in clear so far.
func (h *Hub) sweepIdle(ctx context.Context, now time.Time) error {
	if is, err := h.frozen(ctx); err != nil || is || h.cfg.IdleMonths <= 0 {
		return err
	}
	first, _, err := kv.Once(ctx, h.cfg.Store, idleSwept, []byte{1}, idleEvery)
	if err != nil || !first {
		return err
	}
	for group, err := range h.cfg.Store.Groups(ctx, groupPrefix) {
		if err != nil {
			return err
		}
		groupID := []byte(group[len(groupPrefix):])
		if len(groupID) != groupIDSize {
			continue // another kind of group that begins alike
		}
		if err := h.expire(ctx, groupID, now); err != nil {
			return err
		}
	}
	return nil
}

// expire deletes a room if it is idle. It cannot be opened, and need not be.
func (h *Hub) expire(ctx context.Context, groupID []byte, now time.Time) error {
	rec, err := h.cfg.Store.Get(ctx, roomKey(groupID, nameRecord))
	if errors.Is(err, kv.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	record, err := parseRecord(rec.Value)
	if err != nil || int64(monthOf(now))-int64(record.month) < int64(h.cfg.IdleMonths) {
		return err
	}
	if err := h.mark(ctx, groupID); err != nil {
		return err
	}
	_, err = h.cfg.Store.Apply(ctx, []kv.Op{
		{Key: rec.Key, Check: true, Old: rec.Version},
		{Key: roomKey(groupID, nameTombstone), Value: []byte{1}},
	})
	if errors.Is(err, kv.ErrConflict) {
		return nil // somebody came
	}
	h.metrics.rooms.WithLabelValues("idle").Inc()
	return err
}
