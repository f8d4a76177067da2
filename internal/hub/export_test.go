package hub

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Methods returns the handlers behind the gateway.
func (h *Hub) Methods() map[string]gateway.Method { return h.methods() }

// PublishQueueKey makes the hub believe that a provider publishes a queue key.
func (h *Hub) PublishQueueKey(domain string, ids ...uint8) {
	h.queueKeys.mu.Lock()
	defer h.queueKeys.mu.Unlock()
	h.queueKeys.by[domain] = publishedIDs{ids, time.Now().Add(24 * time.Hour)}
}

// Sweep runs one sweep of pending rows.
func (h *Hub) Sweep(ctx context.Context) error { return h.sweepPending(ctx) }

// RepeatFirstContacts sends the first envelopes that are due.
func (h *Hub) RepeatFirstContacts(ctx context.Context) error { return h.repeatFirstContacts(ctx) }

// OutboxID names a destination's outbox.
func OutboxID(domain string) queue.ID { return outboxID(domain) }

// Row is an outbox row as tests see it.
type Row struct {
	Lane, Item string
	Sealed     []byte
	Envelope   []byte
}

// ParseRow reads an outbox entry.
func ParseRow(b []byte) (Row, bool) {
	r := codec.NewReader(b)
	o := readOutboxRow(r)
	return Row{string(o.lane[:]), string(o.itemID[:]), o.sealed, o.envelope}, r.Done() == nil
}

// DirtyKey is the mark of a room with possibly pending rows.
func DirtyKey(groupID []byte) kv.Key { return kv.Key{Group: dirtyGroup, Name: string(groupID)} }

// RoomGroup is where a room's records are.
func RoomGroup(groupID []byte) string { return roomKey(groupID, "").Group }

// Limits of the hub that tests run into.
const (
	MaxCatchUp    = maxCatchUp
	PrefixPending = prefixPending
	PrefixFirst   = prefixFirst
)

// CurrentRows are the store keys of a room's big rows, for somebody who has the
// disk and a key at rest; ok is false if that is not the room's current one.
func (h *Hub) CurrentRows(ctx context.Context, groupID []byte, ear primitive.Secret) (rows []kv.Key, ok bool) {
	r, err := h.open(ctx, groupID, ear)
	if err != nil {
		return nil, false
	}
	for _, row := range []bigRow{r.head.roster, r.head.tree, r.head.wrap} {
		if row.name != "" {
			rows = append(rows, rowKey(r, row.name))
		}
	}
	return rows, true
}

// LogKey is where an event is logged under a key at rest.
func LogKey(groupID []byte, ear primitive.Secret, seq uint64) kv.Key {
	return rowKey(&room{groupID: groupID, key: seal.NewEARKey(ear, groupID)}, logRow(seq))
}

// SnapshotKeys are the store keys of an epoch's snapshot.
func SnapshotKeys(groupID []byte, ear primitive.Secret, epoch uint64) []kv.Key {
	r := &room{groupID: groupID, key: seal.NewEARKey(ear, groupID)}
	return []kv.Key{rowKey(r, snapshotRow(epoch)), rowKey(r, snapshotTreeRow(epoch)), rowKey(r, snapshotWrapRow(epoch))}
}

// ResetLimits forgets how often codes and proofs were tried.
func (h *Hub) ResetLimits() { h.codes = newKeyRates(h.cfg.Rates.Codes, time.Minute) }

// Deliverable is what is left of a destination's outbox when the rows of
// leaving leaves are dropped, as they are when their turn comes.
func (h *Hub) Deliverable(ctx context.Context, domain string) ([]Row, error) {
	d := &delivery{h: h, id: outboxID(domain)}
	batch, _, err := d.collect(ctx)
	if err != nil {
		return nil, err
	}
	if batch, err = d.withoutStopped(ctx, batch); err != nil {
		return nil, err
	}
	var rows []Row
	for _, b := range batch {
		rows = append(rows, Row{string(b.row.lane[:]), string(b.row.itemID[:]), b.row.sealed, b.row.envelope})
	}
	return rows, nil
}

// ReportGone is a relay's answer that a lane is gone.
func (h *Hub) ReportGone(ctx context.Context, lane string, now time.Time) error {
	return h.reportGone(ctx, [16]byte([]byte(lane)), now)
}

// ForgetRooms empties the cache, as sixty seconds do.
func (h *Hub) ForgetRooms() { h.cache = newCache(1024) }

// SweepIdle looks for idle rooms, whenever it was done last.
func (h *Hub) SweepIdle(ctx context.Context, now time.Time) error {
	if err := kv.Delete(ctx, h.cfg.Store, idleSwept); err != nil {
		return err
	}
	return h.sweepIdle(ctx, now)
}

// Names of records.
const (
	NameTombstone = nameTombstone
	PrefixStop    = prefixStop
)

// Lanes are those of a room's leaves.
func (h *Hub) Lanes(ctx context.Context, groupID []byte, ear primitive.Secret) (lanes []string) {
	r, err := h.open(ctx, groupID, ear)
	if err != nil {
		return nil
	}
	for _, l := range r.roster.leaves {
		lanes = append(lanes, string(l.lane[:]))
	}
	return lanes
}

// Addresses are where the rows of a destination would be delivered to, each once.
func (h *Hub) Addresses(ctx context.Context, domain string) ([][]byte, error) {
	d := &delivery{h: h, id: outboxID(domain)}
	batch, _, err := d.collect(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.address(ctx, batch); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, b := range batch {
		out = append(out, b.row.sealed)
	}
	return out, nil
}

// Limits are those in force.
func (h *Hub) Limits() Limits { return h.cfg.Limits }

// Answered is a relay that answers a whole batch alike; it returns where the rows
// were sent.
func (h *Hub) Answered(ctx context.Context, domain string, status byte) ([][]byte, error) {
	d := &delivery{h: h, id: outboxID(domain), waiting: make(map[[16]byte]time.Time)}
	batch, _, err := d.collect(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.address(ctx, batch); err != nil {
		return nil, err
	}
	var to [][]byte
	for _, b := range batch {
		to = append(to, b.row.sealed)
	}
	return to, d.settle(ctx, batch, bytes.Repeat([]byte{status}, len(batch)))
}

// PutRow puts a row into a destination's outbox.
func PutRow(ctx context.Context, q queue.Store, domain, lane, item string, sealed, envelope []byte) error {
	if err := q.Create(ctx, outboxID(domain), outboxLimits); err != nil && !errors.Is(err, queue.ErrExists) {
		return err
	}
	row := outboxRow{lane: [16]byte([]byte(lane)), itemID: [16]byte([]byte(item)), domain: domain, keyID: 1, sealed: sealed, envelope: envelope}
	_, err := queue.AppendOne(ctx, q, queue.Append{Queue: outboxID(domain), Entry: row.append(nil), Dedup: row.itemID[:]})
	return err
}

// PutOneTime gives a lane one-time addresses.
func PutOneTime(ctx context.Context, s kv.Store, lane string, sealed ...[]byte) error {
	var x seals
	for _, b := range sealed {
		x.list = append(x.list, oneTime{1, b})
	}
	_, err := kv.Put(ctx, s, sealKey([16]byte([]byte(lane))), 0, x.marshal(), sealsKeptFor)
	return err
}

// OneTimeLeft is how many one-time addresses a lane has.
func OneTimeLeft(ctx context.Context, s kv.Store, lane string) int {
	rec, err := s.Get(ctx, sealKey([16]byte([]byte(lane))))
	if err != nil {
		return 0
	}
	x, err := parseSeals(rec.Value)
	if err != nil {
		return -1
	}
	return len(x.list)
}

// StopLane marks a lane as stopped.
func StopLane(ctx context.Context, s kv.Store, lane string) error {
	_, err := s.Apply(ctx, []kv.Op{{Key: kv.Key{Group: stoppedGroup, Name: lane}, Value: []byte{1}, TTL: stoppedFor}})
	return err
}

// ReportedGone says whether a relay called a lane gone.
func ReportedGone(ctx context.Context, s kv.Store, lane string) bool {
	_, err := s.Get(ctx, goneKey([16]byte([]byte(lane))))
	return err == nil
}

// DispatchLease is the key of a destination's lease.
func DispatchLease(domain string) kv.Key {
	return kv.Key{Group: "lease", Name: string(outboxID(domain))}
}
