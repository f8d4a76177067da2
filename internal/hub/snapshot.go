package hub

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

const (
	snapshotVersion = 2
	snapshotFor     = 30 * 24 * time.Hour // SPEC.md R-105
	// fetchedFor is how long a snapshot stays when every joiner has fetched it: an
	// answer may have been lost.
	fetchedFor = 24 * time.Hour
)

// snapshot is what a joiner by Welcome starts from (SPEC.md R-105), under the
// key at rest of its epoch. Tree and link keys are copies in rows of their own:
// the room's rows go their own way, also when the room gets another key.
type snapshot struct {
	at      uint64 // Unix seconds
	seq     uint64
	chain   [32]byte
	waiting []uint32 // leaves that have not fetched it, ascending
}

// Names of a snapshot's rows.
func snapshotRow(e uint64) string     { return "snap:" + strconv.FormatUint(e, 10) }
func snapshotTreeRow(e uint64) string { return snapshotRow(e) + ":tree" }
func snapshotWrapRow(e uint64) string { return snapshotRow(e) + ":wrap" }

func (s *snapshot) marshal() []byte {
	b := []byte{snapshotVersion}
	b = binary.BigEndian.AppendUint64(b, s.at)
	b = binary.BigEndian.AppendUint64(b, s.seq)
	b = append(b, s.chain[:]...)
	return appendLeaves(b, s.waiting)
}

func parseSnapshot(b []byte) (*snapshot, error) {
	r := codec.NewReader(b)
	if r.Uint8() != snapshotVersion {
		r.Fail(errNewer)
	}
	s := &snapshot{at: r.Uint64(), seq: r.Uint64()}
	r.Copy(s.chain[:])
	s.waiting = readLeaves(r)
	return s, r.Done()
}

// snapshot adds the rows for the leaves that the change's epoch welcomes.
func (c *change) snapshot(added []addedLeaf, e *seal.Event, now time.Time) error {
	s := &snapshot{at: uint64(now.Unix()), seq: e.Seq, chain: e.Chain}
	for _, a := range added {
		s.waiting = append(s.waiting, a.index)
	}
	slices.Sort(s.waiting)
	wrap, err := c.next.wrapBytes()
	if err != nil {
		return err
	}
	epoch := c.next.head.epoch
	for _, row := range []struct {
		name    string
		content []byte
	}{{snapshotRow(epoch), s.marshal()}, {snapshotTreeRow(epoch), c.next.tree.TreeBytes()}, {snapshotWrapRow(epoch), wrap}} {
		if err := c.row(row.name, row.content, snapshotFor); err != nil {
			return err
		}
	}
	return nil
}

// joinState serves the snapshot of the epoch a leaf was welcomed into.
func (h *Hub) joinState(ctx context.Context, c *gateway.Call, req *hubv1.JoinStateRequest) (*hubv1.JoinStateResponse, error) {
	defer h.locks.lock(c.GroupID)()
	r, l, err := h.authenticateKey(ctx, c, req.GetSignatureKey())
	if past, ok := errors.AsType[*stale](err); ok {
		return h.joinPast(ctx, c, past, req.GetEpoch())
	}
	if err != nil {
		return nil, err
	}
	if err := h.admit(r, l, false); err != nil {
		return nil, err
	}
	s, res, err := h.readSnapshot(ctx, r, req.GetEpoch(), l.first)
	if err != nil {
		return nil, err
	}
	if is, err := h.frozen(ctx); err != nil || is {
		return res, err // read, and not written
	}
	return res, h.joined(ctx, r, l, req.GetEpoch(), s, c.Now)
}

// readSnapshot reads the snapshot of an epoch for a leaf whose first event is
// first.
func (h *Hub) readSnapshot(ctx context.Context, r *room, epoch, first uint64) (*snapshot, *hubv1.JoinStateResponse, error) {
	var rows [3][]byte
	for i, name := range []string{snapshotRow(epoch), snapshotTreeRow(epoch), snapshotWrapRow(epoch)} {
		b, _, err := h.readRow(ctx, r, name)
		if errors.Is(err, kv.ErrNotFound) {
			return nil, nil, mmrerr.LogTruncated
		}
		if err != nil {
			return nil, nil, err
		}
		rows[i] = b
	}
	s, err := parseSnapshot(rows[0])
	if err != nil {
		return nil, nil, err
	}
	if s.seq+1 < first {
		return nil, nil, mmrerr.LogTruncated // an epoch before the caller's own
	}
	res := &hubv1.JoinStateResponse{RatchetTree: rows[1], Seq: s.seq, Chain: s.chain[:]}
	if res.LinkEntries, res.WrapState, err = servedWrap(rows[2]); err != nil {
		return nil, nil, err
	}
	return s, res, nil
}

// joined records that a welcomed client has arrived: its first envelope need
// not be sent again (SPEC.md R-78), and a snapshot that nobody waits for goes.
func (h *Hub) joined(ctx context.Context, r *room, l *leaf, epoch uint64, s *snapshot, now time.Time) error {
	i, waiting := slices.BinarySearch(s.waiting, l.index)
	if !l.joining && !waiting {
		return nil
	}
	ch := h.begin(r, now)
	if l.joining {
		next := r.roster.clone()
		next.leaf(l.index).joining = false
		if err := ch.setRoster(next); err != nil {
			return err
		}
		ch.ops = append(ch.ops, kv.Op{Key: firstContactKey(r.groupID, l.lane)})
	}
	if waiting {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		ops, err := h.fetched(ctx, r, epoch, s, now)
		if err != nil {
			return err
		}
		ch.ops = append(ch.ops, ops...)
	}
	return ch.commit(ctx)
}

// joinPast serves a joiner that has the key at rest of its epoch, which was
// replaced before it came: no other has been sent to it (SPEC.md R-105). The
// room's roster cannot be opened with that, and need not be.
func (h *Hub) joinPast(ctx context.Context, c *gateway.Call, past *stale, epoch uint64) (*hubv1.JoinStateResponse, error) {
	if !h.rates.allow(c.GroupID, past.leaf.index, false) {
		return nil, mmrerr.RateLimited
	}
	s, res, err := h.readSnapshot(ctx, past.r, epoch, past.leaf.first)
	if err != nil {
		return nil, err
	}
	i, waiting := slices.BinarySearch(s.waiting, past.leaf.index)
	if is, err := h.frozen(ctx); err != nil || is || !waiting {
		return res, err
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	ops, err := h.fetched(ctx, past.r, epoch, s, c.Now)
	if err != nil {
		return nil, err
	}
	_, err = h.cfg.Store.Apply(ctx, append(ops, kv.Op{Key: firstContactKey(c.GroupID, past.leaf.lane)}))
	return res, err
}

// fetched returns the writes that a snapshot needs after one more joiner has
// fetched it.
func (h *Hub) fetched(ctx context.Context, r *room, epoch uint64, s *snapshot, now time.Time) ([]kv.Op, error) {
	left := snapshotFor - max(now.Sub(time.Unix(int64(s.at), 0)), 0)
	names := []string{snapshotTreeRow(epoch), snapshotWrapRow(epoch)}
	if len(s.waiting) > 0 {
		names = nil
	} else {
		left = min(left, fetchedFor)
	}
	left = max(left, time.Second)
	rec, err := h.cfg.Store.Get(ctx, rowKey(r, snapshotRow(epoch)))
	if err != nil {
		return nil, err
	}
	if len(rec.Value) < 8 {
		return nil, codec.ErrMalformed
	}
	// A version of its own: no two contents under one key (SPEC.md R-101).
	n := binary.BigEndian.Uint64(rec.Value) + 1
	sealed, err := r.key.SealRow(snapshotRow(epoch), n, s.marshal())
	if err != nil {
		return nil, err
	}
	ops := []kv.Op{{Key: rec.Key, Value: append(binary.BigEndian.AppendUint64(nil, n), sealed...), TTL: left, Check: true, Old: rec.Version}}
	for _, name := range names {
		rec, err := h.cfg.Store.Get(ctx, rowKey(r, name))
		if err != nil {
			return nil, err
		}
		ops = append(ops, kv.Op{Key: rec.Key, Value: rec.Value, TTL: left})
	}
	return ops, nil
}
