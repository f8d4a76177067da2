package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
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
//
// and marks of mailboxes that are being made or deleted, in a group of their own
// (unsettled.go).
const (
	queueIDSize  = 16
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
	record  kv.Record // of the read key
}

// still is the condition that the mailbox has not been deleted since.
func (m *mailboxMeta) still() kv.Op {
	return kv.Op{Key: m.record.Key, Value: m.record.Value, Check: true, Old: m.record.Version}
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
	return mailboxMeta{exists: true, readKey: k, record: rec}, nil
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

// createMailbox makes the queue first and its key last: until then there is
// nothing to read or to fill. The repeat of a request finds the mailbox that the
// first attempt made (SPEC.md R-66).
func (r *Relay) createMailbox(ctx context.Context, readKey []byte, requestID [16]byte, l queue.Limits, now time.Time) (queue.ID, error) {
	id := make([]byte, queueIDSize)
	_, _ = rand.Read(id) // never fails
	first, earlier, err := kv.Once(ctx, r.cfg.Mailboxes, createdMark(readKey, requestID), marshalMark(queue.ID(id), now), 0)
	if err != nil {
		return "", err
	}
	if !first {
		has, _, ok := parseMark(earlier)
		if !ok {
			return "", errNewer
		}
		id = []byte(has)
	}
	if err := r.cfg.Queues.Create(ctx, queue.ID(id), l); err != nil && !errors.Is(err, queue.ErrExists) {
		return "", err
	}
	_, err = r.cfg.Mailboxes.Apply(ctx, []kv.Op{
		{Key: mailboxKey(queue.ID(id), nameReadKey), Value: bytes.Clone(readKey), Check: true},
		{Key: mailboxKey(queue.ID(id), nameGone), Check: true}, // it was not deleted meanwhile
	})
	if errors.Is(err, kv.ErrConflict) {
		meta, err := r.queueMeta(ctx, queue.ID(id))
		if err == nil && !meta.exists {
			err = mmrerr.NoConsent
		}
		return queue.ID(id), err
	}
	return queue.ID(id), err
}

// deleteMailbox removes the key first: from then on nobody reads, and
// deliveries are answered as SPEC.md R-53 says for deleted queues. What cannot be
// removed at once a sweep removes, since the owner cannot ask again.
func (r *Relay) deleteMailbox(ctx context.Context, id queue.ID, now time.Time) error {
	mark := deletedMark(id)
	if _, err := r.cfg.Mailboxes.Apply(ctx, []kv.Op{{Key: mark, Value: marshalMark(id, now)}}); err != nil {
		return err
	}
	_, err := r.cfg.Mailboxes.Apply(ctx, []kv.Op{
		{Key: mailboxKey(id, nameReadKey)},
		{Key: mailboxKey(id, nameListener)},
		{Key: mailboxKey(id, namePush)},
		{Key: mailboxKey(id, nameGone), Value: binary.BigEndian.AppendUint32(nil, seal.Day(now)), TTL: goneFor},
	})
	if err != nil {
		return err
	}
	if err = r.removeRest(ctx, id); err == nil {
		err = kv.Delete(ctx, r.cfg.Mailboxes, mark)
	}
	if err != nil {
		r.cfg.Logger.Warn("removing a deleted mailbox did not work; the sweep will repeat it", "err_class", "store")
	}
	return nil
}
