package member_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

func send(t *testing.T, c *mlstest.Client, text string) []byte {
	t.Helper()
	msg, err := c.Send([]byte(text), member.SendOptions{})
	if err != nil {
		t.Fatalf("%s: sending: %v", c.Name, err)
	}
	return msg
}

func reads(t *testing.T, c *mlstest.Client, msg []byte, text string) *mls.Event {
	t.Helper()
	e, err := c.Process(msg)
	if err != nil || string(e.Data) != text {
		t.Fatalf("%s: reading: %v", c.Name, err)
	}
	return e
}

func refuses(t *testing.T, c *mlstest.Client, msg []byte, rule mls.Rule, class mls.Class) {
	t.Helper()
	_, err := c.Process(msg)
	mlstest.CheckRule(t, c.Name, err, rule)
	var r *mls.Refusal
	if errors.As(err, &r) && r.Class != class {
		t.Errorf("%s: class %v, want %v", c.Name, r.Class, class)
	}
}

// Number 11: a late message of a member that was removed since is its own, even
// if its leaf belongs to somebody else by now.
func TestLateMessageOfRemovedMember(t *testing.T) {
	w := world(t, 4)
	gone, reader, committer := w.Clients[2], w.Clients[1], w.Clients[0]
	leaf := gone.Group.OwnLeaf()
	late := []string{"first", "second", "third"}
	var msgs [][]byte
	for _, text := range late {
		msgs = append(msgs, send(t, gone, text))
	}
	key := gone.Group.Public().Leaf(leaf).SignatureKey
	w.Commit(committer, member.CommitOptions{ByValue: []*mls.ProposalBody{mls.RemoveProposal(leaf)}})
	e := reads(t, reader, msgs[0], late[0])
	if e.Epoch != 1 || e.Sender.Index != uint32(leaf) || !bytes.Equal(e.Leaf.SignatureKey, key) {
		t.Errorf("late message in epoch %d by leaf %d", e.Epoch, e.Sender.Index)
	}
	heir := w.NewClient()
	w.Commit(committer, member.CommitOptions{}, heir)
	if heir.Group.OwnLeaf() != leaf {
		t.Fatalf("the heir got leaf %d, want %d", heir.Group.OwnLeaf(), leaf)
	}
	e = reads(t, reader, msgs[1], late[1])
	if !bytes.Equal(e.Leaf.SignatureKey, key) {
		t.Error("a late message is ascribed to the leaf's new owner")
	}
	// The heir was not there.
	refuses(t, heir, msgs[2], wire.RuleEpoch, mls.ClassStale)
	// After three more epochs the keys are gone.
	w.Commit(committer, member.CommitOptions{})
	reads(t, reader, msgs[2], late[2])
	refuses(t, reader, msgs[2], wire.RuleGeneration, mls.ClassReplay)
	w.Commit(committer, member.CommitOptions{})
	refuses(t, reader, msgs[2], wire.RuleEpoch, mls.ClassStale)
}

// Messages of past epochs whose trees had another shape, and of blank leaves.
func TestLateMessagesAcrossTreeChanges(t *testing.T) {
	w := world(t, 2)
	reader, sender := w.Clients[0], w.Clients[1]
	early := send(t, sender, "narrow")
	forger := sender.Lawless()
	w.Commit(reader, member.CommitOptions{}, w.NewClient(), w.NewClient(), w.NewClient()) // wider
	wide := send(t, w.Clients[4], "wide")
	o := member.CommitOptions{}
	for _, c := range w.Clients[2:] {
		o.ByValue = append(o.ByValue, mls.RemoveProposal(c.Group.OwnLeaf()))
	}
	w.Commit(reader, o) // narrow again
	reads(t, reader, early, "narrow")
	reads(t, reader, wide, "wide")
	// A leaf that was blank in that epoch cannot have sent.
	forger.Own = 1
	msg := forger.Say([]byte("x"), mlstest.Forgery{SenderData: func(sd *wire.SenderData) { sd.Leaf = 4 }})
	refuses(t, reader, msg, wire.RuleSenderData, mls.ClassInvalid)
	// A late message with a wrong signature.
	refuses(t, reader, forger.Say([]byte("x"), mlstest.Forgery{Signature: flip}), wire.RuleSignature, mls.ClassInvalid)
	// Handshakes of past epochs are stale, however private.
	msg = forger.Propose(mls.RemoveProposal(0), mlstest.Forgery{Private: true})
	refuses(t, reader, msg, wire.RuleEpoch, mls.ClassStale)
}

// Number 17.
func TestGenerationJump(t *testing.T) {
	w := world(t, 2)
	l := w.Clients[1].Lawless()
	jump := func(n uint32) []byte {
		for range n {
			next, _, err := l.Messages.Next(uint32(l.Own), secret.Application)
			if err != nil {
				t.Fatal(err)
			}
			l.Messages = next
		}
		return l.Say([]byte("x"), mlstest.Forgery{})
	}
	lie := func(g uint32) []byte {
		return l.Say([]byte("x"), mlstest.Forgery{SenderData: func(sd *wire.SenderData) { sd.Generation = g }})
	}
	for _, g := range []uint32{1025, 1 << 20, 1<<32 - 1} {
		msg := lie(g)
		allocs := testing.AllocsPerRun(1, func() {
			if _, _, err := w.Clients[0].Group.Process(msg); err == nil {
				t.Error("accepted")
			}
		})
		if allocs > 1000 {
			t.Errorf("generation %d: %v allocations", g, allocs)
		}
		refuses(t, w.Clients[0], msg, wire.RuleGeneration, mls.ClassTooFar)
	}
	l = w.Clients[1].Lawless()
	reads(t, w.Clients[0], jump(1024), "x")
	reads(t, w.Clients[0], jump(1024), "x")
	refuses(t, w.Clients[0], jump(1025), wire.RuleGeneration, mls.ClassTooFar)
	// What is refused for its distance would be wrong anyway.
	refuses(t, w.Clients[0], lie(2060), wire.RuleDecrypt, mls.ClassInvalid)
}

// Number 51: both tags are checked, over the right context.
func TestTags(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 3)
		l := w.Clients[0].Lawless()
		all := w.Clients
		w.Clients = all[1:]
		none := func([]byte) []byte { return nil }
		short := func(b []byte) []byte { return b[:len(b)-1] }
		long := func(b []byte) []byte { return append(b, 0) }
		for _, f := range []func([]byte) []byte{flip, none, short, long} {
			w.Refused(l.Commit(mlstest.Forgery{Tag: f}), wire.RuleConfirmationTag, false)
			w.Refused(l.Commit(mlstest.Forgery{Membership: f}), wire.RuleMembershipTag, false)
			w.Refused(l.Propose(mls.RemoveProposal(1), mlstest.Forgery{Membership: f}), wire.RuleMembershipTag, false)
		}
		// The tag of the old epoch, and a tag over the old transcript.
		w.Refused(l.Commit(mlstest.Forgery{Tag: func([]byte) []byte { return w.Server.ConfirmationTag() }}), wire.RuleConfirmationTag, false)
		w.Refused(l.Commit(mlstest.Forgery{NewContext: func(c *wire.GroupContext) {
			c.ConfirmedTranscriptHash = l.Context.ConfirmedTranscriptHash
		}}), wire.RuleConfirmationTag, false)
		// Another member's framing with this one's tag key is what a member can
		// do; without the key it is not.
		l.Secrets.Membership = suite.RandomSecret(l.S.HashSize())
		w.Refused(l.Commit(mlstest.Forgery{}), wire.RuleMembershipTag, false)
		w.Clients = all
		w.Commit(w.Clients[0], member.CommitOptions{})
	})
}

// Number 58.
func TestPrivateMessageRules(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 3)
		l := w.Clients[0].Lawless()
		all := w.Clients
		w.Clients = all[1:]
		pad := func(last byte) func([]byte) []byte {
			return func(b []byte) []byte { return append(b, append(make([]byte, 40), last)...) }
		}
		x := []byte("x")
		w.Refused(l.Say(x, mlstest.Forgery{Plaintext: pad(1)}), wire.RulePadding, false)
		w.Refused(l.Commit(mlstest.Forgery{Private: true, Plaintext: pad(0x80)}), wire.RulePadding, false)
		w.Refused(l.Say(x, mlstest.Forgery{Plaintext: func(b []byte) []byte { return b[:1] }}), wire.RuleMalformed, false)
		for _, leaf := range []wire.LeafIndex{3, 4, 1 << 31, 1<<32 - 1} {
			msg := l.Say(x, mlstest.Forgery{SenderData: func(sd *wire.SenderData) { sd.Leaf = leaf }})
			w.Refused(msg, wire.RuleSenderData, false)
		}
		// In another member's name: its keys do not fit.
		msg := l.Say(x, mlstest.Forgery{SenderData: func(sd *wire.SenderData) { sd.Leaf = 2 }})
		refuses(t, w.Clients[0], msg, wire.RuleDecrypt, mls.ClassInvalid)
		// An insider has them, but not the signature key.
		own := l.Own
		l.Own = all[2].Group.OwnLeaf()
		refuses(t, w.Clients[0], l.Say(x, mlstest.Forgery{}), wire.RuleSignature, mls.ClassInvalid)
		l.Own = own
		// Every field of the header is authenticated.
		msg = l.Say(x, mlstest.Forgery{AAD: []byte("aad")})
		for name, f := range map[string]struct {
			edit func(m *wire.PrivateMessage)
			rule mls.Rule
		}{
			"content type": {func(m *wire.PrivateMessage) { m.ContentType = wire.ContentProposal }, wire.RuleSenderData},
			"aad":          {func(m *wire.PrivateMessage) { m.AAD = []byte("aae") }, wire.RuleDecrypt},
			"no aad":       {func(m *wire.PrivateMessage) { m.AAD = nil }, wire.RuleDecrypt},
			"epoch":        {func(m *wire.PrivateMessage) { m.Epoch++ }, wire.RuleEpoch},
			"group":        {func(m *wire.PrivateMessage) { m.GroupID = flip(m.GroupID) }, wire.RuleGroupID},
			"sender data":  {func(m *wire.PrivateMessage) { m.EncryptedSenderData = flip(m.EncryptedSenderData) }, wire.RuleSenderData},
			"ciphertext":   {func(m *wire.PrivateMessage) { m.Ciphertext[0] ^= 1 }, wire.RuleSenderData},
			"tail":         {func(m *wire.PrivateMessage) { m.Ciphertext[len(m.Ciphertext)-1] ^= 1 }, ""},
			"empty":        {func(m *wire.PrivateMessage) { m.Ciphertext = nil }, wire.RuleSenderData},
		} {
			m, err := wire.ParseMessage(msg, nil)
			if err != nil {
				t.Fatal(err)
			}
			f.edit(m.Private)
			if f.rule == "" {
				// Beyond the sample that the sender data key comes from, or not.
				if _, err := w.Clients[0].Process(m.Private.Message()); err == nil {
					t.Errorf("%s: accepted", name)
				}
				continue
			}
			t.Log(name)
			w.Refused(m.Private.Message(), f.rule, false)
		}
		if e, err := w.Clients[0].Process(msg); err != nil || string(e.AAD) != "aad" {
			t.Errorf("the true message after all forgeries: %v", err)
		}
	})
}

// Number 59: a forgery consumes nothing, a message is read once.
func TestForgeryBurnsNoKey(t *testing.T) {
	w := world(t, 3)
	reader, sender := w.Clients[0], w.Clients[1]
	for range 3 {
		msg := send(t, sender, "true")
		for i := range msg {
			forged := bytes.Clone(msg)
			forged[i] ^= 0x41
			if _, err := reader.Process(forged); err == nil {
				t.Fatalf("byte %d changed: accepted", i)
			}
			if _, err := reader.Process(msg[:i]); err == nil {
				t.Fatalf("cut to %d bytes: accepted", i)
			}
		}
		if _, err := reader.Process(append(bytes.Clone(msg), 0)); err == nil {
			t.Fatal("with a byte appended: accepted")
		}
		reads(t, reader, msg, "true")
	}
	// An insider knows the key of another's message, but cannot sign it: what
	// decrypts and is not authentic burns no key either.
	insider := w.Clients[2].Lawless()
	insider.Own = sender.Group.OwnLeaf()
	for generation := range uint32(6) {
		forged := insider.Say([]byte("false"), mlstest.Forgery{})
		rule := wire.RuleSignature
		if generation < 3 {
			rule = wire.RuleGeneration // used
		}
		_, err := reader.Process(forged)
		mlstest.CheckRule(t, "reader", err, rule)
	}
	reads(t, reader, send(t, sender, "true"), "true")
}

func TestReplay(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 2)
		reader, sender := w.Clients[0], w.Clients[1]
		var msgs [][]byte
		for range 40 {
			msgs = append(msgs, send(t, sender, "x"))
		}
		// Backwards: everything but the first is out of order.
		for _, msg := range slices.Backward(msgs) {
			reads(t, reader, msg, "x")
			refuses(t, reader, msg, wire.RuleGeneration, mls.ClassReplay)
		}
		for _, msg := range msgs {
			refuses(t, reader, msg, wire.RuleGeneration, mls.ClassReplay)
			refuses(t, sender, msg, wire.RuleGeneration, mls.ClassReplay)
		}
		// A proposal and a commit likewise.
		l := sender.Lawless()
		proposal := l.Propose(mls.RemoveProposal(reader.Group.OwnLeaf()), mlstest.Forgery{Private: true})
		if _, err := reader.Process(proposal); err != nil {
			t.Fatal(err)
		}
		refuses(t, reader, proposal, wire.RuleGeneration, mls.ClassReplay)
		public := l.Propose(mls.RemoveProposal(reader.Group.OwnLeaf()), mlstest.Forgery{})
		if _, err := reader.Process(public); err != nil {
			t.Fatal(err)
		}
		refuses(t, reader, public, wire.RuleDuplicateProposal, mls.ClassReplay)
	})
}

// Number 60.
func TestCommitBeforeSend(t *testing.T) {
	w := world(t, 3)
	c := w.Clients[1]
	w.Propose(w.Clients[0], mls.RemoveProposal(w.Clients[2].Group.OwnLeaf()), member.SendOptions{})
	for _, c := range w.Clients {
		if _, err := c.Send([]byte("x"), member.SendOptions{}); !errors.Is(err, member.ErrCommitFirst) {
			t.Errorf("%s sends beside an uncommitted proposal: %v", c.Name, err)
		}
	}
	// A policy may decide that the proposal is void.
	err := c.Step(func(g *member.Group) (*member.Group, error) {
		return g.Without(func(p *mls.Proposal) bool { return p.Type == mls.ProposalRemove })
	})
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, "x")
	w.Commit(w.Clients[0], member.CommitOptions{Except: func(*mls.Proposal) bool { return true }})
	w.Say(w.Clients[0], member.SendOptions{})
}

// What a staged commit covers cannot be forgotten: its reload needs it.
func TestWithoutKeepsCovered(t *testing.T) {
	w := world(t, 3)
	c := w.Clients[0]
	w.ProposeUpdate(w.Clients[1], nil, member.SendOptions{})
	if _, err := c.Stage(member.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	err := c.Step(func(g *member.Group) (*member.Group, error) {
		return g.Without(func(*mls.Proposal) bool { return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Group.Public().Proposals()); n != 1 {
		t.Errorf("%d proposals stored, want the covered one", n)
	}
	staged, _ := c.Group.Pending()
	commit := staged.Commit()
	if _, err := c.Confirm(); err != nil {
		t.Fatal(err)
	}
	for _, other := range w.Clients[1:] {
		if _, err := other.Process(commit); err != nil {
			t.Error(err)
		}
	}
}

// Number 61: the ratchets are separate, and the own generation is part of the
// state before the message is.
func TestOwnGeneration(t *testing.T) {
	w := world(t, 2)
	c := w.Clients[0]
	l := w.Clients[1].Lawless()
	next := map[wire.ContentType]uint32{}
	for i := range 12 {
		var msg []byte
		var err error
		if i%3 == 0 {
			err = c.Step(func(g *member.Group) (n *member.Group, err error) {
				n, msg, err = g.Propose(mls.RemoveProposal(1), member.SendOptions{Private: true})
				return n, err
			})
			if err == nil {
				err = c.Step(func(g *member.Group) (*member.Group, error) {
					return g.Without(func(*mls.Proposal) bool { return true })
				})
			}
		} else {
			msg, err = c.Send([]byte("x"), member.SendOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		m, err := wire.ParseMessage(msg, nil)
		if err != nil {
			t.Fatal(err)
		}
		sd, err := secret.OpenSenderData(l.S, l.Secrets.SenderData, m.Private)
		if err != nil {
			t.Fatal(err)
		}
		if sd.Generation != next[m.Private.ContentType] {
			t.Errorf("message %d: generation %d, want %d", i, sd.Generation, next[m.Private.ContentType])
		}
		next[m.Private.ContentType]++
	}
	if next[wire.ContentApplication] != 8 || next[wire.ContentProposal] != 4 {
		t.Errorf("generations %v", next)
	}
	// One generation of both ratchets is two keys.
	_, handshake, err := l.Messages.Next(uint32(l.Own), secret.Handshake)
	if err != nil {
		t.Fatal(err)
	}
	_, application, err := l.Messages.Next(uint32(l.Own), secret.Application)
	if err != nil {
		t.Fatal(err)
	}
	if handshake.Generation != application.Generation || handshake.Key.Equal(application.Key) || handshake.Nonce.Equal(application.Nonce) {
		t.Error("handshakes and application data are encrypted with one key")
	}
}

func TestPadToBucket(t *testing.T) {
	for n, want := range map[int]int{0: 256, 1: 256, 255: 256, 256: 256, 257: 512, 512: 512, 513: 1024, 100_000: 131_072} {
		if got := n + member.PadToBucket(n); got != want {
			t.Errorf("%d bytes are padded to %d, want %d", n, got, want)
		}
	}
	w := world(t, 2)
	for _, n := range []int{0, 100, 300, 5000} {
		msg, err := w.Clients[0].Send(make([]byte, n), member.SendOptions{Padding: member.PadToBucket})
		if err != nil {
			t.Fatal(err)
		}
		m, err := wire.ParseMessage(msg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(m.Private.Ciphertext) - 16; got%256 != 0 || got/256&(got/256-1) != 0 {
			t.Errorf("%d bytes of data: ciphertext of %d and 16 bytes", n, got)
		}
	}
}
