package tree_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// FuzzTree: a tree that parses encodes to the same bytes, validation of it
// ends, and no accessor panics on it.
func FuzzTree(f *testing.F) {
	f.Add([]byte{0})
	var entries []struct {
		Suite suite.ID    `json:"cipher_suite"`
		Tree  mlstest.Hex `json:"tree"`
	}
	if mlstest.HasVectors(f, "tree-validation.json", &entries) {
		for _, e := range entries {
			if e.Suite == 1 {
				f.Add([]byte(e.Tree))
			}
		}
	}
	s := suite.Get(1)
	f.Fuzz(func(t *testing.T, b []byte) {
		var tr *tree.Tree
		var err error
		mlstest.Bounded(t, len(b), func() { tr, err = tree.Parse(s, b, limits) })
		if err != nil {
			if tr != nil {
				t.Fatal("a value with an error")
			}
			return
		}
		if !bytes.Equal(tr.AppendTo(nil), b) {
			t.Fatal("encodes to other bytes")
		}
		valid := tr.Validate() == nil
		for i := range tr.Leaves() {
			tr.FilteredPath(i)
			if removed := tr.Remove(i); valid && removed.Members() > 0 {
				if again, err := tree.Parse(s, removed.AppendTo(nil), limits); err != nil || !bytes.Equal(again.Hash(), removed.Hash()) {
					t.Fatal("a valid tree with a leaf removed is not one")
				}
			}
		}
		if valid {
			for x := range tree.NodeIndex(2*tr.Width() - 1) {
				if len(tr.Resolution(x, nil)) != tr.ResolutionSize(x, nil) {
					t.Fatal("cached size of a resolution is wrong")
				}
			}
		}
	})
}
