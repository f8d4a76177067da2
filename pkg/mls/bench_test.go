package mls_test

import (
	"fmt"
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

func BenchmarkHub(b *testing.B) {
	for _, n := range []int{2, 10, 100, 1000, 10000} {
		for _, tree := range []string{"filled", "blank"} {
			if n == 10000 && tree == "filled" {
				continue // takes minutes to make
			}
			w := bench(b, n, tree == "filled")
			info := w.groupInfo(w.state(), 0, nil).Message()
			commit := w.commit(mls.LeafIndex(n/2), commitOptions{list: values(mls.RemoveProposal(mls.LeafIndex(n / 3)))})
			saved := save(b, w.g)
			name := fmt.Sprintf("%d/%s", n, tree)
			b.Run("Start/"+name, func(b *testing.B) {
				for b.Loop() {
					if _, err := mls.NewPublicGroup(info, nil, w.opts); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("Process/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := w.g.Process(commit, timeZero); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("Load/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.ReportMetric(float64(len(saved)), "state-bytes")
				for b.Loop() {
					if _, err := mls.ParsePublicGroup(saved, w.opts); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("Save/"+name, func(b *testing.B) {
				for b.Loop() {
					save(b, w.g)
				}
			})
		}
	}
}
