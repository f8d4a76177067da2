package hub

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

const (
	maxCatchUp      = 1000
	maxCatchUpBytes = 900_000 // of events in one answer, which travels in one bucket of at most 1 MiB
)

// catchUp returns logged events to a leaf, from its own first one on (SPEC.md R-104).
func (h *Hub) catchUp(ctx context.Context, c *gateway.Call, req *hubv1.CatchUpRequest) (*hubv1.CatchUpResponse, error) {
	r, l, err := h.authenticate(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := h.admit(r, l, false); err != nil {
		return nil, err
	}
	limit := int(req.GetMax())
	if limit == 0 {
		limit = maxCatchUp
	}
	if limit > maxCatchUp {
		return nil, mmrerr.Malformed
	}
	res := &hubv1.CatchUpResponse{LastSeq: r.head.seq}
	size := 0
	for seq := max(req.GetFromSeq(), l.first, 1); seq <= r.head.seq && len(res.Events) < limit; seq++ {
		core, _, err := h.readRow(ctx, r, logRow(seq))
		if errors.Is(err, kv.ErrNotFound) {
			if len(res.Events) == 0 {
				return nil, mmrerr.LogTruncated
			}
			break
		}
		if err != nil {
			return nil, err
		}
		e, err := h.logged(ctx, r, seq, core)
		if err != nil {
			return nil, err
		}
		b, err := e.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		if size += len(b); size > maxCatchUpBytes && len(res.Events) > 0 {
			break
		}
		res.Events = append(res.Events, b)
	}
	return res, nil
}

// A chain row holds what the core of an event leaves out.
func chainRow(seq uint64) string { return "chain:" + logRow(seq) }

// logged rebuilds an event from its log rows.
func (h *Hub) logged(ctx context.Context, r *room, seq uint64, core []byte) (*seal.Event, error) {
	e, err := seal.ParseCore(core)
	if err != nil {
		return nil, err
	}
	b, _, err := h.readRow(ctx, r, chainRow(seq))
	if err != nil {
		return nil, err
	}
	rd := codec.NewReader(b)
	rd.Copy(e.Chain[:])
	e.Receipt = rd.Vector(math.MaxInt)
	e.Seq = seq
	return e, rd.Done()
}

func marshalChain(e *seal.Event) []byte {
	return codec.AppendVector(slices.Clone(e.Chain[:]), e.Receipt)
}

// snapshot is what a joiner by Welcome starts from (SPEC.md R-105). Tree and
// entries are named, not copied: the rows stay while a snapshot names them.
type snapshot struct {
	tree, links bigRow
	seq         uint64
	chain       [32]byte
	waiting     []uint32 // leaves that have not fetched it, ascending
}

func (s *snapshot) marshal() []byte {
	var b []byte
	for _, row := range []bigRow{s.tree, s.links} {
		b = codec.AppendVector(b, row.name)
		b = binary.BigEndian.AppendUint64(b, row.n)
	}
	b = binary.BigEndian.AppendUint64(b, s.seq)
	b = append(b, s.chain[:]...)
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, i := range s.waiting {
			b = binary.BigEndian.AppendUint32(b, i)
		}
		return b
	})
}

func parseSnapshot(b []byte) (*snapshot, error) {
	r := codec.NewReader(b)
	s := new(snapshot)
	for _, row := range []*bigRow{&s.tree, &s.links} {
		row.name = string(r.Vector(64))
		row.n = r.Uint64()
	}
	s.seq = r.Uint64()
	r.Copy(s.chain[:])
	w := r.Sub(math.MaxInt)
	for !w.Empty() {
		s.waiting = append(s.waiting, w.Uint32())
	}
	r.Join(w)
	return s, r.Done()
}

// joinState serves the snapshot of the epoch a leaf was welcomed into.
func (h *Hub) joinState(ctx context.Context, c *gateway.Call, req *hubv1.JoinStateRequest) (*hubv1.JoinStateResponse, error) {
	defer h.locks.lock(c.GroupID)()
	r, l, err := h.authenticateKey(ctx, c, req.GetSignatureKey())
	if err != nil {
		return nil, err
	}
	if err := h.admit(r, l, false); err != nil {
		return nil, err
	}
	b, _, err := h.readRow(ctx, r, snapshotRow(req.GetEpoch()))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, mmrerr.LogTruncated
	}
	if err != nil {
		return nil, err
	}
	s, err := parseSnapshot(b)
	if err != nil {
		return nil, err
	}
	if s.seq < l.first && l.first != 0 && s.seq+1 < l.first {
		return nil, mmrerr.LogTruncated // an epoch before the caller's own
	}
	at := *r
	at.head.tree, at.head.links, at.tree, at.entries = s.tree, s.links, nil, nil
	if err := h.loadTree(ctx, &at); err != nil {
		return nil, err
	}
	if err := h.joined(ctx, r, l, c.Now); err != nil {
		return nil, err
	}
	return &hubv1.JoinStateResponse{
		RatchetTree: at.tree.TreeBytes(), LinkEntries: linkEntries(at.entries), Seq: s.seq, Chain: s.chain[:],
	}, nil
}

// joined records that a welcomed client has arrived: its first envelope need
// not be sent again (SPEC.md R-78).
func (h *Hub) joined(ctx context.Context, r *room, l *leaf, now time.Time) error {
	if !l.joining {
		return nil
	}
	next := r.roster.clone()
	next.leaf(l.index).joining = false
	ch := h.begin(r, now)
	if err := ch.setRoster(next); err != nil {
		return err
	}
	ch.ops = append(ch.ops, kv.Op{Key: firstContactKey(r.groupID, l.lane)})
	return ch.commit(ctx)
}
