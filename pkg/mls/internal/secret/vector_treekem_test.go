package secret_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

type treeKEM struct {
	CipherSuite suite.ID    `json:"cipher_suite"`
	GroupID     mlstest.Hex `json:"group_id"`
	Epoch       uint64
	Transcript  mlstest.Hex `json:"confirmed_transcript_hash"`
	RatchetTree mlstest.Hex `json:"ratchet_tree"`
	Private     []struct {
		Index          wire.LeafIndex
		EncryptionPriv mlstest.Hex `json:"encryption_priv"`
		SignaturePriv  mlstest.Hex `json:"signature_priv"`
		PathSecrets    []struct {
			Node       tree.NodeIndex
			PathSecret mlstest.Hex `json:"path_secret"`
		} `json:"path_secrets"`
	} `json:"leaves_private"`
	Paths []struct {
		Sender        wire.LeafIndex
		UpdatePath    mlstest.Hex   `json:"update_path"`
		PathSecrets   []mlstest.Hex `json:"path_secrets"`
		CommitSecret  mlstest.Hex   `json:"commit_secret"`
		TreeHashAfter mlstest.Hex   `json:"tree_hash_after"`
	} `json:"update_paths"`
}

func (v *treeKEM) context(treeHash []byte) []byte {
	c := &wire.GroupContext{
		Suite: v.CipherSuite, GroupID: v.GroupID, Epoch: v.Epoch,
		TreeHash: treeHash, ConfirmedTranscriptHash: v.Transcript,
	}
	return c.Seal().Raw()
}

// members imports the private state of every leaf and checks it.
func (v *treeKEM) members(t *testing.T, tr *tree.Tree) map[wire.LeafIndex]*secret.Keys {
	t.Helper()
	s := tr.Suite()
	members := map[wire.LeafIndex]*secret.Keys{}
	for _, p := range v.Private {
		private, err := s.ImportPrivateKey(p.EncryptionPriv)
		if err != nil {
			t.Fatal(err)
		}
		keys := (*secret.Keys)(nil).With(tree.Leaf(p.Index), tr.Key(tree.Leaf(p.Index)), private)
		if public, err := s.PublicKey(private); err != nil || !bytes.Equal(public, tr.Key(tree.Leaf(p.Index))) {
			t.Fatalf("suite %d, leaf %d: private key does not fit, err %v", s.ID(), p.Index, err)
		}
		signature, err := s.ImportSignatureKey(p.SignaturePriv)
		if err != nil {
			t.Fatal(err)
		}
		if public, err := s.SignaturePublicKey(signature); err != nil || !bytes.Equal(public, tr.Leaf(p.Index).SignatureKey) {
			t.Fatalf("suite %d, leaf %d: signature key does not fit, err %v", s.ID(), p.Index, err)
		}
		for _, ps := range p.PathSecrets {
			public, private, err := secret.ResumePath(s, suite.NewSecret(ps.PathSecret)).Node()
			if err != nil || !bytes.Equal(public, tr.Key(ps.Node)) {
				t.Fatalf("suite %d, leaf %d, node %d: path secret does not fit, err %v", s.ID(), p.Index, ps.Node, err)
			}
			keys = keys.With(ps.Node, public, private)
		}
		members[p.Index] = keys
	}
	return members
}

func merge(tr *tree.Tree, sender wire.LeafIndex, leaf *wire.LeafNode, publics [][]byte) *tree.Tree {
	steps := tr.FilteredPath(sender)
	nodes, _ := tr.PathNodes(steps, publics)
	return tr.Merge(sender, leaf, steps, nodes)
}

func TestVectorTreeKEM(t *testing.T) {
	var vectors []treeKEM
	mlstest.Vectors(t, "treekem.json", &vectors)
	paths, secrets := 0, 0
	for i, v := range vectors {
		s := suite.Get(v.CipherSuite)
		tr, err := tree.Parse(s, v.RatchetTree, wireLimits)
		if err != nil {
			t.Fatalf("vector %d: %v", i, err)
		}
		members := v.members(t, tr)
		for _, p := range v.Paths {
			path, err := wire.ParseUpdatePath(p.UpdatePath, wireLimits)
			if err != nil {
				t.Fatalf("vector %d: %v", i, err)
			}
			var publics [][]byte
			for _, n := range path.Nodes {
				publics = append(publics, n.EncryptionKey)
			}
			after := merge(tr, p.Sender, path.Leaf, publics)
			if !bytes.Equal(after.Hash(), p.TreeHashAfter) {
				t.Fatalf("vector %d, sender %d: tree hash differs", i, p.Sender)
			}
			for leaf, want := range p.PathSecrets {
				if want == nil {
					continue
				}
				own := wire.LeafIndex(leaf)
				keys, commit, err := members[own].In(after).OpenPath(after, p.Sender, own, path.Nodes, nil, v.context(after.Hash()))
				if err != nil || !bytes.Equal(commit.Bytes(), p.CommitSecret) {
					t.Fatalf("vector %d, sender %d, leaf %d: commit_secret differs, err %v", i, p.Sender, leaf, err)
				}
				lowest := tree.CommonAncestor(own, p.Sender)
				public, private, err := secret.ResumePath(s, suite.NewSecret(want)).Node()
				if got, ok := keys.Private(lowest, public); err != nil || !ok || !got.Equal(private) {
					t.Fatalf("vector %d, sender %d, leaf %d: path secret differs, err %v", i, p.Sender, leaf, err)
				}
				secrets++
			}
			v.ownPath(t, tr, members, p.Sender)
			paths++
		}
		mlstest.Ran(t, "treekem.json", v.CipherSuite)
	}
	mlstest.Count(t, "treekem", len(vectors), 77)
	mlstest.Count(t, "treekem paths", paths, 7*62)
	mlstest.Count(t, "treekem path secrets", secrets, 7*328)
}

// ownPath makes a path of our own from a leaf and lets all others open it.
func (v *treeKEM) ownPath(t *testing.T, tr *tree.Tree, members map[wire.LeafIndex]*secret.Keys, sender wire.LeafIndex) {
	t.Helper()
	path, err := secret.GeneratePath(tr.Suite(), sender, tr.FilteredPath(sender))
	if err != nil {
		t.Fatal(err)
	}
	leaf := tr.Leaf(sender).Clone()
	leaf.EncryptionKey = path.LeafKey
	after := merge(tr, sender, leaf.Seal(), path.Publics)
	context := v.context(after.Hash())
	nodes, err := path.Encrypt(after, nil, context)
	if err != nil {
		t.Fatal(err)
	}
	for own, keys := range members {
		if own == sender {
			continue
		}
		opened, commit, err := keys.In(after).OpenPath(after, sender, own, nodes, nil, context)
		if err != nil || !commit.Equal(path.Commit()) {
			t.Fatalf("suite %d, sender %d, leaf %d: own path not opened, err %v", v.CipherSuite, sender, own, err)
		}
		for _, step := range after.FilteredPath(sender) {
			if !tree.Contains(step.Copath, own) && !tree.Contains(step.Node, own) {
				continue
			}
			a, ok1 := opened.Private(step.Node, after.Key(step.Node))
			b, ok2 := path.Keys().Private(step.Node, after.Key(step.Node))
			if !ok1 || !ok2 || !a.Equal(b) {
				t.Fatalf("suite %d, sender %d, leaf %d: private key of node %d differs", v.CipherSuite, sender, own, step.Node)
			}
		}
		if _, _, err := keys.In(after).OpenPath(after, sender, own, nodes, nil, append(context, 0)); err == nil {
			t.Fatal("path opened under another context")
		}
	}
}
