package ciscomls

import (
	"testing"
	_ "unsafe" // For go:linkname: the draft's tree math is not exported.

	draft "github.com/cisco/go-mls"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
)

//go:linkname root github.com/cisco/go-mls.root
func root(n draft.LeafCount) draft.NodeIndex

//go:linkname left github.com/cisco/go-mls.left
func left(x draft.NodeIndex) draft.NodeIndex

//go:linkname right github.com/cisco/go-mls.right
func right(x draft.NodeIndex, n draft.LeafCount) draft.NodeIndex

//go:linkname parent github.com/cisco/go-mls.parent
func parent(x draft.NodeIndex, n draft.LeafCount) draft.NodeIndex

//go:linkname sibling github.com/cisco/go-mls.sibling
func sibling(x draft.NodeIndex, n draft.LeafCount) draft.NodeIndex

//go:linkname ancestor github.com/cisco/go-mls.ancestor
func ancestor(l, r draft.LeafIndex) draft.NodeIndex

// TestDraft2020TreeMath compares every node of trees of 1 to 1,024 leaves.
func TestDraft2020TreeMath(t *testing.T) {
	for n := uint32(1); n <= 1024; n *= 2 {
		count, top := draft.LeafCount(n), tree.Root(n)
		if got := root(count); uint32(top) != uint32(got) {
			t.Fatalf("%d leaves: root %d, theirs %d", n, top, got)
		}
		for i := range 2*n - 1 {
			x, y := tree.NodeIndex(i), draft.NodeIndex(i)
			same := func(what string, ours tree.NodeIndex, theirs draft.NodeIndex) {
				if uint32(ours) != uint32(theirs) {
					t.Errorf("%d leaves, node %d: %s %d, theirs %d", n, i, what, ours, theirs)
				}
			}
			same("left", x.Left(), left(y))
			same("right", x.Right(), right(y, count))
			if x != top { // Theirs gives the root itself, ours leaves it to the caller.
				same("parent", x.Parent(), parent(y, count))
				same("sibling", x.Sibling(), sibling(y, count))
			}
		}
	}
	for a := range uint32(64) {
		for b := range uint32(64) {
			if a == b {
				continue // Not defined by theirs.
			}
			if ours, theirs := tree.CommonAncestor(a, b), ancestor(draft.LeafIndex(a), draft.LeafIndex(b)); uint32(ours) != uint32(theirs) {
				t.Errorf("leaves %d and %d: ancestor %d, theirs %d", a, b, ours, theirs)
			}
		}
	}
}
