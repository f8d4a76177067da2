package group

import (
	"bytes"
	"math"
	"slices"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Provisional is a commit that obeys every rule a server can check. A member
// derives the new epoch's secrets from it, compares the confirmation tag, and
// only then calls Finish.
type Provisional struct {
	*Plan
	Path  *wire.UpdatePath // nil if absent
	Steps []tree.PathStep  // filtered direct path of the committer, as in Path
	// PathContext is the GroupContext with which path secrets are encrypted.
	PathContext *wire.GroupContext
	// NewTree and NewContext are those of the new epoch.
	NewTree    *tree.Tree
	NewContext *wire.GroupContext

	view *CommitView
	next *State
}

// Prepare checks a commit that passed CheckContent (RFC 9420 §12.4.2) and
// computes the new epoch up to its confirmation tag. now bounds the lifetimes
// of Adds by value unless it is zero.
func (s *State) Prepare(a *wire.AuthenticatedContent, now time.Time) (*Provisional, error) {
	c := a.Content
	if c.Epoch == math.MaxUint64 {
		return nil, wire.RefuseAs(wire.RuleEpoch, wire.ClassLimit)
	}
	v := &CommitView{
		External:  c.Sender.Type == wire.SenderNewMemberCommit,
		Committer: wire.LeafIndex(c.Sender.Index),
		AAD:       c.AAD,
		HasPath:   c.Commit.Path != nil,
		Old:       s.Public(),
	}
	if v.HasPath {
		v.PathLeaf = c.Commit.Path.Leaf
	}
	if err := s.ask(v, PhaseSigned); err != nil {
		return nil, err
	}
	plan, err := s.plan(c.Sender, c.Commit.Proposals)
	if err != nil {
		return nil, err
	}
	v.Proposals, v.Unused, v.Removed, v.Updated = plan.Proposals, plan.Unused, plan.Removed, plan.Updated
	if err := s.ask(v, PhaseProposals); err != nil {
		return nil, err
	}
	if err := plan.apply(); err != nil {
		return nil, err
	}
	p := &Provisional{Plan: plan, Path: c.Commit.Path, view: v, NewTree: plan.Tree}
	p.next = &State{suite: s.suite, rules: s.rules, limits: s.limits, tree: plan.Tree, closed: plan.ReInit != nil}
	if err := p.next.setContext(plan.Context(plan.Tree)); err != nil {
		return nil, err
	}
	v.Committer, v.Added, v.New = plan.Committer, plan.Added, p.next.Public()
	if err := s.ask(v, PhaseApplied); err != nil {
		return nil, err
	}
	if err := plan.checkPackages(now); err != nil {
		return nil, err
	}
	if err := p.mergePath(); err != nil {
		return nil, err
	}
	if err := p.checkLeaves(); err != nil {
		return nil, err
	}
	p.PathContext = plan.Context(p.NewTree)
	transcript := s.suite.Hash(append([][]byte{s.interim}, a.ConfirmedTranscriptParts()...)...)
	p.NewContext = plan.context(p.NewTree, transcript)
	p.next = p.next.with(p.NewTree, p.NewContext)
	v.New = p.next.Public()
	if err := s.ask(v, PhaseComplete); err != nil {
		return nil, err
	}
	return p, nil
}

// ask asks the application about a commit. It gets a copy of the view, so that
// it cannot keep one that changes.
func (s *State) ask(v *CommitView, phase Phase) error {
	v.Phase = phase
	c := *v
	if err := s.rules.Commit(&c); err != nil {
		return wire.RefusePolicy(wire.RulePolicy, err)
	}
	return nil
}

// with returns the state with another tree and context of equal extensions.
func (s *State) with(t *tree.Tree, c *wire.GroupContext) *State {
	n := *s
	n.tree, n.context = t, c
	return &n
}

// Finish returns the new epoch, which the confirmation tag completes.
func (p *Provisional) Finish(tag []byte) *State {
	n := *p.next
	n.tag = bytes.Clone(tag)
	n.interim = interimHash(&n)
	return &n
}

// View returns a copy of the commit in PhaseComplete, for an Event; New is the
// state that Finish returned.
func (p *Provisional) View(next *State) *CommitView {
	v := *p.view
	v.AAD = bytes.Clone(v.AAD)
	v.PathLeaf = v.PathLeaf.Clone()
	v.Proposals = cloneProposals(v.Proposals, p.Old.limits)
	v.Unused = cloneProposals(v.Unused, p.Old.limits)
	v.Removed, v.Updated, v.Added = slices.Clone(v.Removed), slices.Clone(v.Updated), slices.Clone(v.Added)
	v.New = next.Public()
	return &v
}

// interimHash returns the interim transcript hash (RFC 9420 §8.2), in epoch 0
// as well (§11).
func interimHash(s *State) []byte {
	return s.suite.Hash(s.context.ConfirmedTranscriptHash, wire.InterimTranscriptInput(s.tag))
}
