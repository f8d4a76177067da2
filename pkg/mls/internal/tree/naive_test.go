package tree_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// naive is a ratchet tree as RFC 9420 tells it: an array of nodes, copied
// whole for each change, without a cache.
type naive struct {
	s     *suite.Suite
	nodes []wire.Node
}

func (n *naive) width() uint32 { return uint32(len(n.nodes)+1) / 2 }

func (n *naive) above(i wire.LeafIndex) (path []tree.NodeIndex) {
	for x := tree.Leaf(i); x != tree.Root(n.width()); {
		x = x.Parent()
		path = append(path, x)
	}
	return path
}

func (n *naive) set(i wire.LeafIndex, leaf *wire.LeafNode) {
	n.nodes = slices.Clone(n.nodes)
	n.nodes[tree.Leaf(i)].Leaf = leaf
	for _, x := range n.above(i) {
		n.nodes[x].Parent = nil
	}
	for n.width() > 1 && !slices.ContainsFunc(n.nodes[n.width():], func(m wire.Node) bool { return m != (wire.Node{}) }) {
		n.nodes = n.nodes[:n.width()-1]
	}
}

func (n *naive) add(leaf *wire.LeafNode) wire.LeafIndex {
	n.nodes = slices.Clone(n.nodes)
	for i := wire.LeafIndex(0); ; i++ {
		if uint32(i) == n.width() {
			n.nodes = append(n.nodes, make([]wire.Node, len(n.nodes)+1)...)
		}
		if n.nodes[tree.Leaf(i)].Leaf != nil {
			continue
		}
		n.nodes[tree.Leaf(i)].Leaf = leaf
		for _, x := range n.above(i) {
			if p := n.nodes[x].Parent; p != nil {
				q := *p
				q.UnmergedLeaves = append(slices.Clone(p.UnmergedLeaves), i)
				slices.Sort(q.UnmergedLeaves)
				n.nodes[x].Parent = &q
			}
		}
		return i
	}
}

func (n *naive) resolution(x tree.NodeIndex) (rs []tree.NodeIndex) {
	switch m := n.nodes[x]; {
	case m.Leaf != nil:
		return []tree.NodeIndex{x}
	case m.Parent != nil:
		rs = append(rs, x)
		for _, i := range m.Parent.UnmergedLeaves {
			rs = append(rs, tree.Leaf(i))
		}
		return rs
	case x.IsLeaf():
		return nil
	default:
		return append(n.resolution(x.Left()), n.resolution(x.Right())...)
	}
}

func (n *naive) hash(x tree.NodeIndex) []byte {
	if x.IsLeaf() {
		b := binary.BigEndian.AppendUint32([]byte{1}, uint32(x/2))
		if leaf := n.nodes[x].Leaf; leaf != nil {
			return n.s.Hash(append(append(b, 1), leaf.Raw()...))
		}
		return n.s.Hash(append(b, 0))
	}
	b := []byte{2, 0}
	if p := n.nodes[x].Parent; p != nil {
		b = p.AppendTo([]byte{2, 1})
	}
	b = codec.AppendVector(b, n.hash(x.Left()))
	return n.s.Hash(codec.AppendVector(b, n.hash(x.Right())))
}

// path puts an update path with the given keys into the tree.
func (n *naive) path(i wire.LeafIndex, leaf *wire.LeafNode, key func() []byte) {
	old := &naive{n.s, n.nodes}
	n.nodes = slices.Clone(n.nodes)
	above := n.above(i)
	hash := []byte{}
	for k, a := range slices.Backward(above) {
		x, child := a, tree.Leaf(i)
		if k > 0 {
			child = above[k-1]
		}
		n.nodes[x].Parent = nil
		if sibling := child.Sibling(); len(old.resolution(sibling)) > 0 {
			p := &wire.ParentNode{EncryptionKey: key(), ParentHash: hash}
			n.nodes[x].Parent = p
			b := codec.AppendVector(nil, p.EncryptionKey)
			b = codec.AppendVector(b, p.ParentHash)
			hash = n.s.Hash(codec.AppendVector(b, old.hash(sibling)))
		}
	}
	l := *leaf
	l.Source, l.ParentHash = wire.SourceCommit, hash
	n.nodes[tree.Leaf(i)].Leaf = l.Seal()
}

// FuzzTreeOps compares lists of operations on a Tree with the same on the
// naive tree, and requires that all trees stay valid and old ones unchanged.
func FuzzTreeOps(f *testing.F) {
	f.Add([]byte{0, 0, 0, 3, 0, 3, 2, 3, 4, 1, 1, 0, 2, 2, 3, 0})
	f.Add(bytes.Repeat([]byte{0, 0, 3, 7}, 20))
	f.Add(bytes.Repeat([]byte{0, 0, 0, 0, 3, 3, 1, 5, 2, 9, 0, 0, 2, 1}, 6))
	s := suite.Get(1)
	f.Fuzz(func(t *testing.T, ops []byte) {
		fresh := uint32(0)
		key := func() []byte {
			fresh++
			k := make([]byte, 32)
			k[0] = 9
			binary.BigEndian.PutUint32(k[8:], fresh)
			return k
		}
		leaf := func() *wire.LeafNode {
			l := &wire.LeafNode{EncryptionKey: key(), SignatureKey: key(), Credential: wire.BasicCredential(nil), Source: wire.SourceUpdate}
			return l.Seal()
		}
		first := leaf()
		tr := tree.New(s, first, limits)
		n := &naive{s, []wire.Node{{Leaf: first}}}
		for k := 0; k+1 < len(ops) && k < 120; k += 2 {
			var members []wire.LeafIndex
			for i := range tr.Leaves() {
				members = append(members, i)
			}
			i := members[int(ops[k+1])%len(members)]
			old, before := tr, tr.AppendTo(nil)
			switch ops[k] % 4 {
			case 0:
				l := leaf()
				var at wire.LeafIndex
				var err error
				if tr, at, err = tr.Add(l); err != nil {
					t.Fatal(err)
				}
				if want := n.add(l); at != want {
					t.Fatalf("added at %d, want %d", at, want)
				}
			case 1:
				l := leaf()
				tr = tr.Update(i, l)
				n.set(i, l)
			case 2:
				if len(members) == 1 {
					continue
				}
				tr = tr.Remove(i)
				n.set(i, nil)
			case 3:
				l := leaf()
				steps := tr.FilteredPath(i)
				start := fresh
				keys := make([][]byte, len(steps))
				for j := range keys { // the naive tree goes from the root down
					keys[len(keys)-1-j] = key()
				}
				nodes, hash := tr.PathNodes(steps, keys)
				fresh = start
				n.path(i, l, key)
				signed := *l
				signed.Source, signed.ParentHash = wire.SourceCommit, hash
				tr = tr.Merge(i, signed.Seal(), steps, nodes)
			}
			if !bytes.Equal(old.AppendTo(nil), before) {
				t.Fatal("an old tree changed")
			}
			if !bytes.Equal(tr.Hash(), n.hash(tree.Root(n.width()))) {
				t.Fatalf("operation %d of %x: wrong tree hash", k/2, ops)
			}
			if err := tr.Validate(); err != nil {
				t.Fatalf("operation %d of %x: %v", k/2, ops, err)
			}
		}
		for x := range tree.NodeIndex(2*tr.Width() - 1) {
			got := tr.Resolution(x, nil)
			if d := cmp.Diff(n.resolution(x), got, cmpopts.EquateEmpty()); d != "" || len(got) != tr.ResolutionSize(x, nil) {
				t.Fatalf("resolution of %d (-want +got):\n%s", x, d)
			}
		}
	})
}

// TestCostFollowsLogN: what a path costs grows with the depth of the tree,
// not with its size.
func TestCostFollowsLogN(t *testing.T) {
	s := suite.Get(1)
	cost := func(n int) float64 {
		leaf := func(i int) *wire.LeafNode {
			k := binary.BigEndian.AppendUint32(make([]byte, 28), uint32(i))
			return (&wire.LeafNode{EncryptionKey: k, SignatureKey: k, Source: wire.SourceUpdate, Credential: wire.BasicCredential(nil)}).Seal()
		}
		nodes := make([]wire.Node, 2*n-1)
		for i := range n {
			nodes[2*i].Leaf = leaf(i)
		}
		tr, err := tree.Parse(s, wire.AppendRatchetTree(nil, nodes), limits)
		if err != nil {
			t.Fatal(err)
		}
		next := leaf(n)
		return testing.AllocsPerRun(20, func() {
			steps := tr.FilteredPath(3)
			keys := make([][]byte, len(steps))
			for k := range keys {
				keys[k] = binary.BigEndian.AppendUint32(make([]byte, 28), uint32(n+1+k))
			}
			nodes, _ := tr.PathNodes(steps, keys)
			tr.Merge(3, next, steps, nodes)
		})
	}
	small, large := cost(64), cost(8192)
	if large > 2.6*small { // 13 levels in place of 6, and the maps are deeper
		t.Errorf("%v allocations at 8,192 leaves, %v at 64", large, small)
	}
}
