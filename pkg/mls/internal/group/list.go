package group

import (
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// checkList checks the proposals of a member's commit (RFC 9420 §12.2), as far
// as they can be checked before they are applied. Stored ones were checked by
// themselves when they came; key packages by value are checked after the
// application was asked, which may have a more telling reason to refuse them.
func (s *State) checkList(list []*Proposal, committer wire.LeafIndex) error {
	touched := make(map[wire.LeafIndex]bool) // by Update or Remove
	touch := func(i wire.LeafIndex) error {
		if touched[i] {
			return wire.Refuse(wire.RuleSameLeafTwice)
		}
		touched[i] = true
		return nil
	}
	var err error
	for _, p := range list {
		switch p.Type {
		case wire.ProposalUpdate:
			switch {
			case p.Ref == nil: // RFC 9420 §12.2: its author would be the committer.
				err = wire.Refuse(wire.RuleUpdateByValue)
			case wire.LeafIndex(p.Sender.Index) == committer:
				err = wire.Refuse(wire.RuleUpdateCommitter)
			default:
				err = touch(wire.LeafIndex(p.Sender.Index))
			}
		case wire.ProposalRemove:
			if p.Remove == committer {
				err = wire.Refuse(wire.RuleRemoveCommitter)
			} else {
				err = touch(p.Remove)
			}
		}
		if err != nil {
			return err
		}
	}
	if err := s.checkKinds(list); err != nil {
		return err
	}
	if err := s.checkCustom(list, touched); err != nil {
		return err
	}
	if err := s.checkClients(list); err != nil {
		return err
	}
	for _, p := range list {
		if p.Ref != nil || p.Type == wire.ProposalAdd {
			continue
		}
		if err := s.checkProposal(p, time.Time{}); err != nil {
			return err
		}
	}
	return nil
}

// checkKinds checks what may stand beside what (RFC 9420 §12.2).
func (s *State) checkKinds(list []*Proposal) error {
	var psks []*wire.PreSharedKeyID
	extensions := 0
	for _, p := range list {
		switch p.Type {
		case wire.ProposalPSK:
			for _, q := range psks {
				if q.Equal(*p.PSK) {
					return wire.Refuse(wire.RulePSKTwice)
				}
			}
			if psks = append(psks, p.PSK); len(psks) > s.limits.PSKs {
				return wire.RefuseAs(wire.RuleLimit, wire.ClassLimit)
			}
		case wire.ProposalGroupContextExtensions:
			if extensions++; extensions > 1 {
				return wire.Refuse(wire.RuleTwoExtensions)
			}
		case wire.ProposalReInit:
			if len(list) > 1 {
				return wire.Refuse(wire.RuleReInitAlone)
			}
		case wire.ProposalExternalInit:
			return wire.Refuse(wire.RuleExternalInit)
		}
	}
	return nil
}

// checkCustom checks that all who process the commit support the proposal
// types beyond RFC 9420: the members that it does not remove (§12.2).
func (s *State) checkCustom(list []*Proposal, touched map[wire.LeafIndex]bool) error {
	for _, p := range list {
		if p.Type.Default() {
			continue
		}
		if s.tree.EveryCapabilities(func(c *wire.Capabilities) bool { return c.SupportsProposal(p.Type) }) {
			continue
		}
		removed := make(map[wire.LeafIndex]bool)
		for _, q := range list {
			if q.Type == wire.ProposalRemove {
				removed[q.Remove] = true
			}
		}
		for i, leaf := range s.tree.Leaves() {
			if !removed[i] && !leaf.Capabilities.SupportsProposal(p.Type) {
				return wire.Refuse(wire.RuleCustomSupport)
			}
		}
	}
	return nil
}

// checkClients checks that no client is added twice or beside its own leaf
// (RFC 9420 §12.2).
func (s *State) checkClients(list []*Proposal) error {
	var adds []*wire.LeafNode
	removed := make(map[wire.LeafIndex]bool)
	for _, p := range list {
		switch p.Type {
		case wire.ProposalAdd:
			adds = append(adds, p.Add.Leaf)
		case wire.ProposalRemove:
			removed[p.Remove] = true
		}
	}
	for i, a := range adds {
		for _, b := range adds[:i] {
			if s.rules.SameClient(b, a) {
				return wire.Refuse(wire.RuleSameClient)
			}
		}
	}
	return s.checkAbsent(adds, removed)
}

// checkAbsent checks that no new leaf's client has a leaf that stays.
func (s *State) checkAbsent(fresh []*wire.LeafNode, removed map[wire.LeafIndex]bool) error {
	if len(fresh) == 0 {
		return nil
	}
	for i, leaf := range s.tree.Leaves() {
		if removed[i] {
			continue
		}
		for _, f := range fresh {
			if s.rules.SameClient(leaf, f) {
				return wire.Refuse(wire.RuleSameClient)
			}
		}
	}
	return nil
}

// checkExternalList checks the proposals of an external commit (RFC 9420
// §12.2): exactly one ExternalInit, at most one Remove, PSKs, nothing else.
func (s *State) checkExternalList(list []*Proposal) error {
	inits, removes := 0, 0
	var psks []*Proposal
	for _, p := range list {
		switch p.Type {
		case wire.ProposalExternalInit:
			inits++
			continue
		case wire.ProposalRemove:
			removes++
		case wire.ProposalPSK:
			psks = append(psks, p)
		default:
			return wire.Refuse(wire.RuleExternalProposals)
		}
		if err := s.checkProposal(p, time.Time{}); err != nil {
			return err
		}
	}
	if inits != 1 {
		return wire.Refuse(wire.RuleExternalInit)
	}
	if removes > 1 {
		return wire.Refuse(wire.RuleExternalProposals)
	}
	return s.checkKinds(psks)
}
