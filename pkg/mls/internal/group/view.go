package group

import (
	"bytes"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Proposal is a proposal with its origin.
type Proposal struct {
	*wire.Proposal
	Sender wire.Sender // the author: the committer for a proposal by value
	Ref    []byte      // the proposal's hash; nil for a proposal by value
	AAD    []byte      // authenticated data of the proposal message; nil by value

	raw []byte // AuthenticatedContent of a stored proposal
}

// clone returns a deep copy.
func (p *Proposal) clone(l *wire.Limits) *Proposal {
	body, err := wire.ParseProposal(p.Raw(), l)
	if err != nil {
		body = &wire.Proposal{Type: p.Type} // only of a proposal that no parser made
	}
	return &Proposal{Proposal: body, Sender: p.Sender, Ref: bytes.Clone(p.Ref), AAD: bytes.Clone(p.AAD), raw: bytes.Clone(p.raw)}
}

func cloneProposals(ps []*Proposal, l *wire.Limits) []*Proposal {
	cs := make([]*Proposal, len(ps))
	for i, p := range ps {
		cs[i] = p.clone(l)
	}
	return cs
}

// CommitView is a commit for the application to judge. Which fields are set
// depends on Phase.
type CommitView struct {
	Phase     Phase
	External  bool           // the committer joins by this commit
	Committer wire.LeafIndex // its leaf; in an external commit known from PhaseApplied on
	AAD       []byte
	HasPath   bool
	PathLeaf  *wire.LeafNode // the committer's new leaf, nil without path

	Proposals []*Proposal      // in the commit's order
	Unused    []*Proposal      // stored in the old epoch and not covered
	Removed   []wire.LeafIndex // in the commit's order
	Updated   []wire.LeafIndex // in the commit's order, the committer not included
	Added     []wire.LeafIndex // one per Add in the commit's order, the external joiner not included

	Old *Public
	New *Public // from PhaseApplied on
}

// Kind is what a message contained.
type Kind = wire.ContentType

// Event says what a processed message was.
type Event struct {
	Kind     Kind
	Epoch    wire.Epoch // of the message
	Sender   wire.Sender
	AAD      []byte
	Proposal *Proposal   // for proposals
	Commit   *CommitView // for commits, in PhaseComplete
	Data     []byte      // application data, members only

	// Leaf is the sender's leaf in the epoch of an application message, members
	// only: in a past epoch the index may have been another client's.
	Leaf *wire.LeafNode
}
