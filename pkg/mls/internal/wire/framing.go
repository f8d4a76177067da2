package wire

import (
	"encoding/binary"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// FramedContent is the content of a message and where it belongs (RFC 9420
// §6). ContentType selects the one of the last three fields that is set.
type FramedContent struct {
	GroupID     []byte
	Epoch       Epoch
	Sender      Sender
	AAD         []byte
	ContentType ContentType

	ApplicationData []byte
	Proposal        *Proposal
	Commit          *Commit

	raw []byte
}

// AuthData authenticates a framed content (RFC 9420 §6.1). ConfirmationTag is
// set for commits only.
type AuthData struct {
	Signature       []byte
	ConfirmationTag []byte
}

// AuthenticatedContent is a framed content with its signature and the wire
// format it is sent in (RFC 9420 §6).
type AuthenticatedContent struct {
	Format  WireFormat
	Content *FramedContent
	Auth    AuthData
}

// ParseAuthenticatedContent reads exactly one AuthenticatedContent structure.
func ParseAuthenticatedContent(b []byte, l *Limits) (*AuthenticatedContent, error) {
	return parse(b, l.Message, l, func(r *reader) *AuthenticatedContent {
		a := &AuthenticatedContent{Format: WireFormat(r.Uint16())}
		if a.Format != FormatPublicMessage && a.Format != FormatPrivateMessage {
			r.malformed()
		}
		a.Content = readFramedContent(r)
		a.Auth = readAuthData(r, a.Content.ContentType)
		return a
	})
}

func readFramedContent(r *reader) *FramedContent {
	start := r.mark()
	c := &FramedContent{
		GroupID: r.Vector(r.l.GroupID),
		Epoch:   r.Uint64(),
		Sender:  readSender(r),
		AAD:     r.Vector(r.l.AAD),
	}
	readContent(r, c, ContentType(r.Uint8()))
	c.raw = r.since(start)
	return c
}

// readContent reads the part of FramedContent that PrivateMessageContent has
// as well.
func readContent(r *reader, c *FramedContent, t ContentType) {
	switch c.ContentType = t; t {
	case ContentApplication:
		c.ApplicationData = r.opaque()
	case ContentProposal:
		c.Proposal = readProposal(r)
	case ContentCommit:
		c.Commit = readCommit(r)
	default:
		r.malformed()
	}
}

func readSender(r *reader) (s Sender) {
	switch s.Type = SenderType(r.Uint8()); s.Type {
	case SenderMember, SenderExternal:
		s.Index = r.Uint32()
	case SenderNewMemberProposal, SenderNewMemberCommit:
	default:
		r.malformed()
	}
	return s
}

func readAuthData(r *reader, t ContentType) AuthData {
	a := AuthData{Signature: r.opaque()}
	if t == ContentCommit {
		a.ConfirmationTag = r.opaque()
	}
	return a
}

// AppendTo appends the encoding.
func (s Sender) AppendTo(b []byte) []byte {
	b = append(b, byte(s.Type))
	if s.Type == SenderMember || s.Type == SenderExternal {
		b = binary.BigEndian.AppendUint32(b, s.Index)
	}
	return b
}

// appendContent appends the part that PrivateMessageContent has as well.
func (c *FramedContent) appendContent(b []byte) []byte {
	switch c.ContentType {
	case ContentApplication:
		return codec.AppendVector(b, c.ApplicationData)
	case ContentProposal:
		return append(b, c.Proposal.raw...)
	case ContentCommit:
		return c.Commit.AppendTo(b)
	}
	return b
}

// Seal fixes the bytes of a framed content built from fields, and must be
// called before any other method.
func (c *FramedContent) Seal() *FramedContent {
	b := codec.AppendVector(nil, c.GroupID)
	b = binary.BigEndian.AppendUint64(b, c.Epoch)
	b = c.Sender.AppendTo(b)
	b = codec.AppendVector(b, c.AAD)
	c.raw = c.appendContent(append(b, byte(c.ContentType)))
	return c
}

// Raw returns the bytes as parsed or sealed.
func (c *FramedContent) Raw() []byte { return c.raw }

// TBS returns FramedContentTBS, what the signature covers: context is the
// serialized GroupContext of the message's epoch, used for senders that are
// or become members (RFC 9420 §6.1).
func (c *FramedContent) TBS(f WireFormat, context []byte) []byte {
	return slices.Concat(c.TBSParts(f, context)...)
}

// TBSParts returns TBS in parts: a commit can be long, and is not copied.
func (c *FramedContent) TBSParts(f WireFormat, context []byte) [][]byte {
	parts := [][]byte{appendMessageHeader(nil, f), c.raw}
	if c.Sender.Type == SenderMember || c.Sender.Type == SenderNewMemberCommit {
		parts = append(parts, context)
	}
	return parts
}

// AppendTo appends the encoding for a content of type t.
func (a AuthData) AppendTo(b []byte, t ContentType) []byte {
	b = codec.AppendVector(b, a.Signature)
	if t == ContentCommit {
		b = codec.AppendVector(b, a.ConfirmationTag)
	}
	return b
}

// Raw returns the serialized AuthenticatedContent, which a proposal reference
// hashes (RFC 9420 §5.2).
func (a *AuthenticatedContent) Raw() []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(a.Format))
	b = append(b, a.Content.raw...)
	return a.Auth.AppendTo(b, a.Content.ContentType)
}

// TBM returns AuthenticatedContentTBM, what the membership tag covers (RFC
// 9420 §6.2).
func (a *AuthenticatedContent) TBM(context []byte) []byte {
	return slices.Concat(a.TBMParts(context)...)
}

// TBMParts returns TBM in parts.
func (a *AuthenticatedContent) TBMParts(context []byte) [][]byte {
	return append(a.Content.TBSParts(a.Format, context), a.Auth.AppendTo(nil, a.Content.ContentType))
}

// ConfirmedTranscriptInput returns ConfirmedTranscriptHashInput of a commit
// (RFC 9420 §8.2).
func (a *AuthenticatedContent) ConfirmedTranscriptInput() []byte {
	return slices.Concat(a.ConfirmedTranscriptParts()...)
}

// ConfirmedTranscriptParts returns ConfirmedTranscriptInput in parts.
func (a *AuthenticatedContent) ConfirmedTranscriptParts() [][]byte {
	format := binary.BigEndian.AppendUint16(nil, uint16(a.Format))
	return [][]byte{format, a.Content.raw, codec.AppendVector(nil, a.Auth.Signature)}
}

// InterimTranscriptInput returns InterimTranscriptHashInput for a confirmation
// tag (RFC 9420 §8.2).
func InterimTranscriptInput(tag []byte) []byte { return codec.AppendVector(nil, tag) }
