package group

import (
	"bytes"
	"encoding/binary"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// A saved state is a magic number, a version, and sections in ascending order
// of their ids, each a uint16 id and opaque<V>. An id with the top bit set may
// be ignored by a reader that does not know it, which keeps it until the epoch
// ends; any other is an error.
const (
	stateMagic   = "mlsP"
	stateVersion = 1

	sectionContext   = 1 // GroupContext
	sectionTree      = 2 // ratchet tree
	sectionTag       = 3 // confirmation tag
	sectionProposals = 4 // opaque AuthenticatedContent<V> of each stored proposal
	sectionInfo      = 5 // GroupInfo without its context, and without the tree if it is ours
	sectionClosed    = 6 // empty; the group was re-initialized

	sectionOptional = 0x8000
)

// AppendTo appends the saved state: everything but rules and limits.
func (s *State) AppendTo(b []byte) []byte {
	b = append(b, stateMagic...)
	b = append(b, stateVersion)
	section := func(id uint16, f func(b []byte) []byte) {
		b = codec.AppendVectorFunc(binary.BigEndian.AppendUint16(b, id), f)
	}
	section(sectionContext, func(b []byte) []byte { return append(b, s.context.Raw()...) })
	section(sectionTree, s.tree.AppendTo)
	section(sectionTag, func(b []byte) []byte { return append(b, s.tag...) })
	if len(s.stored) > 0 {
		section(sectionProposals, func(b []byte) []byte {
			for _, p := range s.stored {
				b = codec.AppendVector(b, p.raw)
			}
			return b
		})
	}
	if s.info != nil {
		section(sectionInfo, s.appendInfo)
	}
	if s.closed {
		section(sectionClosed, func(b []byte) []byte { return b })
	}
	return append(b, s.extra...)
}

// appendInfo appends the GroupInfo without what the state has anyway. A tree
// inside is ours: FromGroupInfo and WithGroupInfo made sure.
func (s *State) appendInfo(b []byte) []byte {
	es := cloneExtensions(s.info.Extensions)
	for i := range es {
		if es[i].Type == wire.ExtensionRatchetTree {
			es[i].Data = nil
		}
	}
	b = wire.AppendExtensions(b, es)
	b = binary.BigEndian.AppendUint32(b, uint32(s.info.Signer))
	return codec.AppendVector(b, s.info.Signature)
}

// ParseState reads a saved state, exactly as AppendTo writes it. Structure and
// tree hash are checked; signatures are not verified again, so that the caller
// must keep the bytes from being changed.
func ParseState(b []byte, o *Options) (*State, error) {
	rules, limits, err := o.prepare()
	if err != nil {
		return nil, err
	}
	r := codec.NewReader(bytes.Clone(b))
	if string(r.Bytes(len(stateMagic))) != stateMagic || r.Uint8() != stateVersion {
		return nil, errState
	}
	sections := make(map[uint16][]byte)
	var extra []byte
	for last := uint16(0); !r.Empty(); {
		rest := r.Rest()
		id := r.Uint16()
		if id >= sectionOptional && extra == nil {
			extra = rest
		}
		v := r.Vector(codec.MaxVector)
		if r.Err() != nil || id <= last || id > sectionClosed && id < sectionOptional {
			return nil, errState
		}
		last, sections[id] = id, v
	}
	s := &State{rules: rules, limits: limits, tag: sections[sectionTag], extra: extra}
	context, err := wire.ParseGroupContext(sections[sectionContext], limits)
	if err != nil {
		return nil, errState
	}
	if s.suite = suite.Get(context.Suite); s.suite == nil || s.tag == nil || s.setContext(context) != nil {
		return nil, errState
	}
	if s.tree, err = tree.Parse(s.suite, sections[sectionTree], limits); err != nil {
		return nil, errState
	}
	if !bytes.Equal(s.tree.Hash(), context.TreeHash) {
		return nil, errState
	}
	s.interim = interimHash(s)
	closed, ok := sections[sectionClosed]
	if s.closed = ok; len(closed) != 0 {
		return nil, errState
	}
	if err := s.parseStored(sections[sectionProposals]); err != nil {
		return nil, err
	}
	if v, ok := sections[sectionInfo]; ok {
		return s, s.parseInfo(v)
	}
	return s, nil
}

var errState = wire.RefuseAs(wire.RuleState, wire.ClassDecode)

func (s *State) parseStored(b []byte) error {
	if b != nil && len(b) == 0 {
		return errState
	}
	r := codec.NewReader(b)
	for !r.Empty() {
		raw := r.Vector(s.limits.Message)
		if r.Err() != nil {
			return errState
		}
		a, err := wire.ParseAuthenticatedContent(raw, s.limits)
		if err != nil || a.Content.Proposal == nil || a.Content.Epoch != s.context.Epoch ||
			!bytes.Equal(a.Content.GroupID, s.context.GroupID) || s.checkFraming(a) != nil {
			return errState
		}
		if _, err := s.senderKey(a.Content); err != nil {
			return errState
		}
		c := a.Content
		p := &Proposal{Proposal: c.Proposal, Sender: c.Sender, AAD: c.AAD, Ref: s.suite.ProposalRef(raw), raw: raw}
		if s.find(p.Ref) != nil || len(s.stored) >= s.limits.Stored {
			return errState
		}
		s.stored = append(s.stored, p)
	}
	return nil
}

func (s *State) parseInfo(b []byte) error {
	r := codec.NewReader(b)
	start := r.Rest()
	r.Vector(codec.MaxVector)
	es, err := wire.ParseExtensions(start[:len(start)-len(r.Rest())], s.limits)
	if r.Err() != nil || err != nil {
		return errState
	}
	for i := range es {
		if es[i].Type == wire.ExtensionRatchetTree {
			if len(es[i].Data) != 0 {
				return errState
			}
			es[i].Data = s.tree.AppendTo(nil)
		}
	}
	g := &wire.GroupInfo{
		Context: s.context, Extensions: es, ConfirmationTag: s.tag,
		Signer: wire.LeafIndex(r.Uint32()), Signature: r.Vector(codec.MaxVector),
	}
	if r.Done() != nil || s.tree.Leaf(g.Signer) == nil || wire.DuplicateExtension(es) {
		return errState
	}
	if _, err := s.externalPub(g); err != nil {
		return errState
	}
	s.info = g.Seal()
	return nil
}
