package group

import (
	"bytes"
	"slices"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// AddProposal stores a proposal message that passed CheckContent and returns
// the new state. A proposal that no commit of this epoch could cover is
// refused (RFC 9420 §12.1). now bounds the lifetime of an Add unless zero.
func (s *State) AddProposal(a *wire.AuthenticatedContent, now time.Time) (*State, *Proposal, error) {
	raw := a.Raw()
	p := &Proposal{Proposal: a.Content.Proposal, Sender: a.Content.Sender, AAD: a.Content.AAD, Ref: s.suite.ProposalRef(raw), raw: raw}
	if s.find(p.Ref) != nil {
		return nil, nil, wire.RefuseAs(wire.RuleDuplicateProposal, wire.ClassReplay)
	}
	if err := s.checkStored(p); err != nil {
		return nil, nil, err
	}
	if err := s.checkProposal(p, now); err != nil {
		return nil, nil, err
	}
	if p.Type == wire.ProposalUpdate {
		if err := s.checkUpdateLeaf(wire.LeafIndex(p.Sender.Index), p.Update); err != nil {
			return nil, nil, err
		}
	}
	n := *s
	n.stored = append(slices.Clip(slices.Clone(s.stored)), p)
	return &n, p, nil
}

// checkStored keeps the store within its limits.
func (s *State) checkStored(p *Proposal) error {
	size, own := len(p.raw), 1
	for _, q := range s.stored {
		size += len(q.raw)
		if q.Sender == p.Sender {
			own++
		}
	}
	if len(s.stored) >= s.limits.Stored || size > s.limits.StoredBytes || own > s.limits.StoredPerLeaf {
		return wire.RefuseAs(wire.RuleStored, wire.ClassLimit)
	}
	return nil
}

// Without returns the state without the stored proposals that drop selects.
func (s *State) Without(drop func(*Proposal) bool) *State {
	n := *s
	n.stored = slices.DeleteFunc(slices.Clone(s.stored), drop)
	return &n
}

// checkProposal checks a proposal by itself (RFC 9420 §12.1), the leaf of an
// Update excepted.
func (s *State) checkProposal(p *Proposal, now time.Time) error {
	switch p.Type {
	case wire.ProposalAdd:
		if err := CheckKeyPackage(s.suite, p.Add, now, s.limits); err != nil {
			return err
		}
		return credential(s.rules, p.Add.Leaf, PlaceAdd)
	case wire.ProposalRemove:
		// RFC 9420 §12.1.3: the leaf exists and is not blank.
		if s.tree.Leaf(p.Remove) == nil {
			return wire.Refuse(wire.RuleRemoveBlank)
		}
	case wire.ProposalPSK:
		return s.checkPSK(p.PSK)
	case wire.ProposalReInit:
		// RFC 9420 §12.1.5: the version does not go down.
		if p.ReInit.Version < wire.MLS10 {
			return wire.Refuse(wire.RuleReInitVersion)
		}
		if wire.DuplicateExtension(p.ReInit.Extensions) {
			return wire.Refuse(wire.RuleDuplicateExtension)
		}
	case wire.ProposalExternalInit:
		// RFC 9420 §12.1.6: only in an external commit, which has it by value.
		return wire.Refuse(wire.RuleExternalInit)
	case wire.ProposalGroupContextExtensions:
		return s.checkExtensions(p.Extensions)
	}
	return nil
}

// checkPSK checks a PSK id (RFC 9420 §12.1.4).
func (s *State) checkPSK(id *wire.PreSharedKeyID) error {
	if id.Type == wire.PSKResumption && id.Usage != wire.UsageApplication {
		return wire.Refuse(wire.RulePSKUsage)
	}
	if len(id.Nonce) != s.suite.HashSize() {
		return wire.Refuse(wire.RulePSKNonce)
	}
	return nil
}

// checkExtensions checks new GroupContext extensions by themselves, and asks
// about external senders that are new or changed (RFC 9420 §5.3.1).
func (s *State) checkExtensions(es []wire.Extension) error {
	_, senders, err := knownExtensions(es, s.limits)
	if err != nil {
		return err
	}
	for i, e := range senders {
		at := PlaceNewExternalSender
		if i < len(s.senders) {
			if bytes.Equal(e.AppendTo(nil), s.senders[i].AppendTo(nil)) {
				continue
			}
			at = PlaceChangedExternalSender
		}
		if s.suite.CheckSignatureKey(e.SignatureKey) != nil {
			return wire.Refuse(wire.RuleExtensionSyntax)
		}
		if err := s.rules.Credential(e.Credential, e.SignatureKey, at); err != nil {
			return wire.RefusePolicy(wire.RuleCredential, err)
		}
	}
	return nil
}

// resolve looks up the proposals of a commit (RFC 9420 §12.4).
func (s *State) resolve(list []wire.ProposalOrRef, sender wire.Sender) (covered, unused []*Proposal, err error) {
	used := make(map[*Proposal]bool)
	for _, e := range list {
		if e.Proposal != nil {
			covered = append(covered, &Proposal{Proposal: e.Proposal, Sender: sender})
			continue
		}
		// RFC 9420 §12.4.3.2: a joiner cannot judge stored proposals.
		if sender.Type == wire.SenderNewMemberCommit {
			return nil, nil, wire.Refuse(wire.RuleExternalReference)
		}
		p := s.find(e.Reference)
		if p == nil {
			return nil, nil, wire.Refuse(wire.RuleReferenceUnknown)
		}
		if used[p] {
			return nil, nil, wire.Refuse(wire.RuleReferenceTwice)
		}
		used[p] = true
		covered = append(covered, p)
	}
	for _, p := range s.stored {
		if !used[p] {
			unused = append(unused, p)
		}
	}
	return covered, unused, nil
}
