package wire

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// KeyPackage is what a client publishes to be added to groups (RFC 9420 §10).
type KeyPackage struct {
	Version    ProtocolVersion
	Suite      CipherSuite
	InitKey    []byte
	Leaf       *LeafNode
	Extensions []Extension
	Signature  []byte

	raw  []byte
	body int
}

// ParseKeyPackage reads exactly one KeyPackage structure, without the
// MLSMessage around it.
func ParseKeyPackage(b []byte, l *Limits) (*KeyPackage, error) {
	return parse(b, l.Message, l, readKeyPackage)
}

func readKeyPackage(r *reader) *KeyPackage {
	start := r.mark()
	p := &KeyPackage{
		Version: ProtocolVersion(r.Uint16()),
		Suite:   CipherSuite(r.Uint16()),
		InitKey: r.opaque(),
		Leaf:    readLeafNode(r),
	}
	p.Extensions = readExtensions(r)
	p.body = len(r.since(start))
	p.Signature = r.opaque()
	p.raw = r.since(start)
	return p
}

func (p *KeyPackage) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(p.Version))
	b = binary.BigEndian.AppendUint16(b, uint16(p.Suite))
	b = codec.AppendVector(b, p.InitKey)
	b = append(b, p.Leaf.raw...)
	return AppendExtensions(b, p.Extensions)
}

// TBS returns KeyPackageTBS, what the signature covers (RFC 9420 §10).
func (p *KeyPackage) TBS() []byte {
	if p.raw != nil {
		return p.raw[:p.body:p.body]
	}
	return p.appendBody(nil)
}

// Seal fixes the bytes of a key package built from fields, whose leaf is
// sealed already. It must be called once, after Signature is set.
func (p *KeyPackage) Seal() *KeyPackage {
	b := p.appendBody(nil)
	p.body = len(b)
	p.raw = codec.AppendVector(b, p.Signature)
	return p
}

// Raw returns the bytes of the KeyPackage structure; nil before Seal.
func (p *KeyPackage) Raw() []byte { return p.raw }

// Message returns the key package as an MLSMessage.
func (p *KeyPackage) Message() []byte {
	return append(appendMessageHeader(nil, FormatKeyPackage), p.raw...)
}

// Extension returns the data of the key package's extension of a type.
func (p *KeyPackage) Extension(t ExtensionType) (data []byte, ok bool) {
	return FindExtension(p.Extensions, t)
}
