package member_test

import (
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// What a stored list excludes is sorted out by the committer: Removes first,
// then the newest.
func TestConflictingProposals(t *testing.T) {
	w := world(t, 5)
	victim := w.Clients[4].Group.OwnLeaf()
	w.ProposeUpdate(w.Clients[4], nil, member.SendOptions{})
	w.ProposeUpdate(w.Clients[3], nil, member.SendOptions{})
	w.ProposeUpdate(w.Clients[3], nil, member.SendOptions{})
	w.Propose(w.Clients[1], mls.RemoveProposal(victim), member.SendOptions{})
	w.Propose(w.Clients[2], mls.RemoveProposal(victim), member.SendOptions{})
	w.Propose(w.Clients[2], mls.RemoveProposal(w.Clients[0].Group.OwnLeaf()), member.SendOptions{})
	e := w.Commit(w.Clients[0], member.CommitOptions{}, w.NewClient())
	v := e.Commit
	if len(v.Removed) != 1 || v.Removed[0] != victim || len(v.Updated) != 1 || len(v.Added) != 1 || len(v.Unused) != 4 {
		t.Errorf("%d removed, %d updated, %d added, %d unused", len(v.Removed), len(v.Updated), len(v.Added), len(v.Unused))
	}
	for _, c := range w.Clients {
		w.Commit(c, member.CommitOptions{})
	}
}

// Proposals that are valid alone and fit no commit, or not together, must keep
// nobody from committing, nor make it slow.
func TestPoisonedProposals(t *testing.T) {
	w := customWorld(t, 1, 20)
	w.Options.Limits.StoredPerLeaf = 100
	w.NoReload = true
	good := custom(w.NewClient())
	w.Propose(w.Clients[1], mls.AddProposal(good.KeyPackage()), member.SendOptions{})
	// Without support for the group's extension.
	plain := w.NewClient()
	for i := range 12 {
		w.Propose(w.Clients[i], mls.AddProposal(plain.KeyPackage()), member.SendOptions{})
	}
	// Support that a member lacks is asked for.
	greedy := mls.RequiredCapabilities{Extensions: []mls.ExtensionType{0xfff0}}.Extension()
	w.Propose(w.Clients[2], mls.ExtensionsProposal([]mls.Extension{greedy}), member.SendOptions{})
	// The client of a good Add again, and one that is a member.
	twin := good.KeyPackage()
	w.Propose(w.Clients[3], mls.AddProposal(twin), member.SendOptions{})
	w.Propose(w.Clients[4], mls.AddProposal(w.Clients[5].KeyPackage()), member.SendOptions{})
	// All removes of the committer, who cannot commit them.
	for i := range 10 {
		w.Propose(w.Clients[10+i], mls.RemoveProposal(w.Clients[0].Group.OwnLeaf()), member.SendOptions{})
	}
	w.ProposeUpdate(w.Clients[7], nil, member.SendOptions{})
	start := time.Now()
	staged, err := w.Clients[0].Stage(member.CommitOptions{})
	if err != nil {
		t.Fatalf("stored proposals keep a member from committing: %v", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("choosing took %v", d)
	}
	v := staged.Event().Commit
	if len(v.Added) != 1 || len(v.Updated) != 1 || len(v.Removed) != 0 {
		t.Errorf("%d added, %d updated, %d removed", len(v.Added), len(v.Updated), len(v.Removed))
	}
	if len(v.Added) == 1 && staged.Public().Leaf(v.Added[0]).Credential.Equal(plain.ID.Credential) {
		t.Error("the unfit client was added")
	}
	commit := staged.Commit()
	for _, c := range w.Clients[1:] {
		if _, err := c.Process(commit); err != nil {
			t.Fatal(err)
		}
	}
}

// What is asked for by value is not dropped silently.
func TestByValueIsNotDropped(t *testing.T) {
	w := world(t, 3)
	w.ProposeUpdate(w.Clients[1], nil, member.SendOptions{})
	for name, c := range map[string]struct {
		p    *mls.ProposalBody
		rule mls.Rule
	}{
		"blank leaf": {mls.RemoveProposal(3), wire.RuleRemoveBlank},
		"self":       {mls.RemoveProposal(0), wire.RuleRemoveCommitter},
		"extension":  {mls.ExtensionsProposal([]mls.Extension{{Type: 0xf0a4}}), wire.RuleExtensionsSupport},
		"member":     {mls.AddProposal(w.Clients[2].KeyPackage()), wire.RuleSameClient},
		"custom":     {mls.CustomProposal(0xf000, nil), wire.RuleUnsupportedProposal},
	} {
		_, err := w.Clients[0].Stage(member.CommitOptions{ByValue: []*mls.ProposalBody{c.p}})
		mlstest.CheckRule(t, name, err, c.rule)
	}
	old := w.NewClient().KeyPackage()
	o := member.CommitOptions{ByValue: []*mls.ProposalBody{mls.AddProposal(old)}, Now: mlstest.Now.Add(60 * 24 * time.Hour)}
	_, err := w.Clients[0].Stage(o)
	mlstest.CheckRule(t, "expired", err, wire.RuleLifetime)
	// By value beats by reference.
	e := w.Commit(w.Clients[0], member.CommitOptions{ByValue: []*mls.ProposalBody{mls.RemoveProposal(1)}})
	if len(e.Commit.Removed) != 1 || len(e.Commit.Updated) != 0 {
		t.Error("a stored Update beside the Remove of its author")
	}
}

// A state that was saved under wider limits can be read under narrower ones,
// which hold from then on.
func TestNarrowerLimits(t *testing.T) {
	w := world(t, 2)
	c, sender := w.Clients[0], w.Clients[1]
	for range 5 {
		w.Commit(sender, member.CommitOptions{})
		var msgs [][]byte
		for range 20 {
			msgs = append(msgs, send(t, sender, "x"))
		}
		reads(t, c, msgs[19], "x")
	}
	public, private := mlstest.State(t, c.Group)
	w.Options.Limits.PastEpochs, w.Options.Limits.ResumptionSecrets = 1, 2
	w.Options.Limits.SkippedPerSender, w.Options.Limits.SkippedPerEpoch = 4, 5
	g, err := c.Load(public, private)
	if err != nil {
		t.Fatal(err)
	}
	c.Group = g
	reads(t, c, send(t, sender, "y"), "y")
	w.Commit(sender, member.CommitOptions{})
	_, after := mlstest.State(t, c.Group)
	if len(after) >= len(private)*3/4 {
		t.Errorf("state of %d bytes, was %d under wider limits", len(after), len(private))
	}
}
