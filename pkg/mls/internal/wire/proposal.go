package wire

import (
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// Proposal is a proposed change of the group (RFC 9420 §12.1). Type selects
// the one field that is set.
type Proposal struct {
	Type         ProposalType
	Add          *KeyPackage     // add
	Update       *LeafNode       // update
	Remove       LeafIndex       // remove
	PSK          *PreSharedKeyID // psk
	ReInit       *ReInit         // reinit
	ExternalInit []byte          // external_init: kem_output
	Extensions   []Extension     // group_context_extensions
	Custom       []byte          // any other type: the opaque body

	raw []byte
}

// ReInit asks for a new group with other parameters (RFC 9420 §12.1.5).
type ReInit struct {
	GroupID    []byte
	Version    ProtocolVersion
	Suite      CipherSuite
	Extensions []Extension
}

// ParseProposal reads exactly one Proposal structure.
func ParseProposal(b []byte, l *Limits) (*Proposal, error) {
	return parse(b, l.Message, l, readProposal)
}

func readProposal(r *reader) *Proposal {
	start := r.mark()
	p := &Proposal{Type: ProposalType(r.Uint16())}
	switch p.Type {
	case ProposalAdd:
		p.Add = readKeyPackage(r)
	case ProposalUpdate:
		p.Update = readLeafNode(r)
	case ProposalRemove:
		p.Remove = LeafIndex(r.Uint32())
	case ProposalPSK:
		id := readPSK(r)
		p.PSK = &id
	case ProposalReInit:
		p.ReInit = &ReInit{
			GroupID: r.Vector(r.l.GroupID),
			Version: ProtocolVersion(r.Uint16()),
			Suite:   CipherSuite(r.Uint16()),
		}
		p.ReInit.Extensions = readExtensions(r)
	case ProposalExternalInit:
		p.ExternalInit = r.opaque()
	case ProposalGroupContextExtensions:
		p.Extensions = readExtensions(r)
	default:
		if r.Err() == nil && !r.l.custom(p.Type) {
			r.Fail(RefuseAs(RuleUnsupportedProposal, ClassUnsupported))
		}
		p.Custom = r.opaque()
	}
	p.raw = r.since(start)
	return p
}

// Seal fixes the bytes of a proposal built from fields; key packages and
// leaves in it are sealed already.
func (p *Proposal) Seal() *Proposal {
	b := binary.BigEndian.AppendUint16(nil, uint16(p.Type))
	switch p.Type {
	case ProposalAdd:
		b = append(b, p.Add.raw...)
	case ProposalUpdate:
		b = append(b, p.Update.raw...)
	case ProposalRemove:
		b = binary.BigEndian.AppendUint32(b, uint32(p.Remove))
	case ProposalPSK:
		b = p.PSK.AppendTo(b)
	case ProposalReInit:
		b = codec.AppendVector(b, p.ReInit.GroupID)
		b = binary.BigEndian.AppendUint16(b, uint16(p.ReInit.Version))
		b = binary.BigEndian.AppendUint16(b, uint16(p.ReInit.Suite))
		b = AppendExtensions(b, p.ReInit.Extensions)
	case ProposalExternalInit:
		b = codec.AppendVector(b, p.ExternalInit)
	case ProposalGroupContextExtensions:
		b = AppendExtensions(b, p.Extensions)
	default:
		b = codec.AppendVector(b, p.Custom)
	}
	p.raw = b
	return p
}

// Raw returns the proposal's bytes as parsed or sealed.
func (p *Proposal) Raw() []byte { return p.raw }

// PathRequired reports whether a commit that covers the proposal must have a
// path (RFC 9420 §12.4). Types beyond RFC 9420 require one.
func (p *Proposal) PathRequired() bool {
	return p.Type != ProposalAdd && p.Type != ProposalPSK && p.Type != ProposalReInit
}
