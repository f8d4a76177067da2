package group

import (
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Fits reports whether proposals could stand together in a commit by sender, as
// far as that can be said without the path and without looking at key packages
// again. A committer who chooses among stored proposals asks it, since one of
// them may be valid alone and still have no place in any commit.
func (s *State) Fits(sender wire.Sender, list []wire.ProposalOrRef) bool {
	p, err := s.plan(sender, list)
	if err != nil || p.apply() != nil {
		return false
	}
	next := &State{suite: s.suite, rules: s.rules, limits: s.limits, tree: p.Tree}
	if next.setContext(p.Context(p.Tree)) != nil {
		return false
	}
	// RFC 9420 §12.1.7: all members of the new epoch support new extensions.
	if p.newExtensions && !p.Tree.EveryCapabilities(func(c *wire.Capabilities) bool {
		return supports(c, p.Extensions, next.required)
	}) {
		return false
	}
	return next.checkFits(p.Tree, slices.Concat(p.Updated, p.Added)) == nil
}
