package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Records of a mailbox, all in the group of its id:
//
//	key        read key, and the day after which entries expire (none yet)
//	b<handle>  a blocked handle
//	listener   random id of the newest listener
//	push       the push token of its owner (push.go)
//	gone       the mailbox was deleted: the day it happened
const (
	nameReadKey  = "key"
	nameListener = "listener"
	nameGone     = "gone"
	prefixBlock  = "b"
)

// goneFor is how long a deleted mailbox is remembered: the longest delay of
// SPEC.md R-53 (15 days) and the validity of a queue key (90 days).
const goneFor = 105 * 24 * time.Hour

func mailboxKey(id queue.ID, name string) kv.Key { return kv.Key{Group: "q" + string(id), Name: name} }
func listenerKey(id queue.ID) kv.Key             { return mailboxKey(id, nameListener) }

// mailboxMeta is what a relay keeps about a mailbox besides its entries.
type mailboxMeta struct {
	exists  bool
	readKey primitive.PublicKey
}

// nobody is a key whose private half nobody has: signatures under it are
// checked where a mailbox does not exist, so that both cases cost the same.
var nobody = func() primitive.PublicKey {
	k, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		panic("relay: internal error: no key")
	}
	return k.Public()
}()

// queueMeta reads a mailbox's read key. A missing mailbox gives exists false
// and a key that verifies nothing.
func (r *Relay) queueMeta(ctx context.Context, id queue.ID) (mailboxMeta, error) {
	rec, err := r.cfg.Mailboxes.Get(ctx, mailboxKey(id, nameReadKey))
	if errors.Is(err, kv.ErrNotFound) {
		return mailboxMeta{readKey: nobody}, nil
	}
	if err != nil {
		return mailboxMeta{}, err
	}
	k, err := primitive.ParsePublicKey(primitive.Ed25519, rec.Value)
	if err != nil {
		return mailboxMeta{}, err
	}
	return mailboxMeta{exists: true, readKey: k}, nil
}

// fate is what becomes of a delivery to a mailbox, apart from its queue.
type fate int

const (
	deliver fate = iota
	drop         // blocked handle: answered as delivered
	gone         // deleted mailbox
)

// fateOf looks up whether the handle is blocked or the mailbox deleted.
func (r *Relay) fateOf(ctx context.Context, q seal.QueueConfig) (fate, uint32, error) {
	id := queue.ID(q.QueueID[:])
	rs, err := r.cfg.Mailboxes.GetMany(ctx, mailboxKey(id, "").Group, []string{prefixBlock + string(q.Handle[:]), nameGone})
	if err != nil {
		return 0, 0, err
	}
	switch {
	case rs[1].Version != 0 && len(rs[1].Value) == 4:
		return gone, binary.BigEndian.Uint32(rs[1].Value), nil
	case rs[0].Version != 0:
		return drop, 0, nil
	}
	return deliver, 0, nil
}

// createMailbox makes the queue first and its key last, so that a crash leaves
// at most a queue that nobody can name.
func (r *Relay) createMailbox(ctx context.Context, id queue.ID, readKey []byte, l queue.Limits) error {
	if err := r.cfg.Queues.Create(ctx, id, l); err != nil {
		return err
	}
	_, err := kv.Put(ctx, r.cfg.Mailboxes, mailboxKey(id, nameReadKey), 0, bytes.Clone(readKey), 0)
	return err
}

// deleteMailbox removes the key first: from then on nobody reads, and
// deliveries are answered as SPEC.md R-53 says for deleted queues.
func (r *Relay) deleteMailbox(ctx context.Context, id queue.ID, now time.Time) error {
	_, err := r.cfg.Mailboxes.Apply(ctx, []kv.Op{
		{Key: mailboxKey(id, nameReadKey)},
		{Key: mailboxKey(id, nameListener)},
		{Key: mailboxKey(id, namePush)},
		{Key: mailboxKey(id, nameGone), Value: binary.BigEndian.AppendUint32(nil, seal.Day(now)), TTL: goneFor},
	})
	if err != nil {
		return err
	}
	return r.cfg.Queues.Delete(ctx, id)
}
