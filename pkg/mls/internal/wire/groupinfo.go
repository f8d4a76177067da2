package wire

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// GroupContext summarizes a group's state (RFC 9420 §8.1).
type GroupContext struct {
	Suite                   CipherSuite
	GroupID                 []byte
	Epoch                   Epoch
	TreeHash                []byte
	ConfirmedTranscriptHash []byte
	Extensions              []Extension

	raw []byte
}

// ParseGroupContext reads exactly one GroupContext structure.
func ParseGroupContext(b []byte, l *Limits) (*GroupContext, error) {
	return parse(b, l.Message, l, readGroupContext)
}

func readGroupContext(r *reader) *GroupContext {
	start := r.mark()
	if ProtocolVersion(r.Uint16()) != MLS10 {
		r.malformed()
	}
	c := &GroupContext{
		Suite:                   CipherSuite(r.Uint16()),
		GroupID:                 r.Vector(r.l.GroupID),
		Epoch:                   r.Uint64(),
		TreeHash:                r.opaque(),
		ConfirmedTranscriptHash: r.opaque(),
		Extensions:              readExtensions(r),
	}
	c.raw = r.since(start)
	return c
}

// Seal fixes the bytes of a group context built from fields.
func (c *GroupContext) Seal() *GroupContext {
	b := binary.BigEndian.AppendUint16(nil, uint16(MLS10))
	b = binary.BigEndian.AppendUint16(b, uint16(c.Suite))
	b = codec.AppendVector(b, c.GroupID)
	b = binary.BigEndian.AppendUint64(b, c.Epoch)
	b = codec.AppendVector(b, c.TreeHash)
	b = codec.AppendVector(b, c.ConfirmedTranscriptHash)
	c.raw = AppendExtensions(b, c.Extensions)
	return c
}

// Raw returns the bytes as parsed or sealed.
func (c *GroupContext) Raw() []byte { return c.raw }

// Extension returns the data of the group's extension of a type.
func (c *GroupContext) Extension(t ExtensionType) (data []byte, ok bool) {
	return FindExtension(c.Extensions, t)
}

// GroupInfo describes a group for those who join it (RFC 9420 §12.4.3).
type GroupInfo struct {
	Context         *GroupContext
	Extensions      []Extension
	ConfirmationTag []byte
	Signer          LeafIndex
	Signature       []byte

	raw  []byte
	body int
}

// ParseGroupInfo reads exactly one GroupInfo structure, without the MLSMessage
// around it. It is bounded by the message and the tree limit together.
func ParseGroupInfo(b []byte, l *Limits) (*GroupInfo, error) {
	return parse(b, l.Message+l.Tree, l, readGroupInfo)
}

func readGroupInfo(r *reader) *GroupInfo {
	start := r.mark()
	g := &GroupInfo{
		Context:         readGroupContext(r),
		Extensions:      readExtensions(r),
		ConfirmationTag: r.opaque(),
		Signer:          LeafIndex(r.Uint32()),
	}
	g.body = len(r.since(start))
	g.Signature = r.opaque()
	g.raw = r.since(start)
	return g
}

func (g *GroupInfo) appendBody(b []byte) []byte {
	b = append(b, g.Context.raw...)
	b = AppendExtensions(b, g.Extensions)
	b = codec.AppendVector(b, g.ConfirmationTag)
	return binary.BigEndian.AppendUint32(b, uint32(g.Signer))
}

// TBS returns GroupInfoTBS, what the signature covers.
func (g *GroupInfo) TBS() []byte {
	if g.raw != nil {
		return g.raw[:g.body:g.body]
	}
	return g.appendBody(nil)
}

// Seal fixes the bytes of a GroupInfo built from fields, after Signature is
// set.
func (g *GroupInfo) Seal() *GroupInfo {
	b := g.appendBody(nil)
	g.body = len(b)
	g.raw = codec.AppendVector(b, g.Signature)
	return g
}

// Raw returns the bytes of the GroupInfo structure as parsed or sealed.
func (g *GroupInfo) Raw() []byte { return g.raw }

// Message returns the GroupInfo as an MLSMessage.
func (g *GroupInfo) Message() []byte {
	return append(appendMessageHeader(nil, FormatGroupInfo), g.raw...)
}

// Extension returns the data of the GroupInfo's extension of a type; these
// are not the group's own extensions.
func (g *GroupInfo) Extension(t ExtensionType) (data []byte, ok bool) {
	return FindExtension(g.Extensions, t)
}
