package seal

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

// EventType says what an Event is.
type EventType uint8

// The types of events (SPEC.md R-73).
const (
	EventCommit   EventType = 1
	EventProposal EventType = 2
	EventMessage  EventType = 3
	EventWelcome  EventType = 4
	EventWrap     EventType = 5
	EventNotice   EventType = 6
	EventCover    EventType = 7
)

// Event is what an envelope contains and what the hub's log keeps (SPEC.md
//
type Event struct {
	GroupID    []byte
	Epoch      uint64   // the room's epoch before the event; of a welcome the new one
	Seq        uint64   // counts the room's events from 1
	Chain      [32]byte // the hash chain after the event
	AcceptedMS uint64   // the hub's clock, milliseconds since 1970
	Receipt    []byte   // the hub's signature, see Receipt; empty for cover
	Body       EventBody
}

// EventBody is one of CommitEvent, ProposalEvent, MessageEvent, WelcomeEvent,
// WrapEvent, NoticeEvent and CoverEvent.
type EventBody interface {
	// Type returns the type that the body belongs to.
	Type() EventType
	append(b []byte) ([]byte, error)
}

// CommitEvent is a commit that the hub has accepted.
type CommitEvent struct {
	Commit       []byte   // MLSMessage
	Delta        []byte   // serialized WrapDelta, nil if there is none
	ExternalPub  []byte   // HPKEPublicKey of the new epoch's GroupInfo
	EARID        []byte   // 16 bytes if the commit rotated the key (SPEC.md R-102), else empty
	HubProposals [][]byte // MLSMessages: Removes for leaves still leaving (SPEC.md R-114)
}

// ProposalEvent is one or more stand-alone proposals.
type ProposalEvent struct{ Proposals [][]byte }

// MessageEvent is an application message.
type MessageEvent struct {
	Message []byte // MLSMessage
	Frank   *Frank // if the sender asked for one
}

// WelcomeEvent is the first event of an added leaf.
type WelcomeEvent struct {
	Welcome        []byte           // MLSMessage, stripped to the leaf's own entry
	DeliverySecret primitive.Secret // D of SPEC.md R-70
	EARKey         primitive.Secret // the room's key; absent in rooms with ear = 0
}

// WrapEvent is a TreeWrap refresh (SPEC.md R-98).
type WrapEvent struct{ Delta []byte }

// NoticeEvent carries a notice of the hub to members (SPEC.md R-140).
type NoticeEvent struct {
	Notice uint8
	Detail []byte
}

// NoticeCommitReported is the notice of SPEC.md R-140; its detail is the epoch
// (8 bytes), the hash of the commit (32 bytes) and the number of users who
// reported it (4 bytes).
const NoticeCommitReported = 1

// CoverEvent says nothing. Only the two ends can tell it from traffic.
type CoverEvent struct{}

// Type implements EventBody.
func (*CommitEvent) Type() EventType { return EventCommit }

// Type implements EventBody.
func (*ProposalEvent) Type() EventType { return EventProposal }

// Type implements EventBody.
func (*MessageEvent) Type() EventType { return EventMessage }

// Type implements EventBody.
func (*WelcomeEvent) Type() EventType { return EventWelcome }

// Type implements EventBody.
func (*WrapEvent) Type() EventType { return EventWrap }

// Type implements EventBody.
func (*NoticeEvent) Type() EventType { return EventNotice }

// Type implements EventBody.
func (*CoverEvent) Type() EventType { return EventCover }

// AppendBinary appends the serialized Event. A body whose messages or deltas
// are not exactly one such structure is mmr/malformed, and nothing is appended.
func (e *Event) AppendBinary(b []byte) ([]byte, error) {
	c := codec.AppendVector(b, e.GroupID)
	c = binary.BigEndian.AppendUint64(c, e.Epoch)
	c = binary.BigEndian.AppendUint64(c, e.Seq)
	c = append(c, e.Chain[:]...)
	c = binary.BigEndian.AppendUint64(c, e.AcceptedMS)
	c = codec.AppendVector(c, e.Receipt)
	return e.appendBody(b, c)
}

// Core returns the serialized Event without seq, chain and receipt, which the
// chain runs over (SPEC.md R-74).
func (e *Event) Core() ([]byte, error) {
	c := codec.AppendVector(nil, e.GroupID)
	c = binary.BigEndian.AppendUint64(c, e.Epoch)
	c = binary.BigEndian.AppendUint64(c, e.AcceptedMS)
	return e.appendBody(nil, c)
}

func (e *Event) appendBody(before, b []byte) ([]byte, error) {
	if e.Body == nil || len(e.GroupID) > maxGroupID || len(e.Receipt) > maxSignature {
		return before, mmrerr.Malformed
	}
	b, err := e.Body.append(append(b, byte(e.Body.Type())))
	if err != nil {
		return before, err
	}
	return b, nil
}

func (c *CommitEvent) append(b []byte) ([]byte, error) {
	b, err := appendMessage(b, c.Commit)
	if err != nil {
		return nil, err
	}
	b = codec.AppendOptional(b, c.Delta != nil)
	if c.Delta != nil {
		if b, err = appendDelta(b, c.Delta); err != nil {
			return nil, err
		}
	}
	if !validEARID(c.EARID) || len(c.ExternalPub) > primitive.XWing.PublicKeySize() {
		return nil, mmrerr.Malformed
	}
	b = codec.AppendVector(b, c.ExternalPub)
	b = codec.AppendVector(b, c.EARID)
	return appendMessages(b, c.HubProposals)
}

func (p *ProposalEvent) append(b []byte) ([]byte, error) { return appendMessages(b, p.Proposals) }

func (m *MessageEvent) append(b []byte) ([]byte, error) {
	b, err := appendMessage(b, m.Message)
	if err != nil {
		return nil, err
	}
	b = codec.AppendOptional(b, m.Frank != nil)
	if m.Frank != nil {
		b = m.Frank.append(b)
	}
	return b, nil
}

func (w *WelcomeEvent) append(b []byte) ([]byte, error) {
	b, err := appendMessage(b, w.Welcome)
	if err != nil || !w.DeliverySecret.Present() {
		return nil, mmrerr.Malformed
	}
	b = append(b, w.DeliverySecret.Bytes()...)
	return appendSecret(b, w.EARKey), nil
}

func (w *WrapEvent) append(b []byte) ([]byte, error) { return appendDelta(b, w.Delta) }

func (n *NoticeEvent) append(b []byte) ([]byte, error) {
	if len(n.Detail) > maxDetail {
		return nil, mmrerr.Malformed
	}
	return codec.AppendVector(append(b, n.Notice), n.Detail), nil
}

func (*CoverEvent) append(b []byte) ([]byte, error) { return b, nil }

// ParseEvent reads a serialized Event. Its slices alias b, its secrets do not.
func ParseEvent(b []byte) (*Event, error) {
	r := codec.NewReader(b)
	e := new(Event)
	e.GroupID = r.Vector(maxGroupID)
	e.Epoch = r.Uint64()
	e.Seq = r.Uint64()
	r.Copy(e.Chain[:])
	e.AcceptedMS = r.Uint64()
	e.Receipt = r.Vector(maxSignature)
	readEventBody(r, e)
	if err := done(r); err != nil {
		return nil, err
	}
	return e, nil
}

// ParseCore reads what Core returned, for a log that keeps seq, chain and
// receipt beside it (SPEC.md R-104).
func ParseCore(b []byte) (*Event, error) {
	r := codec.NewReader(b)
	e := new(Event)
	e.GroupID = r.Vector(maxGroupID)
	e.Epoch = r.Uint64()
	e.AcceptedMS = r.Uint64()
	readEventBody(r, e)
	if err := done(r); err != nil {
		return nil, err
	}
	return e, nil
}

func readEventBody(r *codec.Reader, e *Event) {
	switch EventType(r.Uint8()) {
	case EventCommit:
		e.Body = readCommitEvent(r)
	case EventProposal:
		e.Body = &ProposalEvent{Proposals: readMessages(r)}
	case EventMessage:
		m := &MessageEvent{Message: readMLSMessage(r)}
		if r.Optional() {
			m.Frank = readFrank(r)
		}
		e.Body = m
	case EventWelcome:
		w := &WelcomeEvent{Welcome: readMLSMessage(r)}
		w.DeliverySecret = readSecret(r, r.Bytes(primitive.SecretSize), false)
		w.EARKey = readSecret(r, r.Vector(primitive.SecretSize), true)
		e.Body = w
	case EventWrap:
		e.Body = &WrapEvent{Delta: readDelta(r)}
	case EventNotice:
		e.Body = &NoticeEvent{Notice: r.Uint8(), Detail: r.Vector(maxDetail)}
	case EventCover:
		e.Body = &CoverEvent{}
	default:
		r.Fail(codec.ErrMalformed)
	}
}

func readCommitEvent(r *codec.Reader) *CommitEvent {
	c := &CommitEvent{Commit: readMLSMessage(r)}
	if r.Optional() {
		c.Delta = readDelta(r)
	}
	c.ExternalPub = r.Vector(primitive.XWing.PublicKeySize())
	c.EARID = r.Vector(earIDSize)
	if !validEARID(c.EARID) {
		r.Fail(codec.ErrMalformed)
	}
	c.HubProposals = readMessages(r)
	return c
}

func validEARID(id []byte) bool { return len(id) == 0 || len(id) == earIDSize }
