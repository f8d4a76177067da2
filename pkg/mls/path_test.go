package mls_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

func TestPathRequired(t *testing.T) {
	w := newWorld(t, 1, 3, mls.Extension{Type: groupExtension})
	ref := w.store(w.propose(1, update(w.updateLeaf(1, nil))))
	for name, list := range map[string][]wire.ProposalOrRef{
		"empty":      nil,
		"remove":     values(mls.RemoveProposal(1)),
		"extensions": values(mls.ExtensionsProposal(nil)),
		"update":     {ref},
		"mixed":      values(mls.AddProposal(w.keyPackage(nil)), mls.RemoveProposal(1)),
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			w.refuse(mls.RulePathRequired, w.commit(0, commitOptions{list: list, noPath: true}))
			w.accept(w.commit(0, commitOptions{list: list}))
		})
	}
	// An external commit without a path has not even a key to sign with.
	msg := w.commit(0, commitOptions{external: true, noPath: true, joiner: w.g.Leaf(0)})
	w.refuse(mls.RulePathRequired, msg)
	w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(w.keyPackage(nil)), w.psk(nil)), noPath: true}))
}

func TestPathShape(t *testing.T) {
	w := newWorld(t, 1, 5)
	add := values(mls.AddProposal(w.keyPackage(nil)), mls.AddProposal(w.keyPackage(nil)))
	secret := wire.HPKECiphertext{KEMOutput: w.random(32), Ciphertext: w.random(48)}
	for name, spoil := range map[string]func(*wire.UpdatePath){
		"node missing": func(p *wire.UpdatePath) { p.Nodes = p.Nodes[:len(p.Nodes)-1] },
		"no nodes":     func(p *wire.UpdatePath) { p.Nodes = nil },
		"extra node": func(p *wire.UpdatePath) {
			p.Nodes = append(p.Nodes, wire.UpdatePathNode{EncryptionKey: w.leaf(nil).EncryptionKey})
		},
		"secret extra":  func(p *wire.UpdatePath) { p.Nodes[0].Secrets = append(p.Nodes[0].Secrets, secret) },
		"secret gone":   func(p *wire.UpdatePath) { p.Nodes[0].Secrets = nil },
		"for the added": func(p *wire.UpdatePath) { n := &p.Nodes[len(p.Nodes)-1]; n.Secrets = append(n.Secrets, secret, secret) },
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			w.refuse(mls.RulePathShape, w.commit(1, commitOptions{list: add, path: spoil}))
			w.refuse(mls.RulePathShape, w.commit(1, commitOptions{external: true, path: spoil}))
		})
	}
	w.accept(w.commit(1, commitOptions{list: add}))
}

func TestPathKeysFresh(t *testing.T) {
	w := newWorld(t, 1, 5)
	st := w.state()
	added := w.keyPackage(nil)
	for name, key := range map[string][]byte{
		"replaced parent": st.Tree().Key(3),
		"root":            st.Tree().Key(7),
		"other parent":    st.Tree().Key(5),
		"own old leaf":    w.g.Leaf(1).EncryptionKey,
		"other leaf":      w.g.Leaf(4).EncryptionKey,
		"added leaf":      added.Leaf.EncryptionKey,
		"invalid":         make([]byte, 32),
		"short":           make([]byte, 31),
		"empty":           {},
	} {
		t.Run(name, func(t *testing.T) {
			if key == nil {
				t.Fatal("the node is blank")
			}
			w := *w
			w.TB = t
			w.refuse(mls.RulePathKey, w.commit(1, commitOptions{
				list: values(mls.AddProposal(added)),
				path: func(p *wire.UpdatePath) { p.Nodes[1].EncryptionKey = key },
			}))
		})
	}
	w.refuse(mls.RulePathKey, w.commit(1, commitOptions{path: func(p *wire.UpdatePath) {
		p.Nodes[1].EncryptionKey = p.Nodes[0].EncryptionKey
	}}))
	var leafKey []byte
	w.refuse(mls.RulePathKey, w.commit(1, commitOptions{
		path: func(p *wire.UpdatePath) { leafKey = p.Nodes[0].EncryptionKey },
		leaf: func(l *mls.LeafNode) { l.EncryptionKey = leafKey },
	}))
	w.refuse(mls.RulePathKey, w.commit(1, commitOptions{leaf: func(l *mls.LeafNode) { l.EncryptionKey = st.Tree().Key(5) }}))
}

func TestPathParentHash(t *testing.T) {
	w := newWorld(t, 1, 5)
	for _, hash := range [][]byte{nil, w.random(32), w.random(33)} {
		w.refuse(mls.RulePathParentHash, w.commit(1, commitOptions{leaf: func(l *mls.LeafNode) { l.ParentHash = hash }}))
	}
	// The right one, cut.
	w.refuse(mls.RulePathParentHash, w.commit(1, commitOptions{leaf: func(l *mls.LeafNode) { l.ParentHash = l.ParentHash[:31] }}))
	w.accept(w.commit(1, commitOptions{}))
	// Nothing above a lonely leaf.
	one := newWorld(t, 1, 1)
	one.refuse(mls.RulePathParentHash, one.commit(0, commitOptions{leaf: func(l *mls.LeafNode) { l.ParentHash = w.random(32) }}))
	one.accept(one.commit(0, commitOptions{}))
}

func TestCommitSignature(t *testing.T) {
	w := newWorld(t, 1, 4)
	// The key of another member, and the new key of the path.
	w.opts.Rules = anySuccessor{}
	w.g = w.reload()
	fresh := w.leaf(nil)
	w.refuse(mls.RuleSignature, w.commit(1, commitOptions{content: func(c *wire.FramedContent) { c.Sender.Index = 2 }}))
	msg := w.commit(1, commitOptions{leaf: func(l *mls.LeafNode) { l.SignatureKey = fresh.SignatureKey }})
	w.accept(msg)
	w.accept(w.commit(0, commitOptions{list: values(mls.RemoveProposal(2))}))
	for _, i := range []uint32{2, 4, 1 << 31, 1<<32 - 1} {
		w.refuse(mls.RuleSender, w.commit(1, commitOptions{content: func(c *wire.FramedContent) { c.Sender.Index = i }}))
	}
	// Any changed byte of the message.
	msg = w.commit(1, commitOptions{aad: []byte("data")})
	for i := range msg[:len(msg)-1-2*w.s.HashSize()-2] { // not the tags, which need secrets
		bad := bytes.Clone(msg)
		bad[i] ^= 1
		if next, _, err := w.g.Process(bad, timeZero); err == nil || next != nil {
			t.Fatalf("a commit with byte %d changed was accepted", i)
		}
	}
	w.accept(msg)
}

// TestTreeValidAfterCommit joins the group anew after each of a chain of
// commits: whatever the server accepts must be a tree that a joiner accepts.
func TestTreeValidAfterCommit(t *testing.T) {
	for _, id := range []suite.ID{1, 5} {
		w := newWorld(t, id, 1)
		add := func() *mls.ProposalBody { return mls.AddProposal(w.keyPackage(nil)) }
		for n, o := range []commitOptions{
			{list: values(add(), add(), add(), add()), noPath: true},
			{list: values(add())},
			{},
			{list: values(mls.RemoveProposal(4), add(), add())},
			{list: values(mls.RemoveProposal(1))},
			{external: true},
			{list: values(add(), add(), add(), add()), noPath: true},
			{external: true},
			{list: values(mls.RemoveProposal(5), mls.RemoveProposal(6), mls.RemoveProposal(7), mls.RemoveProposal(8), mls.RemoveProposal(9), mls.RemoveProposal(10))},
		} {
			w.accept(w.commit(0, o))
			if n%3 == 1 && w.g.Leaf(2) != nil {
				w.accept(w.commit(2, commitOptions{}))
			}
			joined, err := mls.NewPublicGroup(w.groupInfo(w.state(), 0, nil).Message(), w.g.TreeBytes(), w.opts)
			if err != nil {
				t.Fatalf("suite %d: joining after commit %d: %v", id, n, err)
			}
			if !bytes.Equal(joined.TreeBytes(), w.g.TreeBytes()) {
				t.Errorf("suite %d: another tree after commit %d", id, n)
			}
			w.g = joined
		}
		// What would leave a tree that no joiner accepts is refused.
		key := w.g.Leaf(0).EncryptionKey
		twin := w.keyPackage(func(p *mls.KeyPackage) { p.Leaf.EncryptionKey = key })
		w.refuse(mls.RuleDuplicateEncryption, w.commit(1, commitOptions{list: values(mls.AddProposal(twin)), noPath: true}))
		odd := w.keyPackage(func(p *mls.KeyPackage) {
			p.Leaf.Capabilities.Credentials = []mls.CredentialType{customCredential}
			p.Leaf.Credential = mls.CustomCredential(customCredential, nil)
		})
		w.refuse(mls.RuleCredentialTypes, w.commit(1, commitOptions{list: values(mls.AddProposal(odd)), noPath: true}))
	}
}
