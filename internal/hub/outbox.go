package hub

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// outboxRow is one finished envelope on its way to a relay (SPEC.md R-78). It
// names no room: its lane is a random number per leaf and address.
type outboxRow struct {
	lane     [16]byte
	itemID   [16]byte
	domain   string
	keyID    uint8
	sealed   []byte
	envelope []byte
}

func newRow(l *leaf, envelope []byte) outboxRow {
	r := outboxRow{lane: l.lane, domain: l.domain, keyID: l.keyID, sealed: l.sealed, envelope: envelope}
	_, _ = rand.Read(r.itemID[:]) // never fails
	return r
}

// size is about how long the serialized row is.
func (o *outboxRow) size() int { return 64 + len(o.domain) + len(o.sealed) + len(o.envelope) }

func (o *outboxRow) append(b []byte) []byte {
	b = append(b, o.lane[:]...)
	b = append(b, o.itemID[:]...)
	b = codec.AppendVector(b, o.domain)
	b = append(b, o.keyID)
	b = codec.AppendVector(b, o.sealed)
	return codec.AppendVector(b, o.envelope)
}

func readOutboxRow(r *codec.Reader) outboxRow {
	var o outboxRow
	r.Copy(o.lane[:])
	r.Copy(o.itemID[:])
	o.domain = string(r.Vector(math.MaxInt))
	o.keyID = r.Uint8()
	o.sealed = r.Vector(math.MaxInt)
	o.envelope = r.Vector(math.MaxInt)
	return o
}

// outboxID names the outbox of a destination.
func outboxID(domain string) queue.ID {
	h := primitive.Hash([]byte("outbox"), []byte(domain))
	return queue.ID("o" + string(h[:16]))
}

// outboxLimits: an outbox holds what a destination missed in a week.
var outboxLimits = queue.Limits{MaxEntries: 1_000_000, MaxBytes: 16 << 30, MaxAge: 7 * 24 * time.Hour}

// dirtyFor is how long a mark is good for: a process marks a room again after
// that, and the sweep removes marks only when they are older than twice that
// and the room has nothing pending.
const (
	dirtyFor   = 10 * time.Minute
	dirtyGroup = "dirty"
)

// mark enters a room into the dirty index before its first transaction in a
// while, so that whatever a crash leaves pending is found by any replica's sweep.
func (h *Hub) mark(ctx context.Context, groupID []byte) error {
	if h.dirty.fresh(string(groupID)) {
		return nil
	}
	// No TTL: what a crash leaves pending must be found whenever the hub comes back.
	at := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Unix()))
	if _, err := h.cfg.Store.Apply(ctx, []kv.Op{{Key: kv.Key{Group: dirtyGroup, Name: string(groupID)}, Value: at}}); err != nil {
		return err
	}
	h.dirty.set(string(groupID))
	return nil
}

// flush moves a room's pending rows of one event to the outboxes. It can be
// repeated at any time: the outboxes know rows by their item ids.
func (h *Hub) flush(ctx context.Context, groupID []byte, name string, rows []outboxRow) error {
	batch := make([]queue.Append, len(rows))
	for i := range rows {
		batch[i] = queue.Append{Queue: outboxID(rows[i].domain), Entry: rows[i].append(nil), Dedup: rows[i].itemID[:]}
	}
	rs, err := h.appendOutbox(ctx, rows, batch)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if r.Err != nil && !errors.Is(r.Err, queue.ErrFull) {
			return r.Err
		}
		if r.Err != nil {
			h.metrics.dropped.WithLabelValues("outbox-full").Inc()
		}
	}
	return kv.Delete(ctx, h.cfg.Store, roomKey(groupID, name))
}

// appendOutbox appends, creating outboxes that do not exist yet.
func (h *Hub) appendOutbox(ctx context.Context, rows []outboxRow, batch []queue.Append) ([]queue.Result, error) {
	for attempt := 0; ; attempt++ {
		rs, err := h.cfg.Outbox.AppendBatch(ctx, batch)
		if err != nil {
			return nil, err
		}
		missing := false
		for i, r := range rs {
			if errors.Is(r.Err, queue.ErrNotFound) && attempt == 0 {
				missing = true
				if err := h.cfg.Outbox.Create(ctx, outboxID(rows[i].domain), outboxLimits); err != nil && !errors.Is(err, queue.ErrExists) {
					return nil, err
				}
			}
		}
		if !missing {
			return rs, nil
		}
	}
}

func marshalRows(rows []outboxRow) []byte {
	var b []byte
	for i := range rows {
		b = rows[i].append(b)
	}
	return b
}

func parseRows(b []byte) ([]outboxRow, error) {
	r := codec.NewReader(b)
	var rows []outboxRow
	for !r.Empty() {
		rows = append(rows, readOutboxRow(r))
	}
	return rows, r.Done()
}

// sweepPending flushes what earlier flushes left behind: after a crash, or
// because the outbox was out of reach. One replica at a time does it.
func (h *Hub) sweepPending(ctx context.Context) error {
	for rec, err := range h.cfg.Store.Scan(ctx, dirtyGroup, "") {
		if err != nil {
			return err
		}
		n, err := h.flushRoom(ctx, []byte(rec.Key.Name))
		h.metrics.swept.Add(float64(n))
		if err != nil {
			return err
		}
		more, err := h.sweepDeleted(ctx, []byte(rec.Key.Name))
		if err != nil {
			return err
		}
		if n > 0 || more || !oldMark(rec.Value, time.Now()) {
			continue
		}
		// In the version read: a mark that was renewed meanwhile stays.
		_, err = h.cfg.Store.Apply(ctx, []kv.Op{{Key: rec.Key, Check: true, Old: rec.Version}})
		if err != nil && !errors.Is(err, kv.ErrConflict) {
			return err
		}
	}
	return nil
}

func oldMark(value []byte, now time.Time) bool {
	return len(value) != 8 || now.Sub(time.Unix(int64(binary.BigEndian.Uint64(value)), 0)) > 2*dirtyFor
}
