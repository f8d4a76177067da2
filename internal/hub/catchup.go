package hub

import (
	"context"
	"errors"
	"math"
	"slices"

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
	r, first, err := h.logReader(ctx, c)
	if err != nil {
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
	for seq := max(req.GetFromSeq(), first, 1); seq <= r.head.seq && len(res.Events) < limit; seq++ {
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

// logReader authenticates a caller and returns the room whose log it may read,
// and from which event on. With a key that was replaced that log ends with the
// commit that did it (SPEC.md R-103).
func (h *Hub) logReader(ctx context.Context, c *gateway.Call) (r *room, first uint64, err error) {
	r, l, err := h.authenticate(ctx, c)
	s, past := errors.AsType[*stale](err)
	switch {
	case past:
		if !h.rates.allow(c.GroupID, s.leaf.index, false) {
			return nil, 0, mmrerr.RateLimited
		}
		s.r.head.seq = s.gen.last
		return s.r, s.leaf.first, nil
	case err != nil:
		return nil, 0, err
	}
	return r, l.first, h.admit(r, l, false)
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
