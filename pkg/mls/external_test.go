package mls_test

import (
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

func TestExternalCommitProposals(t *testing.T) {
	w := newWorld(t, 1, 3, mls.Extension{Type: groupExtension})
	init := (&mls.ProposalBody{Type: mls.ProposalExternalInit, ExternalInit: w.random(32)}).Seal()
	joiner := w.leaf(nil)
	for name, c := range map[string]struct {
		rule mls.Rule
		list []wire.ProposalOrRef
	}{
		"two inits":   {mls.RuleExternalInit, values(init)},
		"add":         {mls.RuleExternalProposals, values(mls.AddProposal(w.keyPackage(nil)))},
		"update":      {mls.RuleExternalProposals, values(update(w.updateLeaf(1, nil)))},
		"extensions":  {mls.RuleExternalProposals, values(mls.ExtensionsProposal(nil))},
		"reinit":      {mls.RuleExternalProposals, values(mls.ReInitProposal(mls.ReInit{Version: mls.MLS10, Suite: 1}))},
		"custom":      {mls.RuleExternalProposals, values(mls.CustomProposal(customProposal, nil))},
		"two removes": {mls.RuleExternalProposals, values(mls.RemoveProposal(1), mls.RemoveProposal(2))},
		"same remove": {mls.RuleExternalProposals, values(mls.RemoveProposal(1), mls.RemoveProposal(1))},
		"blank":       {mls.RuleRemoveBlank, values(mls.RemoveProposal(3))},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.TB = t
			w.refuse(c.rule, w.commit(0, commitOptions{external: true, joiner: joiner, list: c.list}))
		})
	}
	w.refuse(mls.RuleExternalInit, w.commit(0, commitOptions{external: true, commit: func(c *wire.Commit) { c.Proposals = nil }}))
	ref := w.store(w.propose(0, w.psk(nil)))
	w.refuse(mls.RuleExternalReference, w.commit(0, commitOptions{external: true, list: []wire.ProposalOrRef{ref}}))
	w.accept(w.commit(0, commitOptions{external: true, list: values(w.psk(nil), w.psk(nil)), aad: []byte("aad")}))
}

func TestExternalRemoveOnlySelf(t *testing.T) {
	w := newWorld(t, 1, 4)
	// A stranger, and a member, against another member.
	w.refuse(mls.RuleSuccessor, w.commit(0, commitOptions{external: true, list: values(mls.RemoveProposal(2))}))
	w.refuse(mls.RuleSuccessor, w.commit(0, commitOptions{external: true, joiner: w.g.Leaf(1), list: values(mls.RemoveProposal(2))}))
	// A resync: the joiner takes the leftmost blank leaf, its own here.
	e := w.accept(w.commit(0, commitOptions{external: true, joiner: w.g.Leaf(1), list: values(mls.RemoveProposal(1))}))
	if e.Commit.Committer != 1 || w.g.Len() != 4 || !e.Commit.External {
		t.Errorf("resync: leaf %d, %d members", e.Commit.Committer, w.g.Len())
	}
	// The same encryption key again is no new leaf.
	w.refuse(mls.RuleLeafKeyReused, w.commit(0, commitOptions{
		external: true, joiner: w.g.Leaf(1), list: values(mls.RemoveProposal(1)),
		leaf: func(l *mls.LeafNode) { l.EncryptionKey = w.g.Leaf(1).EncryptionKey },
	}))
	// Without the Remove the client would be there twice.
	w.refuse(mls.RuleSameClient, w.commit(0, commitOptions{external: true, joiner: w.g.Leaf(1)}))
	// The only member re-joins an empty tree.
	one := newWorld(t, 1, 1)
	one.accept(one.commit(0, commitOptions{external: true, joiner: one.g.Leaf(0), list: values(mls.RemoveProposal(0))}))
	if one.g.Len() != 1 || one.g.Width() != 1 {
		t.Error("resync of the only member went wrong")
	}
}

func TestExternalCommitRules(t *testing.T) {
	w := newWorld(t, 1, 5)
	// Somebody else's signature.
	w.refuse(mls.RuleLeafSignature, w.commit(0, commitOptions{external: true, leaf: func(l *mls.LeafNode) {
		l.Signature = w.random(64)
		l.Seal()
	}}))
	w.refuse(mls.RuleLeafSource, w.commit(0, commitOptions{external: true, leaf: func(l *mls.LeafNode) { l.Source = mls.SourceUpdate }}))
	// The joiner's leaf is where the tree says, not where the joiner says.
	w.refuse(mls.RuleLeafSignature, w.commit(0, commitOptions{external: true, leaf: func(l *mls.LeafNode) {
		w.signLeaf(l, w.g.GroupID(), 6)
	}}))
	// Sent as if by a member.
	w.refuse(mls.RuleExternalInit, w.commit(1, commitOptions{list: values(
		(&mls.ProposalBody{Type: mls.ProposalExternalInit, ExternalInit: w.random(32)}).Seal())}))
	w.accept(w.commit(0, commitOptions{list: values(mls.RemoveProposal(2))}))
	if e := w.accept(w.commit(0, commitOptions{external: true})); e.Commit.Committer != 2 {
		t.Errorf("the joiner is at leaf %d, not at the leftmost blank one", e.Commit.Committer)
	}
	if e := w.accept(w.commit(0, commitOptions{external: true})); e.Commit.Committer != 5 {
		t.Errorf("the joiner is at leaf %d, not at the leftmost blank one", e.Commit.Committer)
	}
}

// outsider is a Signer with a key that the world knows.
type outsider struct {
	w   *world
	key []byte
}

func (o outsider) Public() []byte { return o.key }

func (o outsider) Sign(content []byte) ([]byte, error) {
	return o.w.s.Sign(o.w.keys[string(o.key)], content)
}

func TestExternalProposals(t *testing.T) {
	keys := newWorld(t, 1, 1)
	server := outsider{keys, keys.leaf(nil).SignatureKey}
	next := outsider{keys, keys.leaf(nil).SignatureKey}
	sender := mls.ExternalSender{SignatureKey: server.key, Credential: mls.X509Credential([]byte("server"))}
	w := newWorld(t, 1, 3, mls.ExternalSendersExtension(sender), mls.Extension{Type: groupExtension})
	send := func(from outsider, index uint32, p *mls.ProposalBody) []byte {
		t.Helper()
		msg, err := mls.NewExternalProposal(w.g, index, p, []byte("aad"), from)
		w.check(err)
		return msg
	}
	w.refuse(mls.RuleSignature, send(next, 0, mls.RemoveProposal(2)))
	for _, i := range []uint32{1, 1 << 31, 1<<32 - 1} {
		w.refuse(mls.RuleSender, send(server, i, mls.RemoveProposal(2)))
	}
	w.refuse(mls.RuleExternalProposalType, send(server, 0, update(w.updateLeaf(1, nil))))
	w.refuse(mls.RuleExternalProposalType, send(server, 0, (&mls.ProposalBody{Type: mls.ProposalExternalInit, ExternalInit: w.random(32)}).Seal()))
	w.refuse(mls.RuleExternalProposalType, send(server, 0, mls.CustomProposal(customProposal, nil)))
	for _, p := range []*mls.ProposalBody{
		mls.AddProposal(w.keyPackage(nil)), w.psk(nil), mls.ExtensionsProposal(nil),
		mls.ReInitProposal(mls.ReInit{Version: mls.MLS10, Suite: 1}),
	} {
		w.accept(send(server, 0, p))
	}
	e := w.accept(send(server, 0, mls.RemoveProposal(2)))
	if e.Sender != (mls.Sender{Type: mls.SenderExternal}) || string(e.AAD) != "aad" {
		t.Errorf("wrong event: %+v", e.Sender)
	}
	w.accept(w.commit(0, commitOptions{list: []wire.ProposalOrRef{{Reference: e.Proposal.Ref}}}))

	// External senders do nothing but propose.
	commit := w.commit(0, commitOptions{content: func(c *wire.FramedContent) { c.Sender = wire.Sender{Type: mls.SenderExternal} }})
	w.refuse(mls.RuleSenderContent, commit)

	// A new member proposes its own Add, signed with its leaf's key.
	join := func(p *mls.ProposalBody, key []byte) []byte {
		return w.message(&wire.FramedContent{
			Sender: wire.Sender{Type: mls.SenderNewMemberProposal}, ContentType: mls.ContentProposal, Proposal: p,
		}, key)
	}
	p := w.keyPackage(nil)
	w.refuse(mls.RuleSignature, join(mls.AddProposal(p), w.g.Leaf(0).SignatureKey))
	w.refuse(mls.RuleExternalProposalType, join(mls.RemoveProposal(1), w.g.Leaf(0).SignatureKey))
	ref := w.store(join(mls.AddProposal(p), p.Leaf.SignatureKey))
	w.accept(w.commit(0, commitOptions{list: []wire.ProposalOrRef{ref}}))

	// Without the extension there are no external senders.
	w.accept(w.commit(0, commitOptions{list: values(mls.ExtensionsProposal(nil))}))
	w.refuse(mls.RuleSender, send(server, 0, mls.RemoveProposal(1)))
	// A new sender's credential is asked for, at its own place.
	w.opts.Rules = noSenders{}
	w.g = w.reload()
	w.refuse(mls.RuleCredential, w.commit(0, commitOptions{list: values(mls.ExtensionsProposal([]mls.Extension{mls.ExternalSendersExtension(sender)}))}))
}

type noSenders struct{ mls.OpenRules }

func (noSenders) Credential(_ mls.Credential, _ []byte, at mls.Place) error {
	if at == mls.PlaceNewExternalSender {
		return errPolicy
	}
	return nil
}

// TestStrangersProposal: a stranger needs nothing but the group id and epoch
// to make the server look at its message.
func TestStrangersProposal(t *testing.T) {
	for _, id := range suite.IDs() {
		w := newWorld(t, id, 2)
		for _, c := range []mls.Credential{{Type: 0x7777}, mls.X509Credential(), mls.X509Credential(nil), {Type: mls.CredentialBasic}} {
			p := w.keyPackage(func(p *mls.KeyPackage) {
				p.Leaf.Credential = c
				p.Leaf.Capabilities = mls.Capabilities{}
				p.Leaf.EncryptionKey, p.InitKey = nil, nil
			})
			f := &wire.FramedContent{Sender: wire.Sender{Type: mls.SenderNewMemberProposal}, ContentType: mls.ContentProposal, Proposal: mls.AddProposal(p)}
			w.refuse(mls.RuleKeyPackageInitKey, w.message(f, p.Leaf.SignatureKey))
		}
	}
}
