package hub

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// number gives an event its place in the room: seq, chain and receipt
// (SPEC.md R-74). It moves the change's head on.
func (c *change) number(e *seal.Event, now time.Time) error {
	e.GroupID = c.next.groupID
	e.AcceptedMS = uint64(now.UnixMilli())
	core, err := e.Core()
	if err != nil {
		return err
	}
	e.Seq = c.base.head.seq + 1
	e.Chain = seal.ChainNext(c.base.head.chain, e.Seq, core)
	c.next.head.seq, c.next.head.chain = e.Seq, e.Chain
	e.Receipt, err = e.Accepted().Sign(c.h.identity(c.base.roster.suite))
	if err != nil {
		return err
	}
	if n := uint64(c.h.cfg.Limits.LogEvents); e.Seq > n {
		old := e.Seq - n
		c.ops = append(c.ops, kv.Op{Key: rowKey(c.base, logRow(old))}, kv.Op{Key: rowKey(c.base, chainRow(old))})
	}
	// Under the key of before: who was there reads the commit that replaces it.
	if err := c.rowUnder(c.base.key, chainRow(e.Seq), marshalChain(e), logFor); err != nil {
		return err
	}
	return c.rowUnder(c.base.key, logRow(e.Seq), core, logFor)
}

// sealTo seals an event to every leaf, under the K it has now.
func sealTo(leaves []*leaf, e *seal.Event, epoch uint64) ([]outboxRow, error) {
	b, err := e.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	rows := make([]outboxRow, 0, len(leaves))
	for _, l := range leaves {
		env, err := seal.SealEnvelope(seal.StoredDeliveryKey(epoch, l.k), b)
		if err != nil {
			return nil, err
		}
		rows = append(rows, newRow(l, env))
	}
	return rows, nil
}

// toOthers numbers an event that a leaf sent and seals it to everybody else, with
// cover beside it.
func (h *Hub) toOthers(ch *change, e *seal.Event, sender *leaf, now time.Time) ([]outboxRow, error) {
	if err := ch.number(e, now); err != nil {
		return nil, err
	}
	rows, err := sealTo(others(ch.base.roster, sender.index), e, ch.base.head.epoch)
	if err != nil {
		return nil, err
	}
	covers, err := h.cover(ch, e, rows, sender)
	return append(rows, covers...), err
}

// pendingBytes is how much of an event's rows one pending record holds, far below
// what a store takes for one.
const pendingBytes = 4 << 20

// pending puts finished rows into the change, to be flushed after it: records in
// the order of their names.
func (c *change) pending(rows []outboxRow) []flushJob {
	var jobs []flushJob
	for len(rows) > 0 {
		n, size := 0, 0
		for n < len(rows) && (n == 0 || size+rows[n].size() <= pendingBytes) {
			size += rows[n].size()
			n++
		}
		job := flushJob{pendingName(c.next.head.seq, len(jobs)), rows[:n]}
		c.ops = append(c.ops, kv.Op{Key: roomKey(c.next.groupID, job.name), Value: marshalRows(job.rows)})
		jobs, rows = append(jobs, job), rows[n:]
	}
	return jobs
}

// accept commits a change and hands its rows to the outboxes after the answer:
// the sender never waits for a recipient (SPEC.md R-78). kv.ErrConflict means
// that the room changed meanwhile.
func (h *Hub) accept(ctx context.Context, c *change, rows []outboxRow) error {
	if err := h.mark(ctx, c.base.groupID); err != nil {
		return err
	}
	jobs := c.pending(rows)
	stop := fmt.Sprintf("%s%020d", prefixStop, c.base.record.n+1)
	lanes := slices.Concat(arrays(c.stopped)...)
	if len(lanes) > 0 {
		c.ops = append(c.ops, kv.Op{Key: roomKey(c.base.groupID, stop), Value: lanes})
	}
	if err := c.commit(ctx); err != nil {
		return err
	}
	if len(lanes) > 0 {
		if err := h.stop(ctx, c.base.groupID, stop, lanes); err != nil {
			h.log.Warn("lanes of leaving members are not stopped yet; the sweep will do it", "err_class", "store")
		}
	}
	for _, j := range jobs {
		h.flusher.add(c.next.groupID, j.name, j.rows)
	}
	return nil
}

func accepted(e *seal.Event) *hubv1.Accepted {
	return &hubv1.Accepted{Epoch: e.Epoch, Seq: e.Seq, Chain: e.Chain[:], AcceptedMs: e.AcceptedMS, Receipt: e.Receipt}
}

func arrays(xs [][16]byte) [][]byte {
	out := make([][]byte, len(xs))
	for i := range xs {
		out[i] = xs[i][:]
	}
	return out
}

func newLane() (lane [16]byte) {
	_, _ = rand.Read(lane[:]) // never fails
	return lane
}
