package member

import (
	"bytes"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// proposals lists what a commit covers: by value what the options say, by
// reference what is stored and valid beside it (RFC 9420 §12.4).
func (g *Group) proposals(o *CommitOptions) ([]wire.ProposalOrRef, error) {
	pub := g.cur.pub
	var list []wire.ProposalOrRef
	for _, p := range o.ByValue {
		// A copy: the caller's proposal may change later.
		own, err := wire.ParseProposal(p.Raw(), pub.Limits())
		if err != nil {
			return nil, err
		}
		list = append(list, wire.ProposalOrRef{Proposal: own})
	}
	if len(pub.Stored()) == 0 {
		return list, nil
	}
	sender := wire.Sender{Type: wire.SenderMember, Index: uint32(g.cur.own)}
	c := chooser{all: pub.Stored(), byValue: list, chosen: map[string]bool{}}
	c.valid = func(list []wire.ProposalOrRef) bool { return pub.Fits(sender, list) }
	if !c.valid(list) {
		return list, nil // Building the commit will say why.
	}
	c.add(c.candidates(func(p *mls.Proposal) bool {
		own := p.Sender.Type == wire.SenderMember && wire.LeafIndex(p.Sender.Index) == g.cur.own
		return own && p.Type == wire.ProposalUpdate || p.Type == wire.ProposalReInit || o.Except != nil && o.Except(p)
	}))
	return c.list(), nil
}

// chooser selects stored proposals that are valid together. Any member can store
// proposals that exclude each other, so that the work must stay small.
type chooser struct {
	all     []*mls.Proposal
	byValue []wire.ProposalOrRef
	chosen  map[string]bool // by reference
	valid   func([]wire.ProposalOrRef) bool
}

// candidates returns the stored proposals in order of preference, Removes first
// and then the newest (RFC 9420 §12.2), without those that obviously exclude a
// preferred one.
func (c *chooser) candidates(except func(*mls.Proposal) bool) []*mls.Proposal {
	touched, extensions := map[wire.LeafIndex]bool{}, false
	for _, p := range c.byValue {
		switch p.Proposal.Type {
		case wire.ProposalRemove:
			touched[p.Proposal.Remove] = true
		case wire.ProposalGroupContextExtensions:
			extensions = true
		}
	}
	var preferred []*mls.Proposal
	for _, removes := range []bool{true, false} {
		for _, p := range slices.Backward(c.all) {

			if (p.Type == wire.ProposalRemove) != removes || except(p) {
				continue
			}
			switch p.Type {
			case wire.ProposalRemove, wire.ProposalUpdate:
				leaf := p.Remove
				if p.Type == wire.ProposalUpdate {
					leaf = wire.LeafIndex(p.Sender.Index)
				}
				if touched[leaf] {
					continue
				}
				touched[leaf] = true
			case wire.ProposalGroupContextExtensions:
				if extensions {
					continue
				}
				extensions = true
			}
			preferred = append(preferred, p)
		}
	}
	return preferred
}

// add chooses as many of the candidates as it can, halving a block that does
// not fit as a whole.
func (c *chooser) add(block []*mls.Proposal) {
	if len(block) == 0 {
		return
	}
	for _, p := range block {
		c.chosen[string(p.Ref)] = true
	}
	if c.valid(c.list()) {
		return
	}
	for _, p := range block {
		delete(c.chosen, string(p.Ref))
	}
	if len(block) > 1 {
		c.add(block[:len(block)/2])
		c.add(block[len(block)/2:])
	}
}

// list returns the proposals by value and the chosen references, oldest first.
func (c *chooser) list() []wire.ProposalOrRef {
	out := slices.Clip(c.byValue)
	for _, p := range c.all {
		if c.chosen[string(p.Ref)] {
			out = append(out, wire.ProposalOrRef{Reference: p.Ref})
		}
	}
	return out
}

func contains(refs []wire.ProposalOrRef, ref []byte) bool {
	for _, r := range refs {
		if bytes.Equal(r.Reference, ref) {
			return true
		}
	}
	return false
}
