package hub

import (
	"context"
	"crypto/rand"
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

// dirtyFor is how long a room stays in the dirty index after its last mark.
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
	if _, err := h.cfg.Store.Apply(ctx, []kv.Op{{Key: kv.Key{Group: dirtyGroup, Name: string(groupID)}, Value: []byte{1}, TTL: 2 * dirtyFor}}); err != nil {
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
		groupID := []byte(rec.Key.Name)
		for p, err := range h.cfg.Store.Scan(ctx, roomKey(groupID, "").Group, prefixPending) {
			if err != nil {
				return err
			}
			rows, err := parseRows(p.Value)
			if err != nil {
				return err
			}
			if err := h.flush(ctx, groupID, p.Key.Name, rows); err != nil {
				return err
			}
			h.metrics.swept.Inc()
		}
	}
	return nil
}
