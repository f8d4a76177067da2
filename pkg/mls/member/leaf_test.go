package member_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

const (
	customCredential = mls.CredentialType(0xf0a1)
	leafExtension    = mls.ExtensionType(0xf0a4)
	groupExtension   = mls.ExtensionType(0xf0a5)
)

// custom gives a client a credential and extensions that no RFC defines, and
// capabilities that list exactly them.
func custom(c *mlstest.Client) *mlstest.Client {
	c.ID.Credential = mls.CustomCredential(customCredential, []byte("credential of "+c.Name))
	c.ID.Capabilities.Credentials = []mls.CredentialType{customCredential, mls.CredentialBasic}
	c.ID.Capabilities.Extensions = []mls.ExtensionType{leafExtension, groupExtension}
	c.ID.Extensions = []mls.Extension{{Type: leafExtension, Data: []byte("address of " + c.Name)}}
	return c
}

// customWorld is a group of such clients.
func customWorld(t *testing.T, s mls.CipherSuite, n int) *mlstest.World {
	t.Helper()
	w := mlstest.NewWorld(t, s, 1)
	c := custom(w.NewClient())
	g, err := member.Create(c.ID, []byte("group"), member.CreateOptions{
		Options: w.Options, Lifetime: mlstest.Lifetime,
		Extensions: []mls.Extension{{Type: groupExtension, Data: []byte("policy")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Group, w.Clients = g, []*mlstest.Client{c}
	info, err := g.GroupInfo(member.GroupInfoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if w.Server, err = mls.NewPublicGroup(info, nil, &w.Options.Options); err != nil {
		t.Fatal(err)
	}
	for range n - 1 {
		w.Commit(c, member.CommitOptions{}, custom(w.NewClient()))
	}
	return w
}

// Numbers 5, 8 and 25: what a leaf says survives whatever its owner does.
func TestLeafContentSurvives(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := customWorld(t, s, 3)
		check := func(after string) {
			t.Helper()
			for _, c := range w.Clients {
				leaf := w.Server.Leaf(c.Group.OwnLeaf())
				if !leaf.Credential.Equal(c.ID.Credential) || leaf.Credential.Type != customCredential {
					t.Errorf("after %s: credential of %s changed", after, c.Name)
				}
				if data, ok := leaf.Extension(leafExtension); !ok || !bytes.Equal(data, c.ID.Extensions[0].Data) {
					t.Errorf("after %s: extension of %s changed", after, c.Name)
				}
				if !bytes.Equal(leaf.CapabilitiesRaw(), c.ID.Capabilities.AppendTo(nil)) {
					t.Errorf("after %s: capabilities of %s changed", after, c.Name)
				}
			}
			if data, ok := w.Server.Extension(groupExtension); !ok || string(data) != "policy" {
				t.Errorf("after %s: group extension changed", after)
			}
		}
		check("creation and Add")
		for _, c := range w.Clients {
			w.Commit(c, member.CommitOptions{})
		}
		check("path")
		w.ProposeUpdate(w.Clients[1], nil, member.SendOptions{})
		w.Commit(w.Clients[0], member.CommitOptions{})
		check("Update")
		w.JoinExternal(custom(w.NewClient()), member.ExternalOptions{})
		check("external join")
		leaf := w.Clients[1].Group.OwnLeaf()
		w.JoinExternal(w.Clients[1], member.ExternalOptions{Resync: &leaf})
		check("resync")
		// And it changes when its owner says so.
		c := w.Clients[0]
		c.ID.Extensions = []mls.Extension{{Type: leafExtension, Data: []byte("new address")}}
		c.ID.Signer = c.NewSigner()
		w.Commit(c, member.CommitOptions{Leaf: &member.LeafOptions{Signer: c.ID.Signer, Extensions: c.ID.Extensions}})
		check("replacement")
		c.ID.Signer = c.NewSigner()
		w.ProposeUpdate(c, &member.LeafOptions{Signer: c.ID.Signer}, member.SendOptions{})
		w.Commit(w.Clients[1], member.CommitOptions{})
		check("Update with a new key")
		w.Say(c, member.SendOptions{})
		w.Commit(c, member.CommitOptions{Leaf: &member.LeafOptions{Extensions: []mls.Extension{}}})
		if n := len(w.Server.Leaf(c.Group.OwnLeaf()).Extensions); n != 0 {
			t.Errorf("%d extensions left", n)
		}
	})
}

// A credential can be replaced in the own commit if Rules say so.
func TestReplaceCredential(t *testing.T) {
	w := customWorld(t, 1, 3)
	c := w.Clients[1]
	next := mls.CustomCredential(customCredential, []byte("another credential"))
	o := member.CommitOptions{Leaf: &member.LeafOptions{Signer: c.NewSigner(), Credential: &next}}
	_, err := c.Stage(o)
	mlstest.CheckRule(t, "other credential", err, wire.RuleSuccessor)
	w2 := customWorldWith(t, anySuccessor{})
	c = w2.Clients[1]
	o.Leaf.Signer = c.NewSigner()
	c.ID.Credential, c.ID.Signer = next, o.Leaf.Signer
	w2.Commit(c, o)
	w2.Say(c, member.SendOptions{})
	w2.Commit(w2.Clients[0], member.CommitOptions{})
}

type anySuccessor struct{ mls.OpenRules }

func (anySuccessor) Successor(_, _ *mls.LeafNode) error { return nil }

func customWorldWith(t *testing.T, r mls.Rules) *mlstest.World {
	t.Helper()
	w := mlstest.NewWorld(t, 1, 1)
	w.Options.Rules = r
	custom(w.Clients[0])
	w.Clients[0].ID.Capabilities.Credentials = append(w.Clients[0].ID.Capabilities.Credentials, mls.CredentialX509)
	g, err := member.Create(w.Clients[0].ID, []byte("group"), member.CreateOptions{Options: w.Options, Lifetime: mlstest.Lifetime})
	if err != nil {
		t.Fatal(err)
	}
	w.Clients[0].Group = g
	info, err := g.GroupInfo(member.GroupInfoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if w.Server, err = mls.NewPublicGroup(info, nil, &w.Options.Options); err != nil {
		t.Fatal(err)
	}
	w.Commit(w.Clients[0], member.CommitOptions{}, custom(w.NewClient()), custom(w.NewClient()))
	return w
}

// Number 26: authenticated data on everything, seen by all and covered.
func TestAuthenticatedData(t *testing.T) {
	w := customWorld(t, 1, 3)
	aad := []byte("authenticated data")
	if e := w.Commit(w.Clients[0], member.CommitOptions{AAD: aad}); !bytes.Equal(e.AAD, aad) || !bytes.Equal(e.Commit.AAD, aad) {
		t.Error("AAD of an own commit")
	}
	if e := w.JoinExternal(custom(w.NewClient()), member.ExternalOptions{AAD: aad}); !bytes.Equal(e.AAD, aad) || !e.Commit.External {
		t.Error("AAD of an external commit")
	}
	w.Say(w.Clients[1], member.SendOptions{AAD: aad})
	w.Propose(w.Clients[1], mls.RemoveProposal(0), member.SendOptions{AAD: aad})
	if p := w.Server.Proposals(); len(p) != 1 || !bytes.Equal(p[0].AAD, aad) {
		t.Error("AAD of a proposal")
	}
	stranger := custom(w.NewClient()).Stranger()
	init, s := stranger.ExternalInit()
	for _, msg := range [][]byte{
		w.Clients[2].Lawless().Commit(mlstest.Forgery{AAD: aad}),
		stranger.Commit(mlstest.Forgery{AAD: aad, List: []wire.ProposalOrRef{mlstest.ByValue(init)}, Init: func(suite.Secret) suite.Secret { return s }}),
		w.Clients[2].Lawless().Propose(mls.RemoveProposal(1), mlstest.Forgery{AAD: aad}),
	} {
		forged := bytes.Replace(msg, aad, []byte("Authenticated data"), 1)
		reader := w.Clients[0]
		if bytes.Equal(msg, forged) {
			t.Fatal("no AAD in the message")
		}
		if _, _, err := reader.Group.Process(forged); err == nil {
			t.Error("changed AAD accepted by a member")
		}
		_, _, err := w.Server.Process(forged, mlstest.Now)
		mlstest.CheckRule(t, "server", err, wire.RuleSignature)
		if _, e, err := reader.Group.Process(msg); err != nil || !bytes.Equal(e.AAD, aad) {
			t.Errorf("AAD of a received message: %v", err)
		}
	}
}

// Number 27, and the two GroupInfos of one commit: what goes into the Welcome
// and what the server gets have nothing in common but the state.
func TestGroupInfoExtensions(t *testing.T) {
	w := customWorld(t, 1, 2)
	c, added := w.Clients[0], custom(w.NewClient())
	inWelcome := mls.Extension{Type: 0xf0a2, Data: []byte("for the new member")}
	forServer := mls.Extension{Type: 0xf0a6, Data: []byte("for the server")}
	var derived []byte
	o := member.CommitOptions{
		ByValue: []*mls.ProposalBody{mls.AddProposal(added.KeyPackage())},
		Welcome: member.WelcomeOptions{
			Extensions: []mls.Extension{inWelcome}, WithoutTree: true,
			Extend: func(s *member.Staged) ([]mls.Extension, error) {
				var err error
				derived, err = s.Export("wrap", nil, 32)
				return []mls.Extension{{Type: 0xf0a3, Data: derived}}, err
			},
		},
	}
	staged, err := c.Stage(o)
	if err != nil {
		t.Fatal(err)
	}
	info, err := staged.GroupInfo(member.GroupInfoOptions{Extensions: []mls.Extension{forServer}, WithoutTree: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = staged.GroupInfo(member.GroupInfoOptions{Extensions: []mls.Extension{{Type: wire.ExtensionExternalPub}}})
	mlstest.CheckRule(t, "external_pub twice", err, wire.RuleDuplicateExtension)
	welcome := staged.Welcome()
	if w.Server, _, err = w.Server.Process(staged.Commit(), mlstest.Now); err != nil {
		t.Fatal(err)
	}
	if w.Server, err = w.Server.WithGroupInfo(info); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Confirm(); err != nil {
		t.Fatal(err)
	}
	g, joined, err := member.Join(welcome, added.Find, member.JoinOptions{Options: w.Options, Tree: w.Server.TreeBytes()})
	if err != nil {
		t.Fatal(err)
	}
	if len(joined.Extensions) != 2 || !bytes.Equal(joined.Extensions[0].Data, inWelcome.Data) || !bytes.Equal(joined.Extensions[1].Data, derived) {
		t.Errorf("joiner sees %d extensions", len(joined.Extensions))
	}
	if got, err := g.Export("wrap", nil, 32); err != nil || !bytes.Equal(got, derived) {
		t.Errorf("the extension is not of the new epoch: %v", err)
	}
	if n := len(g.Public().Context().Extensions); n != 1 {
		t.Errorf("%d group extensions, want 1", n)
	}
	served, _ := w.Server.GroupInfo()
	if bytes.Contains(served, inWelcome.Data) || !bytes.Contains(served, forServer.Data) {
		t.Error("the server's GroupInfo has the Welcome's extensions, or not its own")
	}
	// The GroupInfo is the new leaf's: a replaced key signs it.
	signer := c.NewSigner()
	if staged, err = c.Stage(member.CommitOptions{Leaf: &member.LeafOptions{Signer: signer}}); err != nil {
		t.Fatal(err)
	}
	if info, err = staged.GroupInfo(member.GroupInfoOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := mls.NewPublicGroup(info, nil, &w.Options.Options); err != nil {
		t.Errorf("GroupInfo signed with a replaced key: %v", err)
	}
	sig, err := staged.Sign("label", []byte("content"))
	if err != nil || staged.Public().Verify(staged.OwnLeaf(), "label", []byte("content"), sig) != nil {
		t.Errorf("signature with the staged leaf's key: %v", err)
	}
	if sig, err = c.Group.Sign("label", []byte("content")); err != nil || c.Group.Public().Verify(c.Group.OwnLeaf(), "label", []byte("content"), sig) != nil {
		t.Errorf("signature with the current leaf's key: %v", err)
	}
}

// Number 67: who greases is a member like any other, in all seven fields that
// RFC 9420 13.5 names; and nothing of it gets anywhere else.
func TestGrease(t *testing.T) {
	isGrease := func(v uint16) bool { return v>>8 == v&0xff && v&0xf == 0xa && v>>12 != 0xf }
	seen := map[uint16]bool{}
	for range 500 {
		v := mls.GreaseValue()
		if seen[v] = true; !isGrease(v) {
			t.Fatalf("%#04x is not reserved", v)
		}
	}
	if len(seen) != 15 {
		t.Errorf("%d values, want 15", len(seen))
	}
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 2)
		added := w.NewClient()
		added.ID = added.ID.Grease()
		kp, err := member.NewKeyPackage(added.ID, member.KeyPackageOptions{
			Lifetime: mlstest.Lifetime, Extensions: []mls.Extension{mls.GreaseExtension()},
		})
		if err != nil {
			t.Fatal(err)
		}
		staged, err := w.Clients[0].Stage(member.CommitOptions{
			ByValue: []*mls.ProposalBody{mls.AddProposal(kp.Public())},
			Welcome: member.WelcomeOptions{Extensions: []mls.Extension{mls.GreaseExtension()}},
		})
		if err != nil {
			t.Fatal(err)
		}
		g, _, err := member.Join(staged.Welcome(), func([]byte) *member.KeyPackage { return kp }, member.JoinOptions{Options: w.Options})
		if err != nil {
			t.Fatal(err)
		}
		// Its own path and GroupInfo, which others follow and join by.
		g, commit, err := g.Stage(member.CommitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if g, _, err = g.Confirm(); err != nil {
			t.Fatal(err)
		}
		for _, msg := range [][]byte{staged.Commit(), commit.Commit()} {
			if w.Server, _, err = w.Server.Process(msg, mlstest.Now); err != nil {
				t.Fatal(err)
			}
		}
		info, err := g.GroupInfo(member.GroupInfoOptions{Extensions: []mls.Extension{mls.GreaseExtension()}})
		if err != nil {
			t.Fatal(err)
		}
		if w.Server, err = w.Server.WithGroupInfo(info); err != nil {
			t.Fatal(err)
		}
		joiner := w.NewClient()
		if _, _, err := member.JoinExternal(joiner.ID.Grease(), info, member.ExternalOptions{Options: w.Options}); err != nil {
			t.Fatal(err)
		}
		leaf := w.Server.Leaf(g.OwnLeaf())
		c := leaf.Capabilities
		last := []uint16{
			uint16(c.Suites[len(c.Suites)-1]), uint16(c.Extensions[len(c.Extensions)-1]), uint16(c.Proposals[len(c.Proposals)-1]),
			uint16(c.Credentials[len(c.Credentials)-1]), uint16(leaf.Extensions[len(leaf.Extensions)-1].Type),
		}
		for i, v := range last {
			if !isGrease(v) {
				t.Errorf("list %d ends with %#04x", i, v)
			}
		}
		for _, v := range c.Versions {
			if v != mls.MLS10 {
				t.Errorf("version %d", v)
			}
		}
		if n := len(w.Server.Context().Extensions); n != 0 {
			t.Errorf("%d extensions of the group", n)
		}
		// The engine greases nobody who did not ask for it.
		if leaf := w.Server.Leaf(0); len(leaf.Extensions) != 0 || len(leaf.Capabilities.Suites) != 1 {
			t.Error("a leaf was greased that should not be")
		}
	})
}
