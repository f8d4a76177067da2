package mls_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

func TestFramingCombinations(t *testing.T) {
	w := newWorld(t, 1, 3)
	member := wire.Sender{Type: mls.SenderMember, Index: 1}
	key := w.g.Leaf(1).SignatureKey
	remove := mls.RemoveProposal(2)
	w.refuse(mls.RuleApplicationPublic, w.message(&wire.FramedContent{
		Sender: member, ContentType: mls.ContentApplication, ApplicationData: []byte("hi"),
	}, key))
	// Who is not a member sends nothing else than RFC 9420 §6.1 says.
	for _, s := range []mls.SenderType{mls.SenderNewMemberProposal, mls.SenderExternal} {
		w.refuse(mls.RuleSenderContent, w.commit(1, commitOptions{content: func(c *wire.FramedContent) { c.Sender = wire.Sender{Type: s} }}))
	}
	w.refuse(mls.RuleSenderContent, w.message(&wire.FramedContent{
		Sender: wire.Sender{Type: mls.SenderNewMemberCommit}, ContentType: mls.ContentProposal, Proposal: remove,
	}, key))
	// A commit of a member as if by a joiner, with and without ExternalInit.
	w.refuse(mls.RuleSignature, w.commit(1, commitOptions{content: func(c *wire.FramedContent) {
		c.Sender = wire.Sender{Type: mls.SenderNewMemberCommit}
		c.Commit.Path.Leaf = w.g.Leaf(2)
	}}))
	w.refuse(mls.RuleExternalInit, w.commit(1, commitOptions{content: func(c *wire.FramedContent) {
		c.Sender = wire.Sender{Type: mls.SenderNewMemberCommit}
	}}))
	// Neither private messages nor other kinds are for a server.
	private := (&wire.PrivateMessage{
		GroupID: w.g.GroupID(), Epoch: w.g.Epoch(), ContentType: mls.ContentCommit, Ciphertext: w.random(100),
	}).Message()
	for _, msg := range [][]byte{
		private, w.keyPackage(nil).Message(), w.groupInfo(w.state(), 0, nil).Message(), (&wire.Welcome{Suite: 1}).Message(),
	} {
		w.refuse(mls.RuleWireFormat, msg)
	}
	// A membership tag exactly if the sender is a member: one byte too few or
	// too many is another layout.
	msg := w.propose(1, remove)
	w.refuse(mls.RuleMalformed, msg[:len(msg)-1-w.s.HashSize()])
	w.refuse(mls.RuleMalformed, append(bytes.Clone(msg), 0))
	w.accept(msg)
}

func TestEpochAndGroup(t *testing.T) {
	w := newWorld(t, 1, 3)
	stale := w.commit(1, commitOptions{})
	proposal := w.propose(1, mls.RemoveProposal(2))
	for _, change := range []func(*wire.FramedContent){
		func(c *wire.FramedContent) { c.GroupID = []byte("another group") },
		func(c *wire.FramedContent) { c.GroupID = []byte{} },
		func(c *wire.FramedContent) { c.GroupID = w.g.GroupID()[:2] },
	} {
		w.refuse(mls.RuleGroupID, w.commit(1, commitOptions{content: change}))
	}
	for _, e := range []uint64{w.g.Epoch() - 1, w.g.Epoch() + 1, 1<<64 - 1} {
		w.refuse(mls.RuleEpoch, w.commit(1, commitOptions{content: func(c *wire.FramedContent) { c.Epoch = e }}))
	}
	w.accept(w.commit(0, commitOptions{}))
	w.refuse(mls.RuleEpoch, stale)
	w.refuse(mls.RuleEpoch, proposal)
	// The epoch before was signed over: a message moved to this one is no good.
	w.refuse(mls.RuleSignature, w.replay(proposal))
}

// replay changes the epoch of a public message without signing it again.
func (w *world) replay(msg []byte) []byte {
	w.Helper()
	m, err := mls.ParseMessage(msg, nil)
	w.check(err)
	c := *m.Public.Content
	c.Epoch = w.g.Epoch()
	m.Public.Content = c.Seal()
	return m.Public.Message()
}

func TestAuthenticatedData(t *testing.T) {
	w := newWorld(t, 1, 3)
	aad := []byte("authenticated data")
	msgs := map[string]func() []byte{
		"commit":   func() []byte { return w.commit(1, commitOptions{aad: aad}) },
		"external": func() []byte { return w.commit(0, commitOptions{external: true, aad: aad}) },
		"proposal": func() []byte {
			return w.message(&wire.FramedContent{
				Sender: wire.Sender{Type: mls.SenderMember, Index: 1}, AAD: aad,
				ContentType: mls.ContentProposal, Proposal: mls.RemoveProposal(2),
			}, w.g.Leaf(1).SignatureKey)
		},
	}
	for name, make := range msgs {
		msg := make()
		at := bytes.Index(msg, aad)
		bad := bytes.Clone(msg)
		bad[at] ^= 1
		w.refuse(mls.RuleSignature, bad)
		before := w.g
		e := w.accept(msg)
		if !bytes.Equal(e.AAD, aad) {
			t.Errorf("%s: authenticated data lost", name)
		}
		if e.Commit == nil {
			if !bytes.Equal(w.g.Proposals()[0].AAD, aad) {
				t.Errorf("%s: authenticated data not stored", name)
			}
			continue
		}
		if !bytes.Equal(e.Commit.AAD, aad) {
			t.Errorf("%s: authenticated data not in the view", name)
		}
		// It is in the transcript.
		w.g = before
		other := make()
		w.accept(other)
	}
}

func TestTranscript(t *testing.T) {
	w := newWorld(t, 1, 2)
	old := w.g
	msg := w.commit(1, commitOptions{aad: []byte("a")})
	w.accept(msg)
	m, err := mls.ParseMessage(msg, nil)
	w.check(err)
	a := m.Public.Authenticated()
	want := w.s.Hash(old.InterimTranscriptHash(), a.ConfirmedTranscriptInput())
	if !bytes.Equal(w.g.Context().ConfirmedTranscriptHash, want) {
		t.Error("wrong confirmed transcript hash")
	}
	if !bytes.Equal(w.g.InterimTranscriptHash(), w.s.Hash(want, wire.InterimTranscriptInput(a.Auth.ConfirmationTag))) {
		t.Error("the confirmation tag is not in the interim transcript hash")
	}
	// Wire format, content and signature are each covered.
	for name, change := range map[string]func(a *wire.AuthenticatedContent){
		"wire format": func(a *wire.AuthenticatedContent) { a.Format = mls.FormatPrivateMessage },
		"signature":   func(a *wire.AuthenticatedContent) { a.Auth.Signature = w.random(64) },
		"content": func(a *wire.AuthenticatedContent) {
			c := *a.Content
			c.AAD = []byte("b")
			a.Content = c.Seal()
		},
	} {
		b := *a
		change(&b)
		if bytes.Equal(want, w.s.Hash(old.InterimTranscriptHash(), b.ConfirmedTranscriptInput())) {
			t.Errorf("%s is not in the transcript", name)
		}
	}
	// The tag is no input of the confirmed hash, but of everything after.
	b := *a
	b.Auth.ConfirmationTag = w.random(32)
	if !bytes.Equal(want, w.s.Hash(old.InterimTranscriptHash(), b.ConfirmedTranscriptInput())) {
		t.Error("the confirmation tag is in its own transcript hash")
	}
}

// TestEveryByteCounts: a proposal message with any byte changed, cut or
// appended is refused, or is not the same message for anybody; its tag is the
// members' to check.
func TestEveryByteCounts(t *testing.T) {
	for _, id := range []mls.CipherSuite{1, 2} {
		w := newWorld(t, id, 4)
		for _, msg := range [][]byte{
			w.propose(1, mls.AddProposal(w.keyPackage(nil))),
			w.propose(1, mls.RemoveProposal(2)), // one bit from another member
		} {
			signed := len(msg) - 1 - w.s.HashSize() // the membership tag is not signed
			for i := range msg[:signed] {
				for _, bit := range []byte{1, 0x80} {
					bad := bytes.Clone(msg)
					bad[i] ^= bit
					if next, e, err := w.g.Process(bad, timeZero); err == nil || next != nil || e != nil {
						t.Fatalf("suite %d: byte %d does not count", id, i)
					}
				}
			}
			for n := range msg {
				w.refuse(mls.RuleMalformed, msg[:n])
			}
			w.refuse(mls.RuleMalformed, append(bytes.Clone(msg), 0))
			w.accept(msg)
		}
	}
}

// TestNoSecondParse: what was read one way is not read again another way. An
// external sender's message with a membership tag, a member's without, a
// content type that does not fit its body, a bare structure in place of a
// message.
func TestNoSecondParse(t *testing.T) {
	w := newWorld(t, 1, 3)
	kp := w.keyPackage(nil)
	for what, b := range map[string][]byte{
		"bare key package": kp.Raw(),
		"bare GroupInfo":   w.groupInfo(w.state(), 0, nil).Raw(),
		"message twice":    append(kp.Message(), kp.Message()...),
		"wrong format":     append([]byte{0, 1, 0, 4}, kp.Raw()...),
		"wrong version":    append([]byte{0, 2, 0, 5}, kp.Raw()...),
	} {
		if m, err := mls.ParseMessage(b, nil); err == nil || m != nil {
			t.Errorf("%s was read", what)
		}
	}
	msg := w.propose(1, mls.RemoveProposal(2))
	at := bytes.Index(msg, []byte{0, 3, 0, 0, 0, 2}) - 1 // the content type before the proposal
	for _, typ := range []byte{0, 1, 3, 4, 255} {
		bad := bytes.Clone(msg)
		if bad[at] != 2 {
			t.Fatal("not the content type")
		}
		bad[at] = typ
		if _, err := mls.ParseMessage(bad, nil); err == nil {
			t.Errorf("a proposal was read as content type %d", typ)
		}
	}
	for _, sender := range []wire.SenderType{mls.SenderNewMemberProposal, mls.SenderExternal} {
		f := &wire.FramedContent{Sender: wire.Sender{Type: sender}, ContentType: mls.ContentProposal, Proposal: mls.AddProposal(kp)}
		tagged := append(w.message(f, kp.Leaf.SignatureKey), bytes.Repeat([]byte{32}, 33)...)
		w.refuse(mls.RuleMalformed, tagged)
	}
}

// TestGrease: values that nobody knows are ignored where RFC 9420 §13.5 lets
// them be, and refused where it does not.
func TestGrease(t *testing.T) {
	w := newWorld(t, 1, 2)
	const grease = 0x5a5a
	p := w.keyPackage(func(p *mls.KeyPackage) {
		c := &p.Leaf.Capabilities
		c.Suites = append([]mls.CipherSuite{grease}, c.Suites...)
		c.Extensions = append([]mls.ExtensionType{grease}, c.Extensions...)
		c.Proposals = append([]mls.ProposalType{grease}, c.Proposals...)
		c.Credentials = append([]mls.CredentialType{grease}, c.Credentials...)
		p.Leaf.Extensions = []mls.Extension{{Type: grease, Data: []byte("x")}}
		p.Extensions = []mls.Extension{{Type: grease, Data: []byte("y")}}
	})
	i := w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(p))})).Commit.Added[0]
	w.accept(w.commit(i, commitOptions{}))
	info := w.groupInfo(w.state(), 0, func(g *mls.GroupInfo) { g.Extensions = append(g.Extensions, mls.Extension{Type: grease}) })
	g, err := mls.NewPublicGroup(info.Message(), nil, w.opts)
	w.check(err)
	if data, ok := g.Leaf(i).Extension(grease); !ok || string(data) != "x" || g.Leaf(i).Capabilities.Suites[0] != grease {
		t.Error("GREASE was not kept")
	}
	w.refuse(mls.RuleUnsupportedProposal, w.propose(0, mls.CustomProposal(grease, nil)))
	w.refuse(mls.RuleExtensionsSupport, w.commit(0, commitOptions{list: values(mls.ExtensionsProposal([]mls.Extension{{Type: grease}}))}))
	w.refuse(mls.RuleCredentialTypes, w.commit(0, commitOptions{external: true, leaf: func(l *mls.LeafNode) {
		l.Credential = mls.CustomCredential(grease, nil)
		l.Capabilities.Credentials = append([]mls.CredentialType{grease}, l.Capabilities.Credentials...)
	}}))
}
