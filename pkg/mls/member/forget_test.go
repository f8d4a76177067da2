package member_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// Number 18: whoever steals today's state reads none of the epoch's messages
// that were read or sent before.
func TestStolenStateReadsNothingOld(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 3)
		victim := w.Clients[0]
		var read, sent [][]byte
		for range 3 {
			for _, c := range w.Clients[1:] {
				msg := send(t, c, "secret text")
				reads(t, victim, msg, "secret text")
				read = append(read, msg)
			}
			sent = append(sent, send(t, victim, "secret text"))
		}
		held := send(t, w.Clients[1], "skipped")
		newer := send(t, w.Clients[1], "newer")
		reads(t, victim, newer, "newer")
		public, private := mlstest.State(t, victim.Group)
		thief, err := victim.Load(public, private)
		if err != nil {
			t.Fatal(err)
		}
		for _, msg := range append(append(read, sent...), newer) {
			_, _, err := thief.Process(msg)
			mlstest.CheckRule(t, "thief", err, wire.RuleGeneration)
		}
		// Nor does any secret in the state give a used key when derived from in
		// every way the engine derives.
		l := victim.Lawless()
		var left []suite.Secret
		l.Messages.Secrets(func(s suite.Secret) { left = append(left, s) })
		tries := 0
		for _, msg := range append(read, sent...) {
			m, err := wire.ParseMessage(msg, nil)
			if err != nil {
				t.Fatal(err)
			}
			sd, err := secret.OpenSenderData(l.S, l.Secrets.SenderData, m.Private)
			if err != nil {
				t.Fatal(err)
			}
			for _, root := range left {
				if root.Len() != l.S.HashSize() {
					continue
				}
				for _, width := range []uint32{1, 2, 4} {
					tree := secret.NewTree(l.S, root.Clone(), width, secret.Limits{Jump: 100, Skipped: 100, Total: 100})
					for leaf := range width {
						_, key, err := tree.Take(leaf, secret.Application, sd.Generation)
						if err != nil {
							t.Fatal(err)
						}
						tries++
						if _, err := secret.Open(l.S, sd, key, m.Private); err == nil {
							t.Fatal("an old message was read with a secret that was left")
						}
					}
				}
			}
		}
		if tries == 0 {
			t.Error("nothing was tried")
		}
		reads(t, victim, held, "skipped")
		// The next epoch's state cannot read back either, beyond the window.
		for range 4 {
			w.Commit(w.Clients[1], member.CommitOptions{})
		}
		if thief, err = victim.Load(mlstest.State(t, victim.Group)); err != nil {
			t.Fatal(err)
		}
		_, _, err = thief.Process(held)
		mlstest.CheckRule(t, "thief", err, wire.RuleEpoch)
	})
}

// Number 18, in memory: retiring the old state clears what only it held.
func TestRetireClearsUsedSecrets(t *testing.T) {
	w := world(t, 3)
	w.NoReload = true
	c := w.Clients[0]
	old := c.Group
	before := c.Lawless()
	msg := send(t, w.Clients[1], "x")
	next, _, err := old.Process(msg)
	if err != nil {
		t.Fatal(err)
	}
	c.Group = next
	old.Retire(next)
	old.Retire(next) // harmless
	if _, _, err := old.Process(msg); !errors.Is(err, member.ErrWiped) {
		t.Errorf("a retired state: %v", err)
	}
	if _, err := old.AppendPrivate(nil); !errors.Is(err, member.ErrWiped) {
		t.Errorf("saving a retired state: %v", err)
	}
	w.Say(w.Clients[2], member.SendOptions{})
	for range 5 {
		w.Commit(c, member.CommitOptions{})
	}
	_, private := mlstest.State(t, c.Group)
	for _, s := range before.Secrets.Secrets() {
		// The resumption secret is kept on purpose.
		if s.IsSet() && !s.Equal(before.Secrets.Resumption) && bytes.Contains(private, s.Bytes()) {
			t.Error("a secret of an epoch long past in the state")
		}
	}
}

// Numbers 12 and 18, in memory: after every kind of step, what the old state
// held and the next one does not is cleared.
func TestRetireWipesMemory(t *testing.T) {
	w := world(t, 3)
	w.NoReload = true
	a, b, c := w.Clients[0], w.Clients[1], w.Clients[2]
	step := func(name string, who *mlstest.Client, gone int, f func(g *member.Group) (*member.Group, error)) {
		t.Helper()
		old := who.Group
		var before []suite.Secret
		old.EachSecret(func(s suite.Secret) {
			if s.IsSet() {
				before = append(before, s)
			}
		})
		next, err := f(old)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		kept := map[suite.Secret]bool{}
		next.EachSecret(func(s suite.Secret) { kept[s] = true })
		old.Retire(next)
		wiped := 0
		for _, s := range before {
			if kept[s] == !s.IsSet() {
				t.Errorf("%s: a secret is kept %v and cleared %v", name, kept[s], !s.IsSet())
			}
			if !s.IsSet() {
				wiped++
			}
		}
		if wiped < gone {
			t.Errorf("%s: %d of %d secrets cleared, want %d at least", name, wiped, len(before), gone)
		}
		who.Group = next
	}
	process := func(msg []byte) func(g *member.Group) (*member.Group, error) {
		return func(g *member.Group) (*member.Group, error) {
			next, _, err := g.Process(msg)
			return next, err
		}
	}
	confirm := func(g *member.Group) (*member.Group, error) {
		next, _, err := g.Confirm()
		return next, err
	}
	msg := send(t, a, "x")
	step("reading", b, 1, process(msg))
	step("sending", a, 1, func(g *member.Group) (*member.Group, error) {
		next, _, err := g.Send([]byte("x"), member.SendOptions{})
		return next, err
	})
	stage := func(who *mlstest.Client, ps ...*mls.ProposalBody) (commit []byte) {
		step("staging", who, 0, func(g *member.Group) (*member.Group, error) {
			next, staged, err := g.Stage(member.CommitOptions{ByValue: ps})
			if err == nil {
				commit = staged.Commit()
			}
			return next, err
		})
		return commit
	}
	stage(b)
	step("discarding", b, 10, func(g *member.Group) (*member.Group, error) { return g.Discard() })
	stage(c)
	commit := stage(a)
	step("confirming", a, 8, confirm)
	step("processing a commit", b, 8, process(commit))
	step("losing a race", c, 18, process(commit))
	step("reading the new epoch", c, 1, process(send(t, a, "x")))
	commit = stage(a, mls.RemoveProposal(c.Group.OwnLeaf()))
	step("being removed", c, 15, process(commit))
	step("removing", a, 8, confirm)
}

// Number 19.
func TestStateDoesNotGrow(t *testing.T) {
	w := world(t, 4)
	w.NoReload = true
	size := func() int {
		public, private := mlstest.State(t, w.Clients[0].Group)
		return len(public) + len(private)
	}
	round := func() {
		for _, c := range w.Clients {
			w.Say(c, member.SendOptions{})
			w.Commit(c, member.CommitOptions{})
		}
	}
	for range 5 {
		round()
	}
	before := size()
	for range 10 {
		round()
	}
	if after := size(); after > before+200 {
		t.Errorf("state grew from %d to %d bytes in 40 commits", before, after)
	}
	if _, ok := w.Clients[0].Group.Resumption(w.Server.Epoch() - 8); !ok {
		t.Error("no resumption secret of 8 epochs ago")
	}
	if _, ok := w.Clients[0].Group.Resumption(w.Server.Epoch() - 9); ok {
		t.Error("resumption secret of 9 epochs ago")
	}
}
