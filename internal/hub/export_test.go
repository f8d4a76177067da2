package hub

import (
	"context"
	"time"

	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/queue"
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
