package mls_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// spoilLeaf are the rules that every new leaf must obey, wherever it is.
func spoilLeaf(w *world) map[string]func(*mls.LeafNode) mls.Rule {
	return map[string]func(*mls.LeafNode) mls.Rule{
		"version not listed": func(l *mls.LeafNode) mls.Rule {
			l.Capabilities.Versions = []mls.ProtocolVersion{2}
			return mls.RuleLeafVersion
		},
		"suite not listed": func(l *mls.LeafNode) mls.Rule {
			l.Capabilities.Suites = []mls.CipherSuite{2}
			return mls.RuleLeafVersion
		},
		"own credential type not listed": func(l *mls.LeafNode) mls.Rule {
			l.Capabilities.Credentials = []mls.CredentialType{customCredential}
			return mls.RuleCredentialTypes
		},
		"extension not listed": func(l *mls.LeafNode) mls.Rule {
			l.Extensions = []mls.Extension{{Type: unlistedType}}
			return mls.RuleLeafExtensions
		},
		"extension twice": func(l *mls.LeafNode) mls.Rule {
			l.Extensions = []mls.Extension{{Type: leafExtension}, {Type: leafExtension}}
			return mls.RuleDuplicateExtension
		},
		"encryption key of another leaf": func(l *mls.LeafNode) mls.Rule {
			l.EncryptionKey = w.g.Leaf(1).EncryptionKey
			return mls.RuleDuplicateEncryption
		},
		"encryption key of no use": func(l *mls.LeafNode) mls.Rule {
			l.EncryptionKey = make([]byte, 31)
			return mls.RuleLeafKey
		},
		"encryption key of small order": func(l *mls.LeafNode) mls.Rule {
			l.EncryptionKey = make([]byte, 32)
			return mls.RuleLeafKey
		},
	}
}

func TestLeafRules(t *testing.T) {
	w := newWorld(t, 1, 4)
	for name, spoil := range spoilLeaf(w) {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			var rule mls.Rule
			p := w.keyPackage(func(p *mls.KeyPackage) { rule = spoil(p.Leaf) })
			w.refuse(rule, w.commit(0, commitOptions{list: values(mls.AddProposal(p))}))

			up := w.propose(3, update(w.updateLeaf(3, func(l *mls.LeafNode) { spoil(l) })))
			if rule == mls.RuleDuplicateEncryption {
				// Only the list decides: the other leaf might be replaced as well.
				w.refuse(rule, w.commit(0, commitOptions{list: []wire.ProposalOrRef{w.store(up)}}))
			} else {
				w.refuse(rule, up)
			}
			if rule == mls.RuleDuplicateEncryption {
				rule = mls.RulePathKey
			}
			w.refuse(rule, w.commit(0, commitOptions{leaf: func(l *mls.LeafNode) { spoil(l) }}))
			w.refuse(rule, w.commit(0, commitOptions{external: true, leaf: func(l *mls.LeafNode) { spoil(l) }}))
		})
	}
	t.Run("signature", func(t *testing.T) {
		w := *w
		w.TB = t
		badSignature := func(l *mls.LeafNode) {
			l.Signature = w.random(64)
			l.Seal()
		}
		w.refuse(mls.RuleLeafSignature, w.commit(0, commitOptions{list: values(mls.AddProposal(
			w.keyPackage(func(p *mls.KeyPackage) { badSignature(p.Leaf) })))}))
		w.refuse(mls.RuleLeafSignature, w.propose(3, update(w.updateLeaf(3, badSignature))))
		w.refuse(mls.RuleLeafSignature, w.commit(0, commitOptions{leaf: badSignature}))
		// Another group's id or another leaf's index does not do.
		w.refuse(mls.RuleLeafSignature, w.propose(3, update(w.updateLeaf(3, func(l *mls.LeafNode) {
			w.signLeaf(l, []byte("another group"), 3)
		}))))
		w.refuse(mls.RuleLeafSignature, w.propose(3, update(w.updateLeaf(3, func(l *mls.LeafNode) {
			w.signLeaf(l, w.g.GroupID(), 2)
		}))))
	})
	t.Run("lawful", func(t *testing.T) {
		w := *w
		w.TB = t
		w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(w.keyPackage(func(p *mls.KeyPackage) {
			p.Leaf.Extensions = []mls.Extension{{Type: leafExtension, Data: []byte("x")}, {Type: mls.ExtensionApplicationID}}
		})))}))
	})
}

func TestCredentialTypesBothWays(t *testing.T) {
	w := newWorld(t, 1, 2)
	// A leaf that does not support what others use.
	custom := func(l *mls.LeafNode) {
		l.Credential = mls.CustomCredential(customCredential, []byte("c"))
		l.Capabilities.Credentials = []mls.CredentialType{customCredential}
	}
	w.refuse(mls.RuleCredentialTypes, w.commit(0, commitOptions{list: values(mls.AddProposal(
		w.keyPackage(func(p *mls.KeyPackage) { custom(p.Leaf) })))}))
	w.refuse(mls.RuleCredentialTypes, w.commit(0, commitOptions{external: true, leaf: custom}))
	// A leaf whose type others do not support.
	x509 := func(l *mls.LeafNode) {
		l.Credential = mls.X509Credential([]byte("cert"))
		l.Capabilities.Credentials = []mls.CredentialType{mls.CredentialBasic, mls.CredentialX509, customCredential}
	}
	w.refuse(mls.RuleCredentialTypes, w.commit(0, commitOptions{list: values(mls.AddProposal(
		w.keyPackage(func(p *mls.KeyPackage) { x509(p.Leaf) })))}))
	w.refuse(mls.RuleCredentialTypes, w.commit(0, commitOptions{external: true, leaf: x509}))
	// Two Adds of one commit that do not support each other.
	only := func(own, listed mls.CredentialType) *mls.ProposalBody {
		return mls.AddProposal(w.keyPackage(func(p *mls.KeyPackage) {
			p.Leaf.Credential = mls.CustomCredential(own, []byte("c"))
			p.Leaf.Capabilities.Credentials = []mls.CredentialType{mls.CredentialBasic, listed}
		}))
	}
	w.refuse(mls.RuleCredentialTypes, w.commit(0, commitOptions{list: values(
		only(customCredential, customCredential), only(mls.CredentialBasic, mls.CredentialBasic))}))
	w.accept(w.commit(0, commitOptions{list: values(only(customCredential, customCredential))}))
	// A member cannot drop a type that is in use.
	drop := func(l *mls.LeafNode) { l.Capabilities.Credentials = []mls.CredentialType{mls.CredentialBasic} }
	w.refuse(mls.RuleCredentialTypes, w.commit(0, commitOptions{leaf: drop}))
	ref := w.store(w.propose(1, update(w.updateLeaf(1, drop))))
	w.refuse(mls.RuleCredentialTypes, w.commit(0, commitOptions{list: []wire.ProposalOrRef{ref}}))
	// In a tree that is sent, either way.
	w.refused(mls.RuleCredentialTypes, w.joinTree(w.withLeaf(4, func(_ []wire.Node, l *mls.LeafNode) { x509(l) })))
	w.refused(mls.RuleCredentialTypes, w.joinTree(w.withLeaf(4, func(_ []wire.Node, l *mls.LeafNode) { custom(l) })))
	w.check(w.joinTree(w.withLeaf(4, func([]wire.Node, *mls.LeafNode) {})))
}

func TestCustomCredential(t *testing.T) {
	w := newWorld(t, 1, 2)
	body := w.random(300)
	p := w.keyPackage(func(p *mls.KeyPackage) { p.Leaf.Credential = mls.CustomCredential(customCredential, body) })
	e := w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(p))}))
	i := e.Commit.Added[0]
	w.accept(w.commit(i, commitOptions{}))
	if c := w.g.Leaf(i).Credential; c.Type != customCredential || !bytes.Equal(c.Body, body) {
		t.Error("the credential's body changed")
	}
}

func TestLeafContentSurvives(t *testing.T) {
	w := newWorld(t, 1, 2)
	es := []mls.Extension{{Type: leafExtension, Data: []byte("delivery address")}}
	p := w.keyPackage(func(p *mls.KeyPackage) { p.Leaf.Extensions = es })
	i := w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(p))})).Commit.Added[0]
	same := func(step string) {
		t.Helper()
		got := w.g.Leaf(i)
		if data, _ := got.Extension(leafExtension); !bytes.Equal(data, es[0].Data) {
			t.Errorf("%s: extension lost", step)
		}
		if !got.Credential.Equal(p.Leaf.Credential) || !bytes.Equal(got.CapabilitiesRaw(), p.Leaf.CapabilitiesRaw()) {
			t.Errorf("%s: credential or capabilities changed", step)
		}
	}
	same("Add")
	w.accept(w.commit(i, commitOptions{}))
	same("path")
	w.accept(w.commit(0, commitOptions{list: []wire.ProposalOrRef{w.store(w.propose(i, update(w.updateLeaf(i, nil))))}}))
	same("Update")
	i = w.accept(w.commit(0, commitOptions{external: true, joiner: w.g.Leaf(i), list: values(mls.RemoveProposal(i))})).Commit.Committer
	same("resync")
}

func TestUniqueKeys(t *testing.T) {
	w := newWorld(t, 1, 4)
	parent := w.state().Tree().Key(3)
	if parent == nil {
		t.Fatal("the root is blank")
	}
	// A path replaces nodes, but not before its own keys were compared.
	for _, path := range []bool{true, false} {
		p := w.keyPackage(func(p *mls.KeyPackage) { p.Leaf.EncryptionKey = parent })
		o := commitOptions{list: values(mls.AddProposal(p)), noPath: !path}
		if path {
			o.list = append(o.list, values(mls.RemoveProposal(3))...)
		}
		msg := w.commit(0, o)
		if path {
			w.accept(msg) // the parent is gone with the path
			w = newWorld(t, 1, 4)
			parent = w.state().Tree().Key(3)
		} else {
			w.refuse(mls.RuleDuplicateEncryption, msg)
		}
	}
	a := w.keyPackage(nil)
	b := w.keyPackage(func(p *mls.KeyPackage) { p.Leaf.EncryptionKey = a.Leaf.EncryptionKey })
	w.refuse(mls.RuleDuplicateEncryption, w.commit(0, commitOptions{list: values(mls.AddProposal(a), mls.AddProposal(b))}))
	// Signature keys: a path leaf with the key of another member.
	w.opts.Rules = anySuccessor{}
	w.g = w.reload()
	key := w.g.Leaf(2).SignatureKey
	w.refuse(mls.RuleDuplicateSignatureKey, w.commit(0, commitOptions{leaf: func(l *mls.LeafNode) { l.SignatureKey = key }}))
	fresh := w.leaf(nil)
	w.accept(w.commit(0, commitOptions{leaf: func(l *mls.LeafNode) { l.SignatureKey = fresh.SignatureKey }}))
	// In a tree that is sent.
	w.refused(mls.RuleDuplicateSignatureKey, w.joinTree(w.withLeaf(4, func(ns []wire.Node, l *mls.LeafNode) {
		l.SignatureKey = ns[2].Leaf.SignatureKey
	})))
	w.refused(mls.RuleDuplicateEncryption, w.joinTree(w.withLeaf(4, func(ns []wire.Node, l *mls.LeafNode) {
		l.EncryptionKey = ns[2].Leaf.EncryptionKey
	})))
}

// anySuccessor also lets a member change its credential.
type anySuccessor struct{ mls.OpenRules }

func (anySuccessor) Successor(_, _ *mls.LeafNode) error { return nil }

// reload saves and loads the group under the world's present options.
func (w *world) reload() *mls.PublicGroup {
	w.Helper()
	g, err := mls.ParsePublicGroup(save(w, w.g), w.opts)
	w.check(err)
	return g
}

var errPolicy = errors.New("not in this house")

// noSuccessor refuses what the application may refuse.
type noSuccessor struct{ mls.OpenRules }

func (noSuccessor) Successor(_, _ *mls.LeafNode) error { return errPolicy }

func TestReplacedLeaf(t *testing.T) {
	w := newWorld(t, 1, 3)
	reused := func(i mls.LeafIndex) func(*mls.LeafNode) {
		return func(l *mls.LeafNode) { l.EncryptionKey = w.g.Leaf(i).EncryptionKey }
	}
	source := func(s mls.LeafNodeSource) func(*mls.LeafNode) {
		return func(l *mls.LeafNode) { l.Source = s }
	}
	w.refuse(mls.RuleLeafKeyReused, w.propose(1, update(w.updateLeaf(1, reused(1)))))
	w.refuse(mls.RuleLeafKeyReused, w.commit(1, commitOptions{leaf: reused(1)}))
	w.refuse(mls.RuleLeafSource, w.propose(1, update(w.updateLeaf(1, source(mls.SourceCommit)))))
	w.refuse(mls.RuleLeafSource, w.propose(1, update(w.updateLeaf(1, source(mls.SourceKeyPackage)))))
	w.refuse(mls.RuleLeafSource, w.commit(1, commitOptions{leaf: source(mls.SourceUpdate)}))
	w.refuse(mls.RuleLeafSource, w.commit(1, commitOptions{leaf: source(mls.SourceKeyPackage)}))
	credential := func(l *mls.LeafNode) { l.Credential = mls.BasicCredential([]byte("somebody else")) }
	w.refuse(mls.RuleSuccessor, w.propose(1, update(w.updateLeaf(1, credential))))
	w.refuse(mls.RuleSuccessor, w.commit(1, commitOptions{leaf: credential}))
	w.refuse(mls.RuleSuccessor, w.commit(1, commitOptions{
		external: true, joiner: w.g.Leaf(1), list: values(mls.RemoveProposal(1)), leaf: credential,
	}))
	w.opts.Rules = noSuccessor{}
	w.g = w.reload()
	_, _, err := w.g.Process(w.commit(1, commitOptions{}), timeZero)
	w.refused(mls.RuleSuccessor, err)
	if !errors.Is(err, errPolicy) {
		t.Error("the application's error is not in the refusal")
	}
}

func TestKeyPackageRules(t *testing.T) {
	w := newWorld(t, 1, 2)
	day := uint64(24 * 3600)
	for name, c := range map[string]struct {
		rule  mls.Rule
		spoil func(*mls.KeyPackage)
	}{
		"version":           {mls.RuleKeyPackageSuite, func(p *mls.KeyPackage) { p.Version = 2 }},
		"suite":             {mls.RuleKeyPackageSuite, func(p *mls.KeyPackage) { p.Suite = 3 }},
		"source":            {mls.RuleLeafSource, func(p *mls.KeyPackage) { p.Leaf.Source = mls.SourceUpdate }},
		"init key of leaf":  {mls.RuleKeyPackageInitKey, func(p *mls.KeyPackage) { p.InitKey = p.Leaf.EncryptionKey }},
		"init key invalid":  {mls.RuleKeyPackageInitKey, func(p *mls.KeyPackage) { p.InitKey = make([]byte, 33) }},
		"signature":         {mls.RuleKeyPackageSignature, func(p *mls.KeyPackage) { p.Signature = w.random(64) }},
		"extension twice":   {mls.RuleDuplicateExtension, func(p *mls.KeyPackage) { p.Extensions = []mls.Extension{{Type: 9}, {Type: 9}} }},
		"expired":           {mls.RuleLifetime, func(p *mls.KeyPackage) { p.Leaf.Lifetime = mls.Lifetime{NotBefore: 0, NotAfter: 1499} }},
		"not yet valid":     {mls.RuleLifetime, func(p *mls.KeyPackage) { p.Leaf.Lifetime = mls.Lifetime{NotBefore: 1501, NotAfter: 2000} }},
		"too long":          {mls.RuleLifetime, func(p *mls.KeyPackage) { p.Leaf.Lifetime = mls.Lifetime{NotBefore: 0, NotAfter: 120*day + 1} }},
		"lifetime backward": {mls.RuleLifetime, func(p *mls.KeyPackage) { p.Leaf.Lifetime = mls.Lifetime{NotBefore: 1500, NotAfter: 1499} }},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			p := w.keyPackage(c.spoil)
			if name != "suite" { // alone, a key package is judged by its own suite
				w.refused(c.rule, mls.VerifyKeyPackage(p, time.Unix(1500, 0), nil))
			}
			w.refuse(c.rule, w.commit(0, commitOptions{list: values(mls.AddProposal(p))}))
			w.refuse(c.rule, w.propose(0, mls.AddProposal(p)))
		})
	}
	// Unknown key package extensions are ignored (§13.4); both ends of a
	// lifetime of exactly the limit are in it.
	p := w.keyPackage(func(p *mls.KeyPackage) {
		p.Extensions = []mls.Extension{{Type: unlistedType}}
		p.Leaf.Lifetime = mls.Lifetime{NotBefore: 1500, NotAfter: 1500 + 120*day}
	})
	for _, now := range []int64{1500, 1500 + 120*24*3600} {
		if err := mls.VerifyKeyPackage(p, time.Unix(now, 0), nil); err != nil {
			t.Error(err)
		}
	}
	w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(p))}))
}

func TestRequiredCapabilities(t *testing.T) {
	require := mls.RequiredCapabilities{
		Extensions: []mls.ExtensionType{leafExtension}, Proposals: []mls.ProposalType{mls.ProposalAdd},
		Credentials: []mls.CredentialType{mls.CredentialBasic},
	}
	w := newWorld(t, 1, 2, require.Extension())
	lacking := w.keyPackage(func(p *mls.KeyPackage) {
		p.Leaf.Capabilities.Extensions = []mls.ExtensionType{groupExtension}
	})
	w.refuse(mls.RuleLeafCapabilities, w.commit(0, commitOptions{list: values(mls.AddProposal(lacking))}))
	w.refuse(mls.RuleLeafCapabilities, w.commit(0, commitOptions{external: true, leaf: func(l *mls.LeafNode) {
		l.Capabilities.Extensions = nil
	}}))
	w.accept(w.commit(0, commitOptions{external: true, leaf: func(l *mls.LeafNode) {
		l.Capabilities.Extensions = slices.Insert(slices.Clone(l.Capabilities.Extensions), 0, 0x0a0a) // GREASE
	}}))
}

func TestRequiredCapabilitiesWire(t *testing.T) {
	data := []byte{4, 0xf0, 0xa4, 0xf0, 0xa5, 0, 2, 0xf0, 0xa1}
	c, err := mls.ParseRequiredCapabilities(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Extensions) != 2 || len(c.Proposals) != 0 || len(c.Credentials) != 1 || c.Credentials[0] != 0xf0a1 {
		t.Errorf("misread: %+v", c)
	}
	if got := c.Extension(); got.Type != mls.ExtensionRequiredCapabilities || !bytes.Equal(got.Data, data) {
		t.Error("encodes to other bytes")
	}
}

func TestSuiteMismatch(t *testing.T) {
	w := newWorld(t, 1, 2)
	other := newWorld(t, 3, 1) // same kinds of keys, another suite
	w.refuse(mls.RuleKeyPackageSuite, w.commit(0, commitOptions{list: values(mls.AddProposal(other.keyPackage(nil)))}))
	w.refuse(mls.RuleLeafVersion, w.commit(0, commitOptions{leaf: func(l *mls.LeafNode) { l.Capabilities.Suites = []mls.CipherSuite{3} }}))
	g := w.groupInfo(w.state(), 0, func(g *mls.GroupInfo) {
		c := *g.Context
		c.Suite = 3
		g.Context = c.Seal()
	})
	_, err := mls.NewPublicGroup(g.Message(), nil, w.opts)
	if err == nil {
		t.Error("a GroupInfo of another suite was accepted")
	}
	g = w.groupInfo(w.state(), 0, func(g *mls.GroupInfo) {
		c := *g.Context
		c.Suite = 9
		g.Context = c.Seal()
	})
	_, err = mls.NewPublicGroup(g.Message(), nil, w.opts)
	w.refused(mls.RuleUnsupportedSuite, err)
}
