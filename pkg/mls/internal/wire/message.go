package wire

import (
	"bytes"
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// PublicMessage is a signed message in the clear (RFC 9420 §6.2).
// MembershipTag is set for members only.
type PublicMessage struct {
	Content       *FramedContent
	Auth          AuthData
	MembershipTag []byte
}

func readPublicMessage(r *reader) *PublicMessage {
	m := &PublicMessage{Content: readFramedContent(r)}
	m.Auth = readAuthData(r, m.Content.ContentType)
	if m.Content.Sender.Type == SenderMember {
		m.MembershipTag = r.opaque()
	}
	return m
}

// Authenticated returns the AuthenticatedContent of the message.
func (m *PublicMessage) Authenticated() *AuthenticatedContent {
	return &AuthenticatedContent{Format: FormatPublicMessage, Content: m.Content, Auth: m.Auth}
}

// AppendTo appends the encoding, without the MLSMessage around it.
func (m *PublicMessage) AppendTo(b []byte) []byte {
	b = append(b, m.Content.raw...)
	b = m.Auth.AppendTo(b, m.Content.ContentType)
	if m.Content.Sender.Type == SenderMember {
		b = codec.AppendVector(b, m.MembershipTag)
	}
	return b
}

// Message returns the MLSMessage.
func (m *PublicMessage) Message() []byte {
	return m.AppendTo(appendMessageHeader(nil, FormatPublicMessage))
}

// Message is one MLSMessage (RFC 9420 §6). The wire format selects the one
// field that is set. It keeps its own copy of the bytes; nothing in it may be
// modified.
type Message struct {
	Format     WireFormat
	Public     *PublicMessage
	Private    *PrivateMessage
	Welcome    *Welcome
	GroupInfo  *GroupInfo
	KeyPackage *KeyPackage

	raw []byte
}

// ParseMessage reads exactly one MLSMessage. Welcomes and GroupInfos may be as
// long as the message and the tree limit together, others as long as the
// message limit. l may be nil. Errors are *Refusal.
func ParseMessage(b []byte, l *Limits) (*Message, error) {
	l = l.WithDefaults()
	limit := l.Message
	if len(b) >= 4 {
		switch WireFormat(binary.BigEndian.Uint16(b[2:])) {
		case FormatWelcome, FormatGroupInfo:
			limit += l.Tree
		}
	}
	return parse(b, limit, l, readMessage)
}

func readMessage(r *reader) *Message {
	start := r.mark()
	if ProtocolVersion(r.Uint16()) != MLS10 {
		r.malformed()
	}
	m := &Message{Format: WireFormat(r.Uint16())}
	switch m.Format {
	case FormatPublicMessage:
		m.Public = readPublicMessage(r)
	case FormatPrivateMessage:
		m.Private = readPrivateMessage(r)
	case FormatWelcome:
		m.Welcome = readWelcome(r)
	case FormatGroupInfo:
		m.GroupInfo = readGroupInfo(r)
	case FormatKeyPackage:
		m.KeyPackage = readKeyPackage(r)
	default:
		r.malformed()
	}
	m.raw = r.since(start)
	return m
}

// Raw returns a copy of the message's bytes.
func (m *Message) Raw() []byte { return bytes.Clone(m.raw) }

// Encode encodes the message from its parts; it equals Raw.
func (m *Message) Encode() []byte {
	b := appendMessageHeader(nil, m.Format)
	switch m.Format {
	case FormatPublicMessage:
		return m.Public.AppendTo(b)
	case FormatPrivateMessage:
		return m.Private.AppendTo(b)
	case FormatWelcome:
		return m.Welcome.AppendTo(b)
	case FormatGroupInfo:
		return append(b, m.GroupInfo.raw...)
	default:
		return append(b, m.KeyPackage.raw...)
	}
}

// GroupID returns the group the message belongs to; nil for Welcomes and key
// packages.
func (m *Message) GroupID() []byte {
	switch m.Format {
	case FormatPublicMessage:
		return bytes.Clone(m.Public.Content.GroupID)
	case FormatPrivateMessage:
		return bytes.Clone(m.Private.GroupID)
	case FormatGroupInfo:
		return bytes.Clone(m.GroupInfo.Context.GroupID)
	}
	return nil
}

// Epoch returns the epoch of a public or private message or GroupInfo, else 0.
func (m *Message) Epoch() Epoch {
	switch m.Format {
	case FormatPublicMessage:
		return m.Public.Content.Epoch
	case FormatPrivateMessage:
		return m.Private.Epoch
	case FormatGroupInfo:
		return m.GroupInfo.Context.Epoch
	}
	return 0
}

// ContentType returns the content type of a public or private message, else 0.
func (m *Message) ContentType() ContentType {
	switch m.Format {
	case FormatPublicMessage:
		return m.Public.Content.ContentType
	case FormatPrivateMessage:
		return m.Private.ContentType
	}
	return 0
}

// AAD returns the authenticated data of a public or private message, else nil.
// Nothing has verified it yet.
func (m *Message) AAD() []byte {
	switch m.Format {
	case FormatPublicMessage:
		return bytes.Clone(m.Public.Content.AAD)
	case FormatPrivateMessage:
		return bytes.Clone(m.Private.AAD)
	}
	return nil
}

// Sender returns the claimed sender of a public message. The sender of a
// private message is encrypted.
func (m *Message) Sender() (s Sender, ok bool) {
	if m.Format == FormatPublicMessage {
		return m.Public.Content.Sender, true
	}
	return Sender{}, false
}

func appendMessageHeader(b []byte, f WireFormat) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(MLS10))
	return binary.BigEndian.AppendUint16(b, uint16(f))
}
