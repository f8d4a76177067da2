package wire

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// PrivateMessage is an encrypted message (RFC 9420 §6.3).
type PrivateMessage struct {
	GroupID             []byte
	Epoch               Epoch
	ContentType         ContentType
	AAD                 []byte
	EncryptedSenderData []byte
	Ciphertext          []byte
}

// SenderData says which key a private message was encrypted with (RFC 9420
// §6.3.2).
type SenderData struct {
	Leaf       LeafIndex
	Generation uint32
	ReuseGuard [4]byte
}

func readPrivateMessage(r *reader) *PrivateMessage {
	m := &PrivateMessage{
		GroupID:             r.Vector(r.l.GroupID),
		Epoch:               r.Uint64(),
		ContentType:         ContentType(r.Uint8()),
		AAD:                 r.Vector(r.l.AAD),
		EncryptedSenderData: r.opaque(),
		Ciphertext:          r.opaque(),
	}
	if m.ContentType < ContentApplication || m.ContentType > ContentCommit {
		r.malformed()
	}
	return m
}

// AppendTo appends the encoding, without the MLSMessage around it.
func (m *PrivateMessage) AppendTo(b []byte) []byte {
	b = m.ContentAAD(b)
	b = codec.AppendVector(b, m.EncryptedSenderData)
	return codec.AppendVector(b, m.Ciphertext)
}

// Message returns the MLSMessage.
func (m *PrivateMessage) Message() []byte {
	return m.AppendTo(appendMessageHeader(nil, FormatPrivateMessage))
}

// SenderDataAAD appends the AAD of the sender data's encryption.
func (m *PrivateMessage) SenderDataAAD(b []byte) []byte {
	b = codec.AppendVector(b, m.GroupID)
	b = binary.BigEndian.AppendUint64(b, m.Epoch)
	return append(b, byte(m.ContentType))
}

// ContentAAD appends the AAD of the content's encryption (PrivateContentAAD).
func (m *PrivateMessage) ContentAAD(b []byte) []byte {
	return codec.AppendVector(m.SenderDataAAD(b), m.AAD)
}

// ParseSenderData reads exactly one SenderData structure.
func ParseSenderData(b []byte) (SenderData, error) {
	v, err := parse(b, 12, unlimited, func(r *reader) *SenderData {
		d := &SenderData{Leaf: LeafIndex(r.Uint32()), Generation: r.Uint32()}
		r.Copy(d.ReuseGuard[:])
		return d
	})
	if err != nil {
		return SenderData{}, err
	}
	return *v, nil
}

// AppendTo appends the encoding.
func (d SenderData) AppendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(d.Leaf))
	b = binary.BigEndian.AppendUint32(b, d.Generation)
	return append(b, d.ReuseGuard[:]...)
}

// PrivateContent returns the plaintext of a private message: content, auth and
// padding zero bytes (PrivateMessageContent, RFC 9420 §6.3.1).
func PrivateContent(a *AuthenticatedContent, padding int) []byte {
	b := a.Auth.AppendTo(a.Content.appendContent(nil), a.Content.ContentType)
	return append(b, make([]byte, padding)...)
}

// ParsePrivateContent reads the plaintext of message m, sent by a member, and
// requires that the padding is zero (RFC 9420 §6.3.1).
func ParsePrivateContent(plaintext []byte, m *PrivateMessage, sender LeafIndex, l *Limits) (*AuthenticatedContent, error) {
	return parse(plaintext, l.Message, l, func(r *reader) *AuthenticatedContent {
		c := &FramedContent{GroupID: m.GroupID, Epoch: m.Epoch, Sender: Sender{SenderMember, uint32(sender)}, AAD: m.AAD}
		a := &AuthenticatedContent{Format: FormatPrivateMessage, Content: c}
		start := r.mark()
		readContent(r, c, m.ContentType)
		body := r.since(start)
		a.Auth = readAuthData(r, c.ContentType)
		for _, p := range r.Bytes(len(r.Rest())) {
			if p != 0 {
				r.Fail(Refuse(RulePadding))
			}
		}
		if r.Err() != nil {
			return a
		}
		b := codec.AppendVector(nil, c.GroupID)
		b = binary.BigEndian.AppendUint64(b, c.Epoch)
		b = codec.AppendVector(c.Sender.AppendTo(b), c.AAD)
		c.raw = append(append(b, byte(c.ContentType)), body...)
		return a
	})
}
