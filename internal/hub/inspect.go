package hub

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Inspector tells tools what the rows of a hub's store are for. It has no key of
// a room, so of sealed rows it sees length and owner only.
type Inspector struct{}

var _ store.Inspector = Inspector{}

// Record implements store.Inspector.
func (Inspector) Record(ctx context.Context, s *store.Stores, rec kv.Record) (store.Finding, error) {
	if groupID, ok := strings.CutPrefix(rec.Key.Group, groupPrefix); ok && len(groupID) == groupIDSize {
		return inspectRoom(ctx, s, rec)
	}
	switch rec.Key.Group {
	case dirtyGroup:
		return finding("mark of a room", len(rec.Value) == 8), nil
	case firstContactGroup:
		return store.Finding{Kind: "index of first contacts"}, nil
	case sweepLease.Group:
		return store.Finding{Kind: "lease"}, nil
	case idleSwept.Group:
		return store.Finding{Kind: "time of a sweep"}, nil
	case goneGroup:
		return finding("report that a lane is gone", len(rec.Value) == 9), nil
	case stoppedGroup:
		return store.Finding{Kind: "stopped lane"}, nil
	case reportGroup:
		return store.Finding{Kind: "report of abuse"}, nil
	case sealGroup:
		_, err := parseSeals(rec.Value)
		return finding("one-time addresses", err == nil), nil
	}
	switch g := rec.Key.Group; {
	case len(g) == 2 && g[0] == 'r':
		return store.Finding{Kind: "request that was seen"}, nil
	case len(g) == 2 && g[0] == 't':
		return finding("spent token", len(rec.Value) >= 8), nil
	}
	return store.Finding{Kind: "record", Fault: "not of a hub"}, nil
}

func finding(kind string, whole bool) store.Finding {
	f := store.Finding{Kind: kind}
	if !whole {
		f.Fault = "does not decode"
	}
	return f
}

// inspectRoom is Record for what belongs to a room. A room's rows are written
// with its record or after it, in one transaction, and deleted before its
// tombstone: what has neither is nobody's.
func inspectRoom(ctx context.Context, s *store.Stores, rec kv.Record) (store.Finding, error) {
	f := roomFinding(rec)
	if rec.Key.Name == nameRecord || rec.Key.Name == nameTombstone {
		return f, nil
	}
	owners, err := s.KV.GetMany(ctx, rec.Key.Group, []string{nameRecord, nameTombstone})
	if err != nil {
		return f, err
	}
	f.Orphan = !slices.ContainsFunc(owners, func(r kv.Record) bool { return r.Version != 0 })
	return f, nil
}

func roomFinding(rec kv.Record) store.Finding {
	name := rec.Key.Name
	switch {
	case name == nameRecord:
		_, err := parseRecord(rec.Value)
		return finding("room", err == nil)
	case name == nameTombstone:
		return store.Finding{Kind: "ended room"}
	case strings.HasPrefix(name, prefixRow):
		const sealedOver = primitive.NonceSize + primitive.TagSize
		n := len(rec.Value) - 8 - sealedOver
		return finding("sealed row", len(name) == len(prefixRow)+16 && n >= 512 && n&(n-1) == 0 && binary.BigEndian.Uint64(rec.Value) > 0)
	case strings.HasPrefix(name, prefixPending):
		_, err := parseRows(rec.Value)
		return finding("pending envelopes", err == nil)
	case strings.HasPrefix(name, prefixStop):
		return finding("lanes to be stopped", len(rec.Value)%16 == 0)
	case strings.HasPrefix(name, prefixFirst):
		r := codec.NewReader(rec.Value)
		r.Uint8()
		r.Uint64()
		readOutboxRow(r)
		return finding("first contact", r.Done() == nil)
	case strings.HasPrefix(name, prefixNotice):
		_, err := parseWaiting(rec.Value)
		return finding("waiting report", err == nil)
	}
	return store.Finding{Kind: "record of a room", Fault: "not of a hub"}
}

// inspectedEntries is how far into an outbox an Inspector looks.
const inspectedEntries = 1000

// Queue implements store.Inspector. Whose outbox it is cannot be seen from its
// name, and nobody's are not told from those of a peer that is not configured at
// the moment.
func (Inspector) Queue(ctx context.Context, s *store.Stores, id queue.ID) (store.Finding, error) {
	es, err := s.Queue.Read(ctx, id, 0, inspectedEntries)
	if errors.Is(err, queue.ErrNotFound) {
		return store.Finding{Kind: "outbox"}, nil
	}
	if err != nil {
		return store.Finding{}, err
	}
	whole := len(id) == 17 && id[0] == 'o'
	for _, e := range es {
		r := codec.NewReader(e.Data)
		readOutboxRow(r)
		whole = whole && r.Done() == nil
	}
	return finding("outbox", whole), nil
}
