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
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// A commit that the hub accepted and members cannot process (SPEC.md R-140):
// the hub counts the users who say so and tells all. It does nothing else.
//
// Who cannot process a commit that replaced the key at rest does not have the
// new key. Its report waits in the room, in clear (epoch, hash of the commit,
// leaf), until somebody with the key opens it.

const (
	prefixNotice  = "n" // of waiting reports
	noticeVersion = 1
	maxWaiting    = 64 // commits with waiting reports in a room
)

// commitRow is the hash of the commit that ended an epoch, reportRow who
// reported it.
func commitRow(epoch uint64) string { return "commit:" + strconv.FormatUint(epoch, 10) }
func reportRow(epoch uint64) string { return "report:" + strconv.FormatUint(epoch, 10) }

// waiting are reports of one commit by leaves that had the old key.
type waiting struct {
	epoch  uint64
	hash   [32]byte
	leaves []uint32
}

func (w *waiting) marshal() []byte {
	b := []byte{noticeVersion}
	b = binary.BigEndian.AppendUint64(b, w.epoch)
	b = append(b, w.hash[:]...)
	return appendLeaves(b, w.leaves)
}

func parseWaiting(b []byte) (*waiting, error) {
	r := codec.NewReader(b)
	if r.Uint8() != noticeVersion {
		r.Fail(errNewer)
	}
	w := &waiting{epoch: r.Uint64()}
	r.Copy(w.hash[:])
	w.leaves = readLeaves(r)
	return w, r.Done()
}

// reportCommit counts a user who cannot process a commit.
func (h *Hub) reportCommit(ctx context.Context, c *gateway.Call, req *hubv1.ReportCommitRequest) (*hubv1.ReportCommitResponse, error) {
	defer h.locks.lock(c.GroupID)()
	r, l, err := h.authenticate(ctx, c)
	past, stale := errors.AsType[*stale](err)
	if err != nil && !stale {
		return nil, err
	}
	at := r // where the commit is logged
	if stale {
		at = past.r
		if !h.rates.allow(c.GroupID, past.leaf.index, true) {
			return nil, mmrerr.RateLimited
		}
		err = h.notFrozen(ctx)
	} else if r, l, err = h.opened(ctx, r, l, c.Now); err == nil {
		at, err = r, h.admitChange(ctx, r, l, true)
	}
	if err != nil {
		return nil, err
	}
	if len(req.GetCommitHash()) != 32 {
		return nil, mmrerr.Malformed
	}
	hash, _, err := h.readRow(ctx, at, commitRow(req.GetEpoch()))
	if errors.Is(err, kv.ErrNotFound) || err == nil && !equal(hash, req.GetCommitHash()) {
		return nil, mmrerr.LogTruncated // no commit of which the log knows
	}
	if err != nil {
		return nil, err
	}
	w := &waiting{epoch: req.GetEpoch(), hash: [32]byte(hash)}
	if stale {
		return &hubv1.ReportCommitResponse{}, h.wait(ctx, c.GroupID, w, past.leaf.index)
	}
	_, err = h.notify(ctx, r, w, []pseudonym.ID{l.user}, nil, c.Now)
	return &hubv1.ReportCommitResponse{}, err
}

// wait keeps the report of a leaf that has the old key.
func (h *Hub) wait(ctx context.Context, groupID []byte, w *waiting, index uint32) error {
	key := roomKey(groupID, prefixNotice+string(w.hash[:16]))
	rec, err := h.cfg.Store.Get(ctx, key)
	switch {
	case errors.Is(err, kv.ErrNotFound):
		n := 0
		for _, err := range h.cfg.Store.Scan(ctx, key.Group, prefixNotice) {
			if n++; err != nil || n >= maxWaiting {
				return errors.Join(err, mmrerr.RateLimited)
			}
		}
	case err != nil:
		return err
	default:
		if w, err = parseWaiting(rec.Value); err != nil {
			return err
		}
	}
	i, has := slices.BinarySearch(w.leaves, index)
	if has {
		return nil
	}
	w.leaves = slices.Insert(w.leaves, i, index)
	_, err = kv.Put(ctx, h.cfg.Store, key, rec.Version, w.marshal(), logFor)
	return err
}

// notices sends the notices of reports that waited for the room's key.
func (h *Hub) notices(ctx context.Context, r *room, now time.Time) (*room, error) {
	for rec, err := range h.cfg.Store.Scan(ctx, roomKey(r.groupID, "").Group, prefixNotice) {
		if err != nil {
			return nil, err
		}
		w, err := parseWaiting(rec.Value)
		if err != nil {
			return nil, err
		}
		var users []pseudonym.ID
		for _, i := range w.leaves {
			if l := r.roster.leaf(i); l != nil {
				users = append(users, l.user)
			}
		}
		if r, err = h.notify(ctx, r, w, users, &kv.Op{Key: rec.Key, Check: true, Old: rec.Version}, now); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// notify counts users who reported a commit and, if there are new ones, tells
// everybody how many there are. done is written with it, and returned is the
// room after it.
func (h *Hub) notify(ctx context.Context, r *room, w *waiting, users []pseudonym.ID, done *kv.Op, now time.Time) (*room, error) {
	known, _, err := h.readRow(ctx, r, reportRow(w.epoch))
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return nil, err
	}
	before := len(known)
	for _, u := range users {
		id := primitive.Hash([]byte(u.String()))
		if !slices.ContainsFunc(slices.Collect(slices.Chunk(known, 16)), func(x []byte) bool { return equal(x, id[:16]) }) {
			known = append(known, id[:16]...)
		}
	}
	if len(known) == before {
		if done == nil {
			return r, nil
		}
		_, err := h.cfg.Store.Apply(ctx, []kv.Op{*done})
		return r, err
	}
	detail := binary.BigEndian.AppendUint64(nil, w.epoch)
	detail = append(detail, w.hash[:]...)
	detail = binary.BigEndian.AppendUint32(detail, uint32(len(known)/16))
	ch := h.begin(r, now)
	e := &seal.Event{Epoch: r.head.epoch, Body: &seal.NoticeEvent{Notice: seal.NoticeCommitReported, Detail: detail}}
	if err := ch.number(e, now); err != nil {
		return nil, err
	}
	rows, err := sealTo(notLeaving(r.roster), e, r.head.epoch)
	if err != nil {
		return nil, err
	}
	if err := ch.row(reportRow(w.epoch), known, logFor); err != nil {
		return nil, err
	}
	if done != nil {
		ch.ops = append(ch.ops, *done)
	}
	if err := h.accept(ctx, ch, rows); err != nil {
		return nil, err
	}
	h.metrics.events.WithLabelValues("notice").Inc()
	return ch.next, nil
}
