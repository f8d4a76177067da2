package group

import (
	"bytes"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Plan is a valid list of proposals applied to a state: what a commit does
// before its path. A committer makes its path from it.
type Plan struct {
	Old       *State
	External  bool
	Committer wire.LeafIndex // for an external commit the leaf reserved in Tree

	Proposals []*Proposal
	Unused    []*Proposal // stored, not covered
	Added     []wire.LeafIndex
	Packages  []*wire.KeyPackage // of Added, in the same order
	Removed   []wire.LeafIndex
	Updated   []wire.LeafIndex
	PSKs      []wire.PreSharedKeyID // in list order
	ReInit    *wire.ReInit
	KEMOutput []byte // of the ExternalInit

	Tree         *tree.Tree       // after the proposals, before the path
	Extensions   []wire.Extension // of the new GroupContext
	PathRequired bool

	newExtensions bool
}

// Plan resolves, checks and applies the proposals of a commit that sender is
// about to make, without asking Rules.Commit. What depends on the commit's
// leaves together is checked by Prepare, to which the finished commit goes.
func (s *State) Plan(sender wire.Sender, list []wire.ProposalOrRef, now time.Time) (*Plan, error) {
	if s.closed {
		return nil, wire.Refuse(wire.RuleClosed)
	}
	p, err := s.plan(sender, list)
	if err != nil {
		return nil, err
	}
	if err := p.apply(); err != nil {
		return nil, err
	}
	if err := p.checkPackages(now); err != nil {
		return nil, err
	}
	return p, nil
}

// plan resolves and checks a list of proposals.
func (s *State) plan(sender wire.Sender, list []wire.ProposalOrRef) (*Plan, error) {
	p := &Plan{Old: s, External: sender.Type == wire.SenderNewMemberCommit, Committer: wire.LeafIndex(sender.Index)}
	var err error
	if p.Proposals, p.Unused, err = s.resolve(list, sender); err != nil {
		return nil, err
	}
	if p.External {
		err = s.checkExternalList(p.Proposals)
	} else {
		err = s.checkList(p.Proposals, p.Committer)
	}
	if err != nil {
		return nil, err
	}
	p.PathRequired = len(p.Proposals) == 0
	for _, q := range p.Proposals {
		p.PathRequired = p.PathRequired || q.PathRequired()
		switch q.Type {
		case wire.ProposalAdd:
			p.Packages = append(p.Packages, q.Add)
		case wire.ProposalUpdate:
			p.Updated = append(p.Updated, wire.LeafIndex(q.Sender.Index))
		case wire.ProposalRemove:
			p.Removed = append(p.Removed, q.Remove)
		case wire.ProposalPSK:
			p.PSKs = append(p.PSKs, *q.PSK)
		case wire.ProposalReInit:
			p.ReInit = q.ReInit
		case wire.ProposalExternalInit:
			p.KEMOutput = q.ExternalInit
		}
	}
	return p, nil
}

// apply applies the proposals in the order of RFC 9420 §12.3: extensions,
// Updates, Removes, Adds in list order.
func (p *Plan) apply() error {
	p.Tree, p.Extensions = p.Old.tree, p.Old.context.Extensions
	for _, q := range p.Proposals {
		switch q.Type {
		case wire.ProposalGroupContextExtensions:
			p.newExtensions, p.Extensions = true, cloneExtensions(q.Extensions)
		case wire.ProposalUpdate:
			// A leaf outlives the message that brought it: keep its bytes only.
			p.Tree = p.Tree.Update(wire.LeafIndex(q.Sender.Index), q.Update.Clone())
		}
	}
	for _, i := range p.Removed {
		p.Tree = p.Tree.Remove(i)
	}
	var i wire.LeafIndex
	var err error
	for _, kp := range p.Packages {
		if p.Tree, i, err = p.Tree.Add(kp.Leaf.Clone()); err != nil {
			return err
		}
		p.Added = append(p.Added, i)
	}
	if p.External {
		// RFC 9420 §12.4.3.2: the joiner takes the leftmost blank leaf.
		if p.Tree, p.Committer, err = p.Tree.Reserve(); err != nil {
			return err
		}
	}
	return nil
}

// checkPackages checks the key packages that came by value (RFC 9420 §12.1.1).
// now bounds their lifetimes unless it is zero.
func (p *Plan) checkPackages(now time.Time) error {
	for _, q := range p.Proposals {
		if q.Type != wire.ProposalAdd || q.Ref != nil {
			continue
		}
		if err := p.Old.checkProposal(q, now); err != nil {
			return err
		}
	}
	return nil
}

// Context returns the provisional GroupContext with which path secrets are
// encrypted: new epoch, extensions and tree hash, old transcript (RFC 9420
// §12.4.1). t is the tree with the path merged.
func (p *Plan) Context(t *tree.Tree) *wire.GroupContext {
	return p.context(t, p.Old.context.ConfirmedTranscriptHash)
}

func (p *Plan) context(t *tree.Tree, transcript []byte) *wire.GroupContext {
	old := p.Old.context
	return (&wire.GroupContext{
		Suite:                   old.Suite,
		GroupID:                 old.GroupID,
		Epoch:                   old.Epoch + 1,
		TreeHash:                t.Hash(),
		ConfirmedTranscriptHash: transcript,
		Extensions:              p.Extensions,
	}).Seal()
}

func cloneExtensions(es []wire.Extension) []wire.Extension {
	cs := make([]wire.Extension, len(es))
	for i, e := range es {
		cs[i] = wire.Extension{Type: e.Type, Data: bytes.Clone(e.Data)}
	}
	return cs
}
