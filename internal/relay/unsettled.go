package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// A mailbox is a queue in one store and records in another, so it is made and
// deleted in steps that a crash can come between. A mark in the group of
// unsettled mailboxes is written before the first of them. The read key then
// decides what a mailbox is that was left between two steps: with it the mailbox
// is there; without it nobody can read or fill it, and a sweep removes the rest.
//
// The mark of a new mailbox is also how the repeat of a request finds the mailbox
// that the first attempt made, and so it stays for a while.
const (
	unsettledGroup = "unsettled"
	prefixCreated  = "c" // with a hash of the request
	prefixDeleted  = "d" // with the mailbox's id
	// settleAfter is longer than a request may be repeated (SPEC.md R-66) and far
	// longer than a call may take.
	settleAfter = 15 * time.Minute
	settleEvery = time.Minute
)

// createdMark names the mark of a mailbox that a request creates.
func createdMark(readKey []byte, requestID [16]byte) kv.Key {
	h := primitive.Hash([]byte("mailbox"), readKey, requestID[:])
	return kv.Key{Group: unsettledGroup, Name: prefixCreated + string(h[:16])}
}

func deletedMark(id queue.ID) kv.Key {
	return kv.Key{Group: unsettledGroup, Name: prefixDeleted + string(id)}
}

func marshalMark(id queue.ID, now time.Time) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(now.Unix())), id...)
}

func parseMark(b []byte) (id queue.ID, at time.Time, ok bool) {
	if len(b) != 8+queueIDSize {
		return "", time.Time{}, false
	}
	return queue.ID(b[8:]), time.Unix(int64(binary.BigEndian.Uint64(b)), 0), true
}

// settle finishes what was left between two steps.
func (r *Relay) settle(ctx context.Context, now time.Time) error {
	for rec, err := range r.cfg.Mailboxes.Scan(ctx, unsettledGroup, "") {
		if err != nil {
			return err
		}
		id, at, ok := parseMark(rec.Value)
		if ok && now.Sub(at) < settleAfter {
			continue
		}
		if ok {
			if err := r.removeRest(ctx, id); err != nil {
				return err
			}
		}
		// In the version read: one that was written again stays.
		_, err = r.cfg.Mailboxes.Apply(ctx, []kv.Op{{Key: rec.Key, Check: true, Old: rec.Version}})
		if err != nil && !errors.Is(err, kv.ErrConflict) {
			return err
		}
	}
	return nil
}

// removeRest removes what a mailbox without a read key has left, but for the
// memory of its deletion. It can be repeated at any time.
func (r *Relay) removeRest(ctx context.Context, id queue.ID) error {
	if meta, err := r.queueMeta(ctx, id); err != nil || meta.exists {
		return err
	}
	if err := r.cfg.Queues.Delete(ctx, id); err != nil {
		return err
	}
	var ops []kv.Op
	for rec, err := range r.cfg.Mailboxes.Scan(ctx, mailboxKey(id, "").Group, "") {
		if err != nil {
			return err
		}
		if rec.Key.Name == nameGone {
			continue
		}
		if ops = append(ops, kv.Op{Key: rec.Key}); len(ops) == kv.MaxOps {
			if _, err := r.cfg.Mailboxes.Apply(ctx, ops); err != nil {
				return err
			}
			ops = nil
		}
	}
	if len(ops) == 0 {
		return nil
	}
	_, err := r.cfg.Mailboxes.Apply(ctx, ops)
	return err
}

// maintain does the periodic work until the relay stops.
func (r *Relay) maintain() {
	t := time.NewTicker(settleEvery)
	defer t.Stop()
	for {
		if err := r.settle(r.ctx, time.Now()); err != nil && r.ctx.Err() == nil {
			r.cfg.Logger.Warn("sweep did not finish", "err_class", "store")
		}
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
		}
	}
}
