package hub

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
)

// A first envelope is all that tells a welcomed client of its room. It is sent
// again after an hour, a day and a week, until the client has called JoinState
// (SPEC.md R-78).
var firstContactDelays = []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

const (
	firstContactGroup = "first" // index of rooms with waiting joiners
	prefixFirst       = "f"
	firstContactFor   = 9 * 24 * time.Hour
)

func firstContactKey(groupID []byte, lane [16]byte) kv.Key {
	return roomKey(groupID, prefixFirst+string(lane[:]))
}

// firstContact adds the record of a first envelope to the change.
func (c *change) firstContact(row outboxRow, now time.Time) {
	c.ops = append(c.ops, kv.Op{
		Key: firstContactKey(c.next.groupID, row.lane), Value: marshalFirst(0, now.Add(firstContactDelays[0]), &row), TTL: firstContactFor,
	})
}

// markFirst enters a room into the index; before the change, so that no record
// is without its index entry.
func (h *Hub) markFirst(ctx context.Context, groupID []byte) error {
	_, err := h.cfg.Store.Apply(ctx, []kv.Op{{Key: kv.Key{Group: firstContactGroup, Name: string(groupID)}, Value: []byte{1}, TTL: firstContactFor}})
	return err
}

func marshalFirst(attempt uint8, due time.Time, row *outboxRow) []byte {
	b := []byte{attempt}
	b = binary.BigEndian.AppendUint64(b, uint64(due.Unix()))
	return row.append(b)
}

// repeatFirstContacts sends the first envelopes that are due again.
func (h *Hub) repeatFirstContacts(ctx context.Context) error {
	now := time.Now()
	for rec, err := range h.cfg.Store.Scan(ctx, firstContactGroup, "") {
		if err != nil {
			return err
		}
		groupID := []byte(rec.Key.Name)
		for f, err := range h.cfg.Store.Scan(ctx, roomKey(groupID, "").Group, prefixFirst) {
			if err != nil {
				return err
			}
			if err := h.repeatFirst(ctx, groupID, f, now); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *Hub) repeatFirst(ctx context.Context, groupID []byte, rec kv.Record, now time.Time) error {
	r := codec.NewReader(rec.Value)
	attempt, due := int(r.Uint8()), r.Uint64()
	row := readOutboxRow(r)
	if r.Done() != nil || attempt >= len(firstContactDelays) {
		return kv.Delete(ctx, h.cfg.Store, rec.Key)
	}
	if uint64(now.Unix()) < due {
		return nil
	}
	_, _ = rand.Read(row.itemID[:]) // never fails; a new item: the relay knows the first one
	pending := prefixPending + "first" + string(row.lane[:])
	ops := []kv.Op{
		{Key: rec.Key, Check: true, Old: rec.Version},
		{Key: roomKey(groupID, pending), Value: marshalRows([]outboxRow{row})},
	}
	if attempt+1 < len(firstContactDelays) {
		ops[0].Value = marshalFirst(uint8(attempt+1), now.Add(firstContactDelays[attempt+1]), &row)
		ops[0].TTL = firstContactFor
	}
	if err := h.mark(ctx, groupID); err != nil {
		return err
	}
	if _, err := h.cfg.Store.Apply(ctx, ops); errors.Is(err, kv.ErrConflict) {
		return nil // it has arrived, or was removed
	} else if err != nil {
		return err
	}
	return h.flush(ctx, groupID, pending, []outboxRow{row})
}
