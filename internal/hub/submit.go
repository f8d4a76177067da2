package hub

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"time"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// submit accepts an application message (SPEC.md R-124). It touches the room
// record, one log row and nothing cold, so that its cost depends on the number
// of recipients and on nothing else.
func (h *Hub) submit(ctx context.Context, c *gateway.Call, req *hubv1.SubmitRequest) (*hubv1.SubmitResponse, error) {
	defer h.locks.lock(c.GroupID)()
	res := new(hubv1.SubmitResponse)
	r, l, again, err := h.enter(ctx, c, repeat{kindMessage, req.GetMessage(), res}, false)
	if err != nil {
		return nil, err
	}
	if again {
		return res, nil
	}
	if p := r.roster.policy; !p.MaySend(p.RoleOf(l.user)) || r.isMuted(l.user) {
		return nil, mmrerr.Role
	}
	items, err := checkMessage(r, req.GetMessage(), c.Now)
	if err != nil {
		return nil, err
	}
	frank, err := h.frank(r, l, items, c.Now)
	if err != nil {
		return nil, err
	}
	if r.head.seq-r.head.epochStart >= uint64(h.cfg.Limits.EventsPerEpoch) {
		return nil, mmrerr.EpochExhausted
	}
	ch := h.begin(r, c.Now)
	e := &seal.Event{Epoch: r.head.epoch, Body: &seal.MessageEvent{Message: req.GetMessage(), Frank: frank}}
	rows, err := h.toOthers(ch, e, l, c.Now)
	if err != nil {
		return nil, err
	}
	res.Accepted = accepted(e)
	if frank != nil { // without it the sender could not follow the chain
		if res.Frank, err = frank.AppendBinary(nil); err != nil {
			return nil, err
		}
	}
	if err := ch.remember(kindMessage, req.GetMessage(), res); err != nil {
		return nil, err
	}
	if err := h.accept(ctx, ch, rows); err != nil {
		return nil, err
	}
	h.metrics.events.WithLabelValues("message").Inc()
	return res, nil
}

// checkMessage checks form, epoch, size and authenticated data of an
// application message. The hub cannot read it; that is the point.
func checkMessage(r *room, b []byte, now time.Time) (pseudonym.AAD, error) {
	m, err := mls.ParseMessage(b, nil)
	if err != nil || m.Format != mls.FormatPrivateMessage || m.ContentType() != mls.ContentApplication || !equal(m.GroupID(), r.groupID) {
		return nil, mmrerr.WireFormat
	}
	switch epoch := m.Epoch(); {
	case epoch == r.head.epoch:
	case epoch+1 == r.head.epoch && !r.head.removed && now.Sub(time.UnixMilli(int64(r.head.endedAt))) <= prevEpochGrace:
		// A message that crossed a commit on the way. Not after a Remove: who was
		// removed must not read what is accepted after that.
	default:
		return nil, mmrerr.EpochTooOld
	}
	if !seal.IsMessageLength(len(m.Private.Ciphertext)) {
		return nil, mmrerr.PaddingBucket
	}
	// Without the tag, as R-133 counts: the default is a length that messages have.
	if int64(len(m.Private.Ciphertext)-primitive.TagSize) > int64(r.roster.policy.Limits.MaxMessage) {
		return nil, mmrerr.TooLarge
	}
	items, err := pseudonym.ParseAAD(m.AAD())
	if err != nil {
		return nil, err
	}
	return items, items.Check(r.roster.policy, pseudonym.AADContext{Carrier: pseudonym.Application})
}

// wrongEpoch carries the current epoch (SPEC.md R-121 step 6).
func wrongEpoch(r *room) error {
	return mmrerr.New(mmrerr.WrongEpoch, binary.BigEndian.AppendUint64(nil, r.head.epoch))
}

// others are the leaves that receive what one leaf says: neither leaving nor
// the sender (SPEC.md R-73).
func others(ro *roster, sender uint32) []*leaf {
	var ls []*leaf
	for _, l := range ro.leaves {
		if l.index != sender && !l.leaving {
			ls = append(ls, l)
		}
	}
	return ls
}

// Kinds of remembered requests. A repeat is one of the same kind: a message is
// no commit because it was accepted once.
const (
	kindCreation  = 'g'
	kindCommit    = 'c'
	kindJoin      = 'j'
	kindProposals = 'p'
	kindMessage   = 'm'
	kindRefresh   = 'w'
)

// An accepted message is remembered with its answer, under the hash of its
// bytes, as long as the log keeps it: a repeat is answered again and not fanned
// out again (SPEC.md R-66).
func answerRow(kind byte, message []byte) string {
	h := primitive.Hash([]byte{kind}, message)
	return "ans:" + hex.EncodeToString(h[:16])
}

func (h *Hub) answered(ctx context.Context, r *room, kind byte, message []byte, res proto.Message) bool {
	b, _, err := h.readRow(ctx, r, answerRow(kind, message))
	return err == nil && proto.Unmarshal(b, res) == nil
}

func (c *change) remember(kind byte, message []byte, res proto.Message) error {
	b, err := proto.Marshal(res)
	if err != nil {
		return err
	}
	if c.rotated() { // the repeat may come with either key
		if err := c.rowUnder(c.base.key, answerRow(kind, message), b, logFor); err != nil {
			return err
		}
	}
	return c.row(answerRow(kind, message), b, logFor)
}
