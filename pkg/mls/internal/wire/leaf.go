package wire

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// Lifetime is when a key package's leaf may be used, in seconds of Unix time,
// both ends included (RFC 9420 §7.2).
type Lifetime struct{ NotBefore, NotAfter uint64 }

// LeafNode describes a member (RFC 9420 §7.2). Lifetime is set for source
// key_package only, ParentHash for source commit only.
type LeafNode struct {
	EncryptionKey []byte
	SignatureKey  []byte
	Credential    Credential
	Capabilities  Capabilities
	Source        LeafNodeSource
	Lifetime      Lifetime
	ParentHash    []byte
	Extensions    []Extension
	Signature     []byte

	raw  []byte
	body int // length of raw before the signature
	caps []byte
}

// ParseLeafNode reads exactly one leaf node.
func ParseLeafNode(b []byte, l *Limits) (*LeafNode, error) {
	return parse(b, l.Message, l, readLeafNode)
}

func readLeafNode(r *reader) *LeafNode {
	start := r.mark()
	n := &LeafNode{EncryptionKey: r.opaque(), SignatureKey: r.opaque(), Credential: readCredential(r)}
	caps := r.mark()
	n.Capabilities = readCapabilities(r)
	n.caps = r.since(caps)
	switch n.Source = LeafNodeSource(r.Uint8()); n.Source {
	case SourceKeyPackage:
		n.Lifetime = Lifetime{r.Uint64(), r.Uint64()}
	case SourceUpdate:
	case SourceCommit:
		n.ParentHash = r.opaque()
	default:
		r.malformed()
	}
	n.Extensions = readExtensions(r)
	n.body = len(r.since(start))
	n.Signature = r.opaque()
	n.raw = r.since(start)
	return n
}

// appendBody appends everything above the signature.
func (n *LeafNode) appendBody(b []byte) []byte {
	b = codec.AppendVector(b, n.EncryptionKey)
	b = codec.AppendVector(b, n.SignatureKey)
	b = n.Credential.AppendTo(b)
	b = n.Capabilities.AppendTo(b)
	b = append(b, byte(n.Source))
	switch n.Source {
	case SourceKeyPackage:
		b = binary.BigEndian.AppendUint64(b, n.Lifetime.NotBefore)
		b = binary.BigEndian.AppendUint64(b, n.Lifetime.NotAfter)
	case SourceCommit:
		b = codec.AppendVector(b, n.ParentHash)
	}
	return AppendExtensions(b, n.Extensions)
}

// TBS returns LeafNodeTBS, what the leaf's signature covers (RFC 9420 §7.2).
// Group id and leaf index count for sources update and commit only.
func (n *LeafNode) TBS(groupID []byte, leaf LeafIndex) []byte {
	var b []byte
	if n.raw != nil {
		b = append(make([]byte, 0, n.body+len(groupID)+8), n.raw[:n.body]...)
	} else {
		b = n.appendBody(nil)
	}
	if n.Source == SourceKeyPackage {
		return b
	}
	b = codec.AppendVector(b, groupID)
	return binary.BigEndian.AppendUint32(b, uint32(leaf))
}

// Seal fixes the bytes of a leaf that was built from fields. It must be called
// once, after Signature is set and before the leaf is used for anything else.
func (n *LeafNode) Seal() *LeafNode {
	b := n.appendBody(nil)
	n.body = len(b)
	n.raw = codec.AppendVector(b, n.Signature)
	n.caps = n.Capabilities.AppendTo(nil)
	return n
}

// Raw returns the leaf's bytes as parsed or sealed; nil before Seal.
func (n *LeafNode) Raw() []byte { return n.raw }

// CapabilitiesRaw returns the bytes of the capabilities as parsed or sealed.
func (n *LeafNode) CapabilitiesRaw() []byte { return n.caps }

// Extension returns the data of the leaf's extension of a type.
func (n *LeafNode) Extension(t ExtensionType) (data []byte, ok bool) {
	return FindExtension(n.Extensions, t)
}

// Clone returns a deep copy of a parsed or sealed leaf.
func (n *LeafNode) Clone() *LeafNode {
	if n == nil {
		return nil
	}
	c, err := ParseLeafNode(n.raw, unlimited)
	if err != nil {
		// Only a leaf that Seal encoded from fields no parser accepts, which is
		// nobody's but the caller's own.
		d := *n
		return &d
	}
	return c
}

// unlimited is for parsing again what was parsed within limits before.
var unlimited = &Limits{
	Message: codec.MaxVector, Tree: codec.MaxVector, Leaves: codec.MaxVector, Proposals: codec.MaxVector,
	Extensions: codec.MaxVector, Extension: codec.MaxVector, Capabilities: codec.MaxVector,
	Credential: codec.MaxVector, Certificates: codec.MaxVector, GroupID: codec.MaxVector,
	AAD: codec.MaxVector, PSKs: codec.MaxVector,
}
