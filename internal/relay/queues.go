package relay

import (
	"context"
	"errors"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// maxAgeDays is the longest age a client can ask for.
const maxAgeDays = 30

// maxBlocks bounds the handles one mailbox can block.
const maxBlocks = 10_000

// queueCreate makes a mailbox for whoever holds the read key (SPEC.md R-54).
func (r *Relay) queueCreate(ctx context.Context, c *gateway.Call, req *relayv1.QueueCreateRequest) (*relayv1.QueueCreateResponse, error) {
	key, err := primitive.ParsePublicKey(primitive.Ed25519, req.GetReadKey())
	if err != nil || c.Verify(key) != nil {
		return nil, mmrerr.Malformed
	}
	if req.GetMaxAgeDays() > maxAgeDays {
		return nil, mmrerr.Malformed
	}
	limits := r.cfg.Limits.Queue
	if d := time.Duration(req.GetMaxAgeDays()) * 24 * time.Hour; d > 0 && d < limits.MaxAge {
		limits.MaxAge = d // the receiver may shorten, never lengthen
	}
	id, err := r.createMailbox(ctx, req.GetReadKey(), c.RequestID, limits, c.Now)
	if err != nil {
		return nil, err
	}
	return &relayv1.QueueCreateResponse{QueueId: []byte(id)}, nil
}

// owned authenticates a mailbox's owner. Unknown mailboxes and wrong keys
// answer alike, after the same work (SPEC.md R-67).
func (r *Relay) owned(ctx context.Context, c *gateway.Call, id []byte) (queue.ID, error) {
	_, err := r.ownedMeta(ctx, c, id)
	return queue.ID(id), err
}

func (r *Relay) ownedMeta(ctx context.Context, c *gateway.Call, id []byte) (mailboxMeta, error) {
	if len(id) != queueIDSize {
		return mailboxMeta{}, mmrerr.Malformed
	}
	meta, err := r.queueMeta(ctx, queue.ID(id))
	if err != nil {
		return mailboxMeta{}, err
	}
	if c.Verify(meta.readKey) != nil || !meta.exists {
		return mailboxMeta{}, mmrerr.NoConsent
	}
	return meta, nil
}

// setOwned writes a record of a mailbox for its owner, unless the mailbox is
// deleted meanwhile: nothing of it may come back.
func (r *Relay) setOwned(ctx context.Context, c *gateway.Call, id []byte, op kv.Op) error {
	for {
		meta, err := r.ownedMeta(ctx, c, id)
		if err != nil {
			return err
		}
		if _, err := r.cfg.Mailboxes.Apply(ctx, []kv.Op{meta.still(), op}); !errors.Is(err, kv.ErrConflict) {
			return err
		}
	}
}

func (r *Relay) queueBlock(ctx context.Context, c *gateway.Call, req *relayv1.QueueBlockRequest) (*relayv1.QueueBlockResponse, error) {
	if len(req.GetHandle()) != 16 {
		return nil, mmrerr.Malformed
	}
	id, err := r.owned(ctx, c, req.GetQueueId())
	if err != nil {
		return nil, err
	}
	blocks := quota{store: r.cfg.Mailboxes, guard: mailboxKey(id, nameReadKey), prefix: prefixBlock, max: maxBlocks}
	// A handle lives as long as the longest-lived address that carries it.
	_, err = blocks.add(ctx, kv.Op{Key: mailboxKey(id, prefixBlock+string(req.GetHandle())), Value: []byte{1}, TTL: goneFor})
	if errors.Is(err, kv.ErrNotFound) {
		return nil, mmrerr.NoConsent // deleted meanwhile: nothing of it may come back
	}
	if err != nil {
		return nil, err
	}
	return &relayv1.QueueBlockResponse{}, nil
}

func (r *Relay) queueDelete(ctx context.Context, c *gateway.Call, req *relayv1.QueueDeleteRequest) (*relayv1.QueueDeleteResponse, error) {
	id, err := r.owned(ctx, c, req.GetQueueId())
	if err != nil {
		return nil, err
	}
	if err := r.deleteMailbox(ctx, id, c.Now); err != nil {
		return nil, err
	}
	return &relayv1.QueueDeleteResponse{}, nil
}

func (r *Relay) queueStat(ctx context.Context, c *gateway.Call, req *relayv1.QueueStatRequest) (*relayv1.QueueStatResponse, error) {
	id, err := r.owned(ctx, c, req.GetQueueId())
	if err != nil {
		return nil, err
	}
	st, err := r.cfg.Queues.Stat(ctx, id)
	if err != nil {
		return nil, err
	}
	return &relayv1.QueueStatResponse{Entries: uint64(st.Entries), Dropped: st.Dropped}, nil
}
