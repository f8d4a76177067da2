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
	// Neither private messages nor other kinds are for a hub.
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
		func(c *wire.FramedContent) { c.GroupID = []byte("another room") },
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
