package mls_test

import (
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
)

// bench returns a group of n members, filled or blank above the leaves, that
// was made with as few commits as the tree allows.
func bench(tb testing.TB, n int, filled bool) *world {
	tb.Helper()
	w := newWorld(tb, 1, 1)
	for w.g.Len() < n {
		var ps []*mls.ProposalBody
		for range min(n-w.g.Len(), 512) {
			ps = append(ps, mls.AddProposal(w.keyPackage(nil)))
		}
		w.accept(w.commit(0, commitOptions{list: values(ps...), noPath: true}))
	}
	if filled {
		for i := range n {
			w.accept(w.commit(mls.LeafIndex(i), commitOptions{}))
		}
	}
	return w
}
