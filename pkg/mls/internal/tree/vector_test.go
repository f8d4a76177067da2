package tree_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

var limits = (&wire.Limits{}).WithDefaults()

func parse(tb testing.TB, s *suite.Suite, b []byte) *tree.Tree {
	tb.Helper()
	tr, err := tree.Parse(s, b, limits)
	if err != nil {
		tb.Fatalf("parsing a tree: %v", err)
	}
	if got := tr.AppendTo(nil); !bytes.Equal(got, b) {
		tb.Fatal("the tree encodes to other bytes")
	}
	return tr
}

func TestVectorTreeMath(t *testing.T) {
	type index = *tree.NodeIndex
	var entries []struct {
		Leaves  uint32         `json:"n_leaves"`
		Nodes   int            `json:"n_nodes"`
		Root    tree.NodeIndex `json:"root"`
		Left    []index        `json:"left"`
		Right   []index        `json:"right"`
		Parent  []index        `json:"parent"`
		Sibling []index        `json:"sibling"`
	}
	mlstest.Vectors(t, "tree-math.json", &entries)
	for _, e := range entries {
		root := tree.Root(e.Leaves)
		if root != e.Root {
			t.Errorf("%d leaves: root %d, want %d", e.Leaves, root, e.Root)
		}
		for i := range e.Nodes {
			x := tree.NodeIndex(i)
			check := func(what string, got tree.NodeIndex, none bool, want index) {
				switch {
				case want == nil && !none:
					t.Errorf("%d leaves, node %d: has a %s", e.Leaves, x, what)
				case want != nil && (none || got != *want):
					t.Errorf("%d leaves, node %d: %s is %d, want %d", e.Leaves, x, what, got, *want)
				}
			}
			check("left", x.Left(), x.IsLeaf(), e.Left[i])
			check("right", x.Right(), x.IsLeaf(), e.Right[i])
			check("parent", x.Parent(), x == root, e.Parent[i])
			check("sibling", x.Sibling(), x == root, e.Sibling[i])
		}
		mlstest.Ran(t, "tree-math.json", suite.ID(0))
	}
	mlstest.Count(t, "tree-math", len(entries), 10)
}

func TestVectorTreeOperations(t *testing.T) {
	var entries []struct {
		Suite      suite.ID       `json:"cipher_suite"`
		Before     mlstest.Hex    `json:"tree_before"`
		Proposal   mlstest.Hex    `json:"proposal"`
		Sender     wire.LeafIndex `json:"proposal_sender"`
		HashBefore mlstest.Hex    `json:"tree_hash_before"`
		After      mlstest.Hex    `json:"tree_after"`
		HashAfter  mlstest.Hex    `json:"tree_hash_after"`
	}
	mlstest.Vectors(t, "tree-operations.json", &entries)
	for i, e := range entries {
		before := parse(t, suite.Get(e.Suite), e.Before)
		p, err := wire.ParseProposal(e.Proposal, limits)
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		after := before
		switch p.Type {
		case wire.ProposalAdd:
			after, _, err = before.Add(p.Add.Leaf)
		case wire.ProposalUpdate:
			after = before.Update(e.Sender, p.Update)
		case wire.ProposalRemove:
			after = before.Remove(p.Remove)
		}
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if !bytes.Equal(before.Hash(), e.HashBefore) || !bytes.Equal(before.AppendTo(nil), e.Before) {
			t.Errorf("entry %d: the tree before differs", i)
		}
		if !bytes.Equal(after.Hash(), e.HashAfter) || !bytes.Equal(after.AppendTo(nil), e.After) {
			t.Errorf("entry %d: the tree after differs", i)
		}
		mlstest.Ran(t, "tree-operations.json", e.Suite)
	}
	mlstest.Count(t, "tree-operations", len(entries), 5)
}

func TestVectorTreeValidation(t *testing.T) {
	var entries []struct {
		Suite       suite.ID           `json:"cipher_suite"`
		Tree        mlstest.Hex        `json:"tree"`
		GroupID     mlstest.Hex        `json:"group_id"`
		Hashes      []mlstest.Hex      `json:"tree_hashes"`
		Resolutions [][]tree.NodeIndex `json:"resolutions"`
	}
	mlstest.Vectors(t, "tree-validation.json", &entries)
	perSuite := map[suite.ID]int{}
	for i, e := range entries {
		s := suite.Get(e.Suite)
		tr := parse(t, s, e.Tree)
		if err := tr.Validate(); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
		if want := 2*int(tr.Width()) - 1; len(e.Hashes) != want || len(e.Resolutions) != want {
			t.Fatalf("entry %d: %d nodes, want %d", i, want, len(e.Hashes))
		}
		for x := range e.Hashes {
			x := tree.NodeIndex(x)
			if !bytes.Equal(tr.NodeHash(x), e.Hashes[x]) {
				t.Errorf("entry %d, node %d: wrong tree hash", i, x)
			}
			got := tr.Resolution(x, nil)
			if d := cmp.Diff(e.Resolutions[x], got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("entry %d, node %d: resolution (-want +got):\n%s", i, x, d)
			}
			if len(got) != tr.ResolutionSize(x, nil) {
				t.Errorf("entry %d, node %d: cached size of the resolution is wrong", i, x)
			}
		}
		for l, leaf := range tr.Leaves() {
			if !s.VerifyWithLabel(leaf.SignatureKey, "LeafNodeTBS", leaf.TBS(e.GroupID, l), leaf.Signature) {
				t.Errorf("entry %d, leaf %d: wrong signature", i, l)
			}
		}
		perSuite[e.Suite]++
		mlstest.Ran(t, "tree-validation.json", e.Suite)
	}
	mlstest.Count(t, "tree-validation", len(entries), 98)
	for _, id := range suite.IDs() {
		mlstest.Count(t, "tree-validation of a suite", perSuite[id], 14)
	}
}

// TestVectorTreeKEM is the public part of treekem.json: what a server sees of an
// update path.
func TestVectorTreeKEM(t *testing.T) {
	var entries []struct {
		Suite   suite.ID    `json:"cipher_suite"`
		GroupID mlstest.Hex `json:"group_id"`
		Tree    mlstest.Hex `json:"ratchet_tree"`
		Paths   []struct {
			Sender wire.LeafIndex `json:"sender"`
			Path   mlstest.Hex    `json:"update_path"`
			Hash   mlstest.Hex    `json:"tree_hash_after"`
		} `json:"update_paths"`
	}
	mlstest.Vectors(t, "treekem.json", &entries)
	paths := map[suite.ID]int{}
	for i, e := range entries {
		s := suite.Get(e.Suite)
		before := parse(t, s, e.Tree)
		if err := before.Validate(); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
		for k, v := range e.Paths {
			path, err := wire.ParseUpdatePath(v.Path, limits)
			if err != nil {
				t.Fatalf("entry %d, path %d: %v", i, k, err)
			}
			steps := before.FilteredPath(v.Sender)
			if len(steps) != len(path.Nodes) {
				t.Fatalf("entry %d, path %d: %d nodes, want %d", i, k, len(steps), len(path.Nodes))
			}
			keys := make([][]byte, len(steps))
			for j, n := range path.Nodes {
				keys[j] = n.EncryptionKey
				if got := before.ResolutionSize(steps[j].Copath, nil); got != len(n.Secrets) {
					t.Errorf("entry %d, path %d: resolution of %d, want %d", i, k, got, len(n.Secrets))
				}
			}
			nodes, leafHash := before.PathNodes(steps, keys)
			if !bytes.Equal(leafHash, path.Leaf.ParentHash) {
				t.Errorf("entry %d, path %d: wrong parent hash", i, k)
			}
			after := before.Merge(v.Sender, path.Leaf, steps, nodes)
			if !bytes.Equal(after.Hash(), v.Hash) {
				t.Errorf("entry %d, path %d: wrong tree hash", i, k)
			}
			if err := after.Validate(); err != nil {
				t.Errorf("entry %d, path %d: %v", i, k, err)
			}
			// Caches of the changed tree equal those of a fresh one.
			if again := parse(t, s, after.AppendTo(nil)); !bytes.Equal(again.Hash(), after.Hash()) {
				t.Errorf("entry %d, path %d: cached hash is wrong", i, k)
			}
			if !s.VerifyWithLabel(path.Leaf.SignatureKey, "LeafNodeTBS", path.Leaf.TBS(e.GroupID, v.Sender), path.Leaf.Signature) {
				t.Errorf("entry %d, path %d: wrong leaf signature", i, k)
			}
			paths[e.Suite]++
		}
		mlstest.Ran(t, "treekem.json", e.Suite)
	}
	mlstest.Count(t, "treekem", len(entries), 77)
	for _, id := range suite.IDs() {
		mlstest.Count(t, "treekem paths of a suite", paths[id], 62)
	}
}
