package mlstest

import (
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
)

// Crowd returns a World of suite 1 with a group of n members of whom two are
// there and the others are leaves with nobody behind them: what it takes to
// measure a large group. In a filled tree every member has committed once; in
// a blank one nobody has, but for the two, which join from outside.
func Crowd(tb testing.TB, n int, filled bool) *World {
	tb.Helper()
	w := &World{T: tb, Suite: 1, NoReload: true}
	w.Options.Rules = mls.OpenRules{}
	w.Server = followCrowd(tb, w, max(n-2, 0), filled)
	if n < 3 {
		w.Found()
		w.JoinExternal(w.NewClient(), member.ExternalOptions{})
		return w
	}
	for range 2 {
		c := w.NewClient()
		w.joinCrowd(c)
	}
	return w
}

// joinCrowd lets a client join from outside, without the checks between
// members that a World makes.
func (w *World) joinCrowd(c *Client) {
	w.T.Helper()
	info, ok := w.Server.GroupInfo()
	if !ok {
		w.T.Fatal("server has no GroupInfo")
	}
	g, staged, err := member.JoinExternal(c.ID, info, member.ExternalOptions{Options: w.Options, Tree: w.Server.TreeBytes()})
	if err != nil {
		w.T.Fatal(err)
	}
	c.Group = g
	next, err := staged.GroupInfo(member.GroupInfoOptions{WithoutTree: true})
	if err != nil {
		w.T.Fatal(err)
	}
	commit := staged.Commit()
	if _, err := c.Confirm(); err != nil {
		w.T.Fatal(err)
	}
	w.deliver(c, commit, true)
	w.Clients = append(w.Clients, c)
	if w.Server, err = w.Server.WithGroupInfo(next); err != nil {
		w.T.Fatal(err)
	}
}

// followCrowd makes up a group of n leaves and follows it.
func followCrowd(tb testing.TB, w *World, n int, filled bool) *mls.PublicGroup {
	tb.Helper()
	if n == 0 {
		return nil
	}
	s, l := suite.Get(w.Suite), (&wire.Limits{}).WithDefaults()
	groupID := member.RandomGroupID()
	check := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	keys := make([]suite.Secret, n)
	leaf := func(i int, old, n *wire.LeafNode) *wire.LeafNode {
		var err error
		if n.EncryptionKey, _, err = s.GenerateKeyPair(); err != nil {
			tb.Fatal(err)
		}
		if old != nil {
			n.SignatureKey = old.SignatureKey
		} else {
			n.SignatureKey, keys[i], err = s.GenerateSignatureKey()
			check(err)
		}
		n.Credential = mls.BasicCredential([]byte("somebody"))
		n.Capabilities = member.DefaultCapabilities(w.Suite)
		n.Signature, err = s.SignWithLabel(keys[i], "LeafNodeTBS", n.TBS(groupID, wire.LeafIndex(i)))
		check(err)
		return n.Seal()
	}
	nodes := make([]wire.Node, 2*n-1)
	for i := range n {
		nodes[2*i].Leaf = leaf(i, nil, &wire.LeafNode{Source: wire.SourceKeyPackage, Lifetime: Lifetime})
	}
	t, err := tree.Parse(s, wire.AppendRatchetTree(nil, nodes), l)
	check(err)
	for i := range n {
		if !filled {
			break
		}
		steps := t.FilteredPath(wire.LeafIndex(i))
		publics := make([][]byte, len(steps))
		for k := range publics {
			publics[k], _, err = s.GenerateKeyPair()
			check(err)
		}
		parents, hash := t.PathNodes(steps, publics)
		next := leaf(i, nodes[2*i].Leaf, &wire.LeafNode{Source: wire.SourceCommit, ParentHash: hash})
		t = t.Merge(wire.LeafIndex(i), next, steps, parents)
	}
	external, _, err := s.GenerateKeyPair()
	check(err)
	info := &wire.GroupInfo{
		Context: (&wire.GroupContext{
			Suite: w.Suite, GroupID: groupID, Epoch: uint64(n), TreeHash: t.Hash(), ConfirmedTranscriptHash: s.Hash(),
		}).Seal(),
		Extensions:      []wire.Extension{wire.ExternalPubExtension(external)},
		ConfirmationTag: s.Hash(groupID),
	}
	info.Signature, err = s.SignWithLabel(keys[0], "GroupInfoTBS", info.TBS())
	check(err)
	g, err := mls.NewPublicGroup(info.Seal().Message(), t.AppendTo(nil), &w.Options.Options)
	check(err)
	return g
}
