package member_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// world returns a world of suite 1.
func world(t *testing.T, n int) *mlstest.World {
	t.Helper()
	return mlstest.NewWorld(t, 1, n)
}

// Number 1: the epoch_secret of epoch 0 is random, whatever else is equal.
func TestEpochZeroSecretIsRandom(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 1)
		id := w.Clients[0].ID
		seen := map[string]bool{}
		for range 4 {
			g, err := member.Create(id, []byte("one group id"), member.CreateOptions{Options: w.Options, Lifetime: mlstest.Lifetime})
			if err != nil {
				t.Fatal(err)
			}
			export, err := g.Export("x", nil, 32)
			if err != nil {
				t.Fatal(err)
			}
			seen[string(export)] = true
			seen[string(g.EpochAuthenticator())] = true
		}
		if len(seen) != 8 {
			t.Errorf("%d different values, want 8", len(seen))
		}
	})
}

// An observer who has every public byte of epochs 0 and 1 and guesses zeros, or
// public hashes, where secrets belong, gets no secret of either epoch.
func TestPublicObserverLearnsNothing(t *testing.T) {
	suites(t, func(t *testing.T, id mls.CipherSuite) {
		w := mlstest.NewWorld(t, id, 1)
		s := suite.Get(id)
		contexts := []*mls.GroupContext{w.Server.Context()}
		tags := [][]byte{w.Server.ConfirmationTag()}
		groups := []*member.Group{w.Clients[0].Group}
		w.NoReload = true // keep the state of epoch 0
		old := *groups[0]
		w.Commit(w.Clients[0], member.CommitOptions{}, w.NewClient())
		contexts, tags = append(contexts, w.Server.Context()), append(tags, w.Server.ConfirmationTag())
		_ = old
		guesses := []suite.Secret{s.ZeroSecret(), suite.NewSecret(nil), suite.NewSecret(tags[0]), suite.NewSecret(tags[1])}
		for _, c := range contexts {
			guesses = append(guesses, suite.NewSecret(c.TreeHash), suite.NewSecret(c.GroupID), suite.NewSecret(s.Hash(c.Raw())))
		}
		for epoch, c := range contexts {
			try := func(e *secret.Epoch) {
				if s.VerifyMAC(e.Confirmation, c.ConfirmedTranscriptHash, tags[epoch]) {
					t.Fatalf("the confirmation key of epoch %d was guessed", epoch)
				}
			}
			for _, init := range guesses {
				for _, commit := range guesses {
					joiner := secret.Joiner(s, init, commit, c.Raw())
					for _, psk := range guesses {
						try(secret.NewEpoch(s, secret.Member(s, joiner, psk), c.Raw()))
					}
				}
				try(secret.NewEpoch(s, init, c.Raw()))
			}
		}
	})
}

// Number 2: a commit that fails at the very end leaves nothing behind, and the
// honest commit of the same epoch still fits.
func TestRefusedCommitLeavesNoTrace(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 4)
		bad := w.Clients[0].Lawless()
		w.Clients = w.Clients[1:]
		remove := mlstest.ByValue(mls.RemoveProposal(w.Clients[0].Group.OwnLeaf()))
		victims := w.Clients[1:]
		all := w.Clients
		for name, o := range map[string]mlstest.Forgery{
			"tag":    {Tag: flip},
			"init":   {Init: func(s suite.Secret) suite.Secret { return suite.RandomSecret(s.Len()) }},
			"psk":    {PSK: func(s suite.Secret) suite.Secret { return suite.RandomSecret(s.Len()) }},
			"empty":  {Tag: func([]byte) []byte { return nil }},
			"remove": {List: []wire.ProposalOrRef{remove}, Tag: flip},
		} {
			t.Log(name)
			w.Clients = all
			if name == "remove" {
				w.Clients = victims
			}
			w.Refused(bad.Commit(o), wire.RuleConfirmationTag, false)
		}
		w.Clients = append(slices.Clone(all), bad.C)
		w.Commit(w.Clients[0], member.CommitOptions{})
		w.Commit(bad.C, member.CommitOptions{})
		w.Say(w.Clients[1], member.SendOptions{})
	})
}

// Number 4: losing a race leaves every private key in place.
func TestLostRaceKeepsPathKeys(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		n := 5
		if s != 1 {
			n = 3
		}
		w := mlstest.NewWorld(t, s, n)
		for _, c := range w.Clients {
			w.Commit(c, member.CommitOptions{})
		}
		for i, loser := range w.Clients {
			o := member.CommitOptions{Leaf: &member.LeafOptions{Signer: loser.NewSigner()}}
			if _, err := loser.Stage(o); err != nil {
				t.Fatal(err)
			}
			winner := w.Clients[(i+1)%len(w.Clients)]
			w.Commit(winner, member.CommitOptions{})
			if _, ok := loser.Group.Pending(); ok {
				t.Fatal("the lost commit is still staged")
			}
			if _, err := loser.Confirm(); !errors.Is(err, member.ErrNoPending) {
				t.Fatalf("confirming a lost commit: %v", err)
			}
			// All others commit: the loser needs every key it had.
			for _, c := range w.Clients {
				w.Commit(c, member.CommitOptions{})
			}
			w.Say(loser, member.SendOptions{})
		}
	})
}

func TestDiscardIsNoOp(t *testing.T) {
	w := world(t, 4)
	c := w.Clients[1]
	w.ProposeUpdate(w.Clients[0], nil, member.SendOptions{})
	public, private := mlstest.State(t, c.Group)
	if _, err := c.Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{mls.AddProposal(w.NewClient().KeyPackage())}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stage(member.CommitOptions{}); !errors.Is(err, member.ErrPending) {
		t.Fatalf("a second Stage: %v", err)
	}
	err := c.Step(func(g *member.Group) (*member.Group, error) { return g.Discard() })
	if err != nil {
		t.Fatal(err)
	}
	public2, private2 := mlstest.State(t, c.Group)
	if !bytes.Equal(public, public2) {
		t.Error("discarding changed the public state")
	}
	// The counter alone grows.
	before, err := c.Load(public, private)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(private); n != len(private2) || c.Group.Counter() != before.Counter()+2 {
		t.Errorf("private state: %d bytes and counter %d, was %d and %d", len(private2), c.Group.Counter(), n, before.Counter())
	}
	for i := range private {
		if private[i] != private2[i] && (i < 8 || i > 17) {
			t.Fatalf("discarding changed byte %d of the private state", i)
		}
	}
	if err := c.Step(func(g *member.Group) (*member.Group, error) { return g.Discard() }); !errors.Is(err, member.ErrNoPending) {
		t.Errorf("a second Discard: %v", err)
	}
	w.Commit(w.Clients[2], member.CommitOptions{})
	w.Commit(c, member.CommitOptions{})
}

// While a commit is staged, the epoch goes on.
func TestMessagesFlowWhileStaged(t *testing.T) {
	w := world(t, 3)
	c := w.Clients[0]
	staged, err := c.Stage(member.CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	commit := staged.Commit()
	w.Say(c, member.SendOptions{})
	w.Say(w.Clients[1], member.SendOptions{})
	late, err := w.Clients[1].Send([]byte("late"), member.SendOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Process(commit); !errors.Is(err, member.ErrOwnCommit) {
		t.Errorf("own commit echoed: %v", err)
	}
	if _, err := c.Confirm(); err != nil {
		t.Fatal(err)
	}
	if e, err := c.Process(late); err != nil || string(e.Data) != "late" {
		t.Errorf("message of the past epoch: %v", err)
	}
	_, err = c.Process(commit)
	mlstest.CheckRule(t, c.Name, err, wire.RuleEpoch)
}

// Number 7: a committer that removes itself would refill its leaf by its path
// and read on.
func TestCommitterRemovesItself(t *testing.T) {
	w := world(t, 3)
	bad := w.Clients[0].Lawless()
	w.Clients = w.Clients[1:]
	o := mlstest.Forgery{List: []wire.ProposalOrRef{mlstest.ByValue(mls.RemoveProposal(bad.Own))}}
	w.Refused(bad.Commit(o), wire.RuleRemoveCommitter, true)
	// By reference too: its own proposal, and somebody else's.
	w.Clients = append(w.Clients, bad.C)
	w.Propose(bad.C, mls.RemoveProposal(bad.Own), member.SendOptions{})
	w.Propose(w.Clients[0], mls.RemoveProposal(bad.Own), member.SendOptions{})
	bad = bad.C.Lawless()
	w.Clients = w.Clients[:2]
	for _, p := range w.Server.Proposals() {
		w.Refused(bad.Commit(mlstest.Forgery{List: []wire.ProposalOrRef{mlstest.ByRef(p)}}), wire.RuleRemoveCommitter, true)
	}
	// An honest engine leaves the removal of itself to others.
	w.Clients = append(w.Clients, bad.C)
	staged, err := bad.C.Stage(member.CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(staged.Event().Commit.Proposals); n != 0 {
		t.Errorf("own commit covers %d proposals that remove the committer", n)
	}
	if _, _, err := bad.C.Group.Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{mls.RemoveProposal(bad.Own)}}); !errors.Is(err, member.ErrPending) {
		t.Errorf("staging twice: %v", err)
	}
	w.Commit(w.Clients[0], member.CommitOptions{})
	if bad.C.Group.Status() != member.Removed {
		t.Error("the removed client is still there")
	}
}

// After every kind of commit the members are exactly the non-blank leaves, and
// whoever was removed reads nothing of the new epoch.
func TestNoGhostMember(t *testing.T) {
	w := world(t, 6)
	gone := w.Clients[3]
	ghost := gone.Lawless()
	o := member.CommitOptions{ByValue: []*mls.ProposalBody{mls.RemoveProposal(gone.Group.OwnLeaf())}}
	old := gone.Group
	w.Commit(w.Clients[0], o)
	count := 0
	for i, leaf := range w.Server.Members() {
		count++
		if bytes.Equal(leaf.SignatureKey, ghost.Tree.Leaf(ghost.Own).SignatureKey) {
			t.Errorf("removed client at leaf %d", i)
		}
	}
	if count != 5 || len(w.Clients) != 5 {
		t.Errorf("%d leaves, %d clients", count, len(w.Clients))
	}
	if _, _, err := old.Process(ghost.Commit(mlstest.Forgery{})); err == nil {
		t.Error("retired state processed a message")
	}
	// What the ghost sends in the old epoch or frames for the new one is nothing.
	w.Refused(ghost.Commit(mlstest.Forgery{}), wire.RuleEpoch, true)
	ghost.Context = w.Server.Context()
	w.Refused(ghost.Commit(mlstest.Forgery{}), wire.RuleMembershipTag, false)
	_, _, err := w.Server.Process(ghost.Commit(mlstest.Forgery{}), mlstest.Now)
	mlstest.CheckRule(t, "server", err, wire.RuleSender)
}

// Number 10: a staged commit survives a crash between sending and acceptance.
func TestReloadPendingCommit(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		for _, private := range []bool{false, true} {
			w := mlstest.NewWorld(t, s, 3)
			c, added := w.Clients[1], w.NewClient()
			late, err := w.Clients[0].Send([]byte("late"), member.SendOptions{})
			if err != nil {
				t.Fatal(err)
			}
			w.ProposeUpdate(w.Clients[2], nil, member.SendOptions{})
			o := member.CommitOptions{Private: private, ByValue: []*mls.ProposalBody{mls.AddProposal(added.KeyPackage())}}
			o.Leaf = &member.LeafOptions{Signer: c.NewSigner()}
			staged, err := c.Stage(o)
			if err != nil {
				t.Fatal(err)
			}
			commit, welcome := staged.Commit(), staged.Welcome()
			c.Group, err = c.Load(mlstest.State(t, c.Group))
			if err != nil {
				t.Fatal(err)
			}
			again, ok := c.Group.Pending()
			if !ok || !bytes.Equal(again.Commit(), commit) || !bytes.Equal(again.Welcome(), welcome) {
				t.Fatal("the staged commit changed by a reload")
			}
			if _, err := c.Process(late); err != nil {
				t.Fatalf("message beside a staged commit: %v", err)
			}
			if _, err := c.Process(commit); !errors.Is(err, member.ErrOwnCommit) {
				t.Fatalf("own commit echoed after a reload: %v", err)
			}
			event, err := c.Confirm()
			if err != nil {
				t.Fatal(err)
			}
			if v := event.Commit; len(v.Added) != 1 || len(v.Updated) != 1 || v.Committer != c.Group.OwnLeaf() {
				t.Errorf("event after a reload: %d added, %d updated", len(v.Added), len(v.Updated))
			}
			for _, other := range []*mlstest.Client{w.Clients[0], w.Clients[2]} {
				if _, err := other.Process(commit); err != nil {
					t.Fatal(err)
				}
			}
			w.Join(welcome, false, added)
			w.Say(c, member.SendOptions{})
			w.Say(added, member.SendOptions{})
		}
	})
}

// Number 12: the own removal is an event, ends the group, and wipes the keys.
func TestOwnRemoval(t *testing.T) {
	w := world(t, 3)
	gone, committer := w.Clients[2], w.Clients[0]
	w.NoReload = true
	late, err := committer.Send([]byte("late"), member.SendOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before := gone.Lawless()
	staged, err := committer.Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{mls.RemoveProposal(gone.Group.OwnLeaf())}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Stage(member.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	event, err := gone.Process(staged.Commit())
	if err != nil || event.Kind != mls.KindCommit || len(event.Commit.Removed) != 1 {
		t.Fatalf("own removal: %v", err)
	}
	if gone.Group.Status() != member.Removed || gone.Group.Epoch() != 1 {
		t.Errorf("status %d, epoch %d", gone.Group.Status(), gone.Group.Epoch())
	}
	_, private := mlstest.State(t, gone.Group)
	for _, s := range before.Secrets.Secrets() {
		if s.IsSet() && bytes.Contains(private, s.Bytes()) {
			t.Error("a secret in the state of a removed member")
		}
	}
	if gone.Group, err = gone.Load(mlstest.State(t, gone.Group)); err != nil {
		t.Fatalf("reload after the removal: %v", err)
	}
	for name, f := range map[string]func() error{
		"Process": func() error { _, _, err := gone.Group.Process(late); return err },
		"Send":    func() error { _, _, err := gone.Group.Send(nil, member.SendOptions{}); return err },
		"Propose": func() error { _, _, err := gone.Group.ProposeUpdate(nil, member.SendOptions{}); return err },
		"Stage":   func() error { _, _, err := gone.Group.Stage(member.CommitOptions{}); return err },
		"Export":  func() error { _, err := gone.Group.Export("x", nil, 32); return err },
		"Info":    func() error { _, err := gone.Group.GroupInfo(member.GroupInfoOptions{}); return err },
		"Sign":    func() error { _, err := gone.Group.Sign("x", nil); return err },
		"Key":     func() error { _, err := gone.Group.ExternalPub(); return err },
		"Without": func() error { _, err := gone.Group.Without(func(*mls.Proposal) bool { return true }); return err },
	} {
		if err := f(); !errors.Is(err, member.ErrRemoved) {
			t.Errorf("%s after the removal: %v", name, err)
		}
	}
	if gone.Group.EpochAuthenticator() != nil {
		t.Error("epoch authenticator after the removal")
	}
}

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// Number 3: whatever is printed, no secret is in it.
func TestNoSecretInText(t *testing.T) {
	w := world(t, 3)
	c := w.Clients[0]
	staged, err := c.Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{mls.AddProposal(w.NewClient().KeyPackage())}})
	if err != nil {
		t.Fatal(err)
	}
	l := c.Lawless()
	kp, err := member.NewKeyPackage(c.ID, member.KeyPackageOptions{Lifetime: mlstest.Lifetime})
	if err != nil {
		t.Fatal(err)
	}
	signer := c.ID.Signer.(*member.SigningKey)
	var text []byte
	for _, v := range []any{c.Group, *staged, staged, signer, kp, *kp, l.Secrets, l.Messages, []any{staged, kp}} {
		text = fmt.Appendf(text, "%v %+v %#v %s %x ", v, v, v, v, v)
	}
	other := w.Clients[1].Lawless()
	for _, o := range []mlstest.Forgery{
		{Tag: flip}, {Membership: flip}, {Signature: flip}, {Init: func(s suite.Secret) suite.Secret { return s.Clone() }, NoPath: true},
	} {
		_, _, err := w.Clients[2].Group.Process(other.Commit(o))
		if err == nil {
			t.Fatal("forgery accepted")
		}
		text = fmt.Appendf(text, "%v %+v %#v ", err, err, err)
	}
	secrets := append(l.Secrets.Secrets(), other.Secrets.Secrets()...)
	l.Messages.Secrets(func(s suite.Secret) { secrets = append(secrets, s) })
	secrets = append(secrets, suite.NewSecret(signer.Private()))
	private, err := kp.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, suite.NewSecret(private[len(private)-32:]))
	for _, s := range secrets {
		if !s.IsSet() {
			continue
		}
		// Eight bytes of it, in any of the usual forms.
		b := s.Bytes()[:8]
		for _, form := range []string{string(b), hex.EncodeToString(b), fmt.Sprintf("%X", b), fmt.Sprintf("%d", b)[1:20], fmt.Sprintf("%#v", b)[8:]} {
			if i := bytes.Index(text, []byte(form)); i >= 0 {
				t.Fatalf("a secret in formatted text: %q in %q", form, text[max(0, i-200):i+40])
			}
		}
	}
}
