package mls_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

func TestGroupInfoRules(t *testing.T) {
	w := newWorld(t, 1, 4)
	w.accept(w.commit(0, commitOptions{list: values(mls.RemoveProposal(2))}))
	st := w.state()
	context := func(change func(*mls.GroupContext)) func(*mls.GroupInfo) {
		return func(g *mls.GroupInfo) {
			c := *g.Context
			change(&c)
			g.Context = c.Seal()
		}
	}
	for name, c := range map[string]struct {
		follow, server mls.Rule // of NewPublicGroup and WithGroupInfo; "" accepts
		change         func(*mls.GroupInfo)
	}{
		"lawful":        {"", "", func(*mls.GroupInfo) {}},
		"unknown extra": {"", "", func(g *mls.GroupInfo) { g.Extensions = append(g.Extensions, mls.Extension{Type: unlistedType}) }},
		"extension twice": {mls.RuleDuplicateExtension, mls.RuleDuplicateExtension, func(g *mls.GroupInfo) {
			g.Extensions = append(g.Extensions, mls.Extension{Type: 7}, mls.Extension{Type: 7})
		}},
		"blank signer": {mls.RuleGroupInfoSigner, mls.RuleGroupInfoSigner, func(g *mls.GroupInfo) { g.Signer = 2 }},
		"no signer":    {mls.RuleGroupInfoSigner, mls.RuleGroupInfoSigner, func(g *mls.GroupInfo) { g.Signer = 1<<32 - 1 }},
		"tree hash":    {mls.RuleTreeHash, mls.RuleGroupInfoContext, context(func(c *mls.GroupContext) { c.TreeHash = w.random(32) })},
		"epoch":        {"", mls.RuleGroupInfoContext, context(func(c *mls.GroupContext) { c.Epoch++ })},
		"transcript":   {"", mls.RuleGroupInfoContext, context(func(c *mls.GroupContext) { c.ConfirmedTranscriptHash = w.random(32) })},
		"group":        {mls.RuleLeafSignature, mls.RuleGroupInfoContext, context(func(c *mls.GroupContext) { c.GroupID = []byte("x") })},
		"tag":          {"", mls.RuleGroupInfoTag, func(g *mls.GroupInfo) { g.ConfirmationTag = w.random(32) }},
		"unsupported extension": {mls.RuleLeafCapabilities, mls.RuleGroupInfoContext, context(func(c *mls.GroupContext) {
			c.Extensions = []mls.Extension{{Type: unlistedType}}
		})},
		"no external_pub":  {"", mls.RuleExternalPub, func(g *mls.GroupInfo) { g.Extensions = g.Extensions[:1] }},
		"bad external_pub": {"", mls.RuleExternalPub, func(g *mls.GroupInfo) { g.Extensions[1].Data = []byte{1, 1} }},
		"no tree":          {mls.RuleTreeMissing, "", func(g *mls.GroupInfo) { g.Extensions = g.Extensions[1:] }},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			msg := w.groupInfo(st, 0, c.change).Message()
			g, err := mls.NewPublicGroup(msg, nil, w.opts)
			if c.follow != "" {
				w.refused(c.follow, err)
			} else if err != nil {
				t.Error(err)
			}
			if (g == nil) != (c.follow != "") {
				t.Error("error and result disagree")
			}
			next, err := w.g.WithGroupInfo(msg)
			if c.server != "" {
				w.refused(c.server, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := next.GroupInfo(); !ok || !bytes.Equal(got, msg) {
				t.Error("the GroupInfo is served as other bytes")
			}
			if _, ok := w.g.GroupInfo(); ok {
				t.Error("the old state changed")
			}
		})
	}
	bad := w.groupInfo(st, 0, nil).Message()
	bad[len(bad)-1] ^= 1
	_, err := mls.NewPublicGroup(bad, nil, w.opts)
	w.refused(mls.RuleGroupInfoSignature, err)
	_, err = w.g.WithGroupInfo(bad)
	w.refused(mls.RuleGroupInfoSignature, err)
	_, err = w.g.WithGroupInfo(w.propose(0, mls.RemoveProposal(1)))
	w.refused(mls.RuleWireFormat, err)
	_, err = mls.NewPublicGroup(w.propose(0, mls.RemoveProposal(1)), nil, w.opts)
	w.refused(mls.RuleWireFormat, err)
}

func TestGroupInfoServed(t *testing.T) {
	w := newWorld(t, 1, 3)
	for _, inside := range []bool{true, false} {
		info := w.groupInfo(w.state(), 1, func(g *mls.GroupInfo) {
			if !inside {
				g.Extensions = g.Extensions[1:]
			}
		}).Message()
		g, err := w.g.WithGroupInfo(info)
		w.check(err)
		b := save(t, g)
		if len(b) > len(info)+len(w.g.TreeBytes())*102/100+200 {
			t.Errorf("state of %d bytes for a GroupInfo of %d", len(b), len(info))
		}
		loaded, err := mls.ParsePublicGroup(b, w.opts)
		w.check(err)
		if got, ok := loaded.GroupInfo(); !ok || !bytes.Equal(got, info) {
			t.Error("a loaded state serves another GroupInfo")
		}
		// It dies with its epoch.
		w.g = loaded
		w.accept(w.commit(0, commitOptions{}))
		if _, ok := w.g.GroupInfo(); ok {
			t.Error("the GroupInfo outlives its epoch")
		}
	}
}

func TestSeparateTree(t *testing.T) {
	w := newWorld(t, 1, 3)
	info := w.groupInfo(w.state(), 0, func(g *mls.GroupInfo) { g.Extensions = g.Extensions[1:] }).Message()
	_, err := mls.NewPublicGroup(info, nil, w.opts)
	w.refused(mls.RuleTreeMissing, err)
	_, err = mls.NewPublicGroup(info, []byte{}, w.opts)
	w.refused(mls.RuleMalformed, err)
	_, err = mls.NewPublicGroup(info, newWorld(t, 1, 3).g.TreeBytes(), w.opts)
	w.refused(mls.RuleTreeHash, err)
	g, err := mls.NewPublicGroup(info, w.g.TreeBytes(), w.opts)
	w.check(err)
	if !bytes.Equal(g.Context().Raw(), w.g.Context().Raw()) {
		t.Error("another context")
	}
	both := w.groupInfo(w.state(), 0, nil).Message()
	_, err = mls.NewPublicGroup(both, newWorld(t, 1, 3).g.TreeBytes(), w.opts)
	w.refused(mls.RuleTreeContradicted, err)
}

func TestPrivateGroupContextExtension(t *testing.T) {
	ext := mls.Extension{Type: groupExtension, Data: []byte("private use")}
	w := newWorld(t, 1, 3, ext)
	g, err := mls.NewPublicGroup(w.groupInfo(w.state(), 0, nil).Message(), nil, w.opts)
	w.check(err)
	if data, ok := g.Extension(groupExtension); !ok || !bytes.Equal(data, ext.Data) {
		t.Error("the extension is lost")
	}
	// Listing decides, not the type: who does not list it is refused, by value
	// of its capabilities alone.
	without := func(l *mls.LeafNode) { l.Capabilities.Extensions = []mls.ExtensionType{leafExtension} }
	w.refuse(mls.RuleLeafCapabilities, w.commit(0, commitOptions{list: values(mls.AddProposal(
		w.keyPackage(func(p *mls.KeyPackage) { without(p.Leaf) })))}))
	w.refuse(mls.RuleLeafCapabilities, w.commit(0, commitOptions{external: true, leaf: without}))
	w.accept(w.commit(0, commitOptions{external: true}))
}

func TestGroupInfoExtensions(t *testing.T) {
	w := newWorld(t, 1, 2)
	ext := mls.Extension{Type: unlistedType, Data: []byte("for joiners")}
	msg := w.groupInfo(w.state(), 0, func(g *mls.GroupInfo) { g.Extensions = append(g.Extensions, ext) }).Message()
	g, err := w.g.WithGroupInfo(msg)
	w.check(err)
	served, _ := g.GroupInfo()
	m, err := mls.ParseMessage(served, nil)
	w.check(err)
	if data, ok := m.GroupInfo.Extension(unlistedType); !ok || !bytes.Equal(data, ext.Data) {
		t.Error("the extension is lost")
	}
	if _, ok := g.Extension(unlistedType); ok {
		t.Error("the extension became the group's")
	}
}

func TestExternalPubWire(t *testing.T) {
	key, err := mls.ParseExternalPub([]byte{2, 0xaa, 0xbb}, nil)
	if err != nil || !bytes.Equal(key, []byte{0xaa, 0xbb}) {
		t.Errorf("got %x, %v", key, err)
	}
	if _, err := mls.ParseExternalPub([]byte{0xaa, 0xbb}, nil); err == nil {
		t.Error("a bare key was accepted")
	}
	if got := wire.ExternalPubExtension([]byte{0xaa}); !bytes.Equal(got.Data, []byte{1, 0xaa}) {
		t.Errorf("encodes to %x", got.Data)
	}
}

// joinTree follows the group with another tree, by a GroupInfo that hashes and
// signs it properly.
func (w *world) joinTree(ns []wire.Node) error {
	w.Helper()
	b := wire.AppendRatchetTree(nil, ns)
	tr, err := tree.Parse(w.s, b, (&mls.Limits{}).WithDefaults())
	if err != nil {
		return err
	}
	info := w.groupInfo(w.state(), 0, func(g *mls.GroupInfo) {
		c := *g.Context
		c.TreeHash = tr.Hash()
		g.Context = c.Seal()
		g.Extensions = g.Extensions[1:]
	})
	_, err = mls.NewPublicGroup(info.Message(), b, w.opts)
	return err
}

// withLeaf returns the nodes of a group of n members whose parents are blank,
// with a first leaf of somebody in the last place.
func (w *world) withLeaf(n int, change func(ns []wire.Node, l *mls.LeafNode)) []wire.Node {
	w.Helper()
	*w = *bench(w.TB, n, false)
	ns, err := wire.ParseRatchetTree(w.g.TreeBytes(), (&mls.Limits{}).WithDefaults())
	w.check(err)
	l := w.leaf(nil)
	l.Source, l.Lifetime = mls.SourceKeyPackage, mls.Lifetime{NotAfter: 1 << 40}
	change(ns, l)
	ns[len(ns)-1].Leaf = w.signLeaf(l, nil, 0)
	return ns
}

// TestTreeRules spoils the tree of a group and joins with a GroupInfo that
// hashes and signs it properly.
func TestTreeRules(t *testing.T) {
	w := newWorld(t, 1, 7)
	// Leaf 6 joins without a path of the committer: it is unmerged in 3 nodes'
	// worth of parents. Leaf 3 is blank, its parents are.
	w.accept(w.commit(0, commitOptions{list: values(mls.RemoveProposal(3))}))
	w.accept(w.commit(5, commitOptions{}))
	w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(w.keyPackage(nil)), mls.AddProposal(w.keyPackage(nil))), noPath: true}))
	l := (&mls.Limits{}).WithDefaults()
	nodes := func() []wire.Node {
		ns, err := wire.ParseRatchetTree(w.g.TreeBytes(), l)
		w.check(err)
		return ns
	}
	if err := w.joinTree(nodes()); err != nil {
		t.Fatal(err)
	}
	parent := func(ns []wire.Node, x int, f func(p *wire.ParentNode)) {
		p := *ns[x].Parent
		p.UnmergedLeaves = append([]mls.LeafIndex(nil), p.UnmergedLeaves...)
		f(&p)
		ns[x].Parent = &p
	}
	unmerged := func(is ...mls.LeafIndex) func(*wire.ParentNode) {
		return func(p *wire.ParentNode) { p.UnmergedLeaves = is }
	}
	ns := nodes()
	var unmergedAt []int
	for x, n := range ns {
		if n.Parent != nil && len(n.Parent.UnmergedLeaves) > 0 {
			unmergedAt = append(unmergedAt, x)
		}
	}
	if ns[7].Parent == nil || ns[11].Parent == nil || ns[1].Parent == nil || len(unmergedAt) < 2 {
		t.Fatalf("not the tree that the cases are made for: unmerged at %v", unmergedAt)
	}
	for name, c := range map[string]struct {
		rule  mls.Rule
		spoil func(ns []wire.Node) []wire.Node
	}{
		"leaf at a parent's place": {mls.RuleTreeNodeType, func(ns []wire.Node) []wire.Node { ns[1] = wire.Node{Leaf: ns[0].Leaf}; return ns }},
		"parent at a leaf's place": {mls.RuleTreeNodeType, func(ns []wire.Node) []wire.Node { ns[2] = wire.Node{Parent: ns[1].Parent}; return ns }},
		"ends with a parent":       {mls.RuleTreeNodeType, func(ns []wire.Node) []wire.Node { return ns[:12] }},
		"last node blank":          {mls.RuleTreeLastBlank, func(ns []wire.Node) []wire.Node { return append(ns, wire.Node{}, wire.Node{}) }},
		"no nodes":                 {mls.RuleTreeEmpty, func(ns []wire.Node) []wire.Node { return nil }},
		"unmerged twice":           {mls.RuleTreeUnmerged, func(ns []wire.Node) []wire.Node { parent(ns, 7, unmerged(3, 3, 7)); return ns }},
		"unmerged descending":      {mls.RuleTreeUnmerged, func(ns []wire.Node) []wire.Node { parent(ns, 7, unmerged(7, 3)); return ns }},
		"unmerged elsewhere":       {mls.RuleTreeUnmerged, func(ns []wire.Node) []wire.Node { parent(ns, 1, unmerged(7)); return ns }},
		"unmerged beyond":          {mls.RuleTreeUnmerged, func(ns []wire.Node) []wire.Node { parent(ns, 7, unmerged(3, 7, 1<<31+1)); return ns }},
		"unmerged blank":           {mls.RuleTreeUnmerged, func(ns []wire.Node) []wire.Node { return ns[:13] }},
		"unmerged in parent only":  {mls.RuleTreeUnmerged, func(ns []wire.Node) []wire.Node { parent(ns, 11, unmerged()); return ns }},
		"merged in parent only":    {mls.RuleTreeParentHash, func(ns []wire.Node) []wire.Node { parent(ns, 7, unmerged(3)); return ns }},
		"parent hash": {mls.RuleTreeParentHash, func(ns []wire.Node) []wire.Node {
			parent(ns, 1, func(p *wire.ParentNode) { p.ParentHash = w.random(32) })
			return ns
		}},
		"parent key": {mls.RuleTreeParentHash, func(ns []wire.Node) []wire.Node {
			parent(ns, 1, func(p *wire.ParentNode) { p.EncryptionKey = w.leaf(nil).EncryptionKey })
			return ns
		}},
		"parent key invalid": {mls.RuleTreeKey, func(ns []wire.Node) []wire.Node {
			parent(ns, 1, func(p *wire.ParentNode) { p.EncryptionKey = make([]byte, 32) })
			return ns
		}},
		"parent key of a leaf": {mls.RuleDuplicateEncryption, func(ns []wire.Node) []wire.Node {
			parent(ns, 1, func(p *wire.ParentNode) { p.EncryptionKey = ns[4].Leaf.EncryptionKey })
			return ns
		}},
		"leaf twice": {mls.RuleDuplicateEncryption, func(ns []wire.Node) []wire.Node { ns[4].Leaf = ns[8].Leaf; return ns }},
		"parent from nowhere": {mls.RuleTreeParentHash, func(ns []wire.Node) []wire.Node {
			ns[9].Parent = &wire.ParentNode{EncryptionKey: w.leaf(nil).EncryptionKey}
			return ns
		}},
		"leaf signature": {mls.RuleLeafSignature, func(ns []wire.Node) []wire.Node {
			l := *ns[14].Leaf
			l.Signature = w.random(64)
			ns[14].Leaf = l.Seal()
			return ns
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			w.refused(c.rule, w.joinTree(c.spoil(nodes())))
		})
	}
}

// TestUnmergedLeavesBetween: a leaf that is unmerged in a node need not be
// so in the nodes above, only in those between.
func TestUnmergedLeavesBetween(t *testing.T) {
	w := newWorld(t, 1, 8)
	w.accept(w.commit(0, commitOptions{list: values(mls.RemoveProposal(3))}))
	w.accept(w.commit(2, commitOptions{}))
	w.accept(w.commit(1, commitOptions{list: values(mls.AddProposal(w.keyPackage(nil))), noPath: true}))
	// A commit on the other side replaces the root only.
	w.accept(w.commit(6, commitOptions{}))
	st := w.state()
	if st.Tree().Leaf(3) == nil {
		t.Fatal("leaf 3 was not taken")
	}
	if _, err := mls.NewPublicGroup(w.groupInfo(st, 0, nil).Message(), nil, w.opts); err != nil {
		t.Error(err)
	}
}
