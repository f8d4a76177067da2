package member_test

import (
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// costs are the operations of one step of each kind in a group.
type costs struct{ stage, process, server, external, start suite.Counts }

func measure(t *testing.T, n int, filled bool) (c costs) {
	t.Helper()
	w := mlstest.Crowd(t, n, filled)
	a, b := w.Clients[0].Group, w.Clients[1].Group
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var staged *member.Staged
	var err error
	c.stage = suite.Count(func() { _, staged, err = a.Stage(member.CommitOptions{}) })
	check(err)
	commit := staged.Commit()
	c.process = suite.Count(func() { _, _, err = b.Process(commit) })
	check(err)
	c.server = suite.Count(func() { _, _, err = w.Server.Process(commit, mlstest.Now) })
	check(err)
	info, _ := w.Server.GroupInfo()
	tree, joiner := w.Server.TreeBytes(), w.NewClient()
	c.external = suite.Count(func() {
		_, _, err = member.JoinExternal(joiner.ID, info, member.ExternalOptions{Options: w.Options, Tree: tree})
	})
	check(err)
	c.start = suite.Count(func() { _, err = mls.NewPublicGroup(info, tree, &w.Options.Options) })
	check(err)
	return c
}

// TestCostsOfFilledTree: in a tree in which everybody committed, a commit, its
// processing and that of the server cost as much as the tree is high; joining
// costs as much as it is wide. Counted in operations, which a busy machine
// cannot change.
func TestCostsOfFilledTree(t *testing.T) {
	const small, large = 32, 512 // 5 levels and 9
	a, b := measure(t, small, true), measure(t, large, true)
	t.Logf("seal, open, derive, sign, verify, hash\n%4d: %v\n%4d: %v", small, a, large, b)
	levels := int64(9 - 5)
	for name, c := range map[string]struct {
		small, large suite.Counts
		perLevel     suite.Counts // what one more level may cost
	}{
		"stage":          {a.stage, b.stage, suite.Counts{suite.OpSeal: 1, suite.OpDerive: 1, suite.OpHash: 6}},
		"process":        {a.process, b.process, suite.Counts{suite.OpDerive: 1, suite.OpHash: 4}},
		"server process": {a.server, b.server, suite.Counts{suite.OpHash: 4}},
	} {
		for op := range c.small {
			if more := c.large[op] - c.small[op]; more > levels*c.perLevel[op] {
				t.Errorf("%s: operation %d runs %d times more often in a tree %d levels higher", name, op, more, levels)
			}
		}
		if c.large[suite.OpHash] <= c.small[suite.OpHash] {
			t.Errorf("%s: no hash more for a higher tree: counting does not work", name)
		}
	}
	if c := b.server; c[suite.OpVerify] != 2 || c[suite.OpSeal]+c[suite.OpOpen]+c[suite.OpDerive]+c[suite.OpSign] != 0 {
		t.Errorf("a server needs more than the signatures of commit and leaf: %v", c)
	}
	if c := b.process; c[suite.OpVerify] != 2 || c[suite.OpOpen] != 1 || c[suite.OpSeal] != 0 {
		t.Errorf("a member needs more than two signatures and one decryption: %v", c)
	}
	// One signature a leaf, one for the GroupInfo; a joiner checks its own
	// commit like a received one.
	if n := b.start[suite.OpVerify]; n != large+1 {
		t.Errorf("following a group of %d: %d signatures verified", large, n)
	}
	if n := b.external[suite.OpVerify]; n != large+3 {
		t.Errorf("joining a group of %d: %d signatures verified", large, n)
	}
	// A tree hash a node, twice as many for the parent hashes.
	if n := b.start[suite.OpHash]; n > 4*2*large {
		t.Errorf("following a group of %d: %d hashes", large, n)
	}
}

// TestCostsOfBlankTree: the first commit after many Adds encrypts to each leaf,
// and to each once.
func TestCostsOfBlankTree(t *testing.T) {
	const n = 256
	c := measure(t, n, false)
	if s := c.stage[suite.OpSeal]; s > n-1 {
		t.Errorf("a commit in a blank tree of %d encrypts %d times", n, s)
	}
	if s := c.external[suite.OpSeal]; s > n+1 {
		t.Errorf("an external commit to a blank tree of %d encrypts %d times", n, s)
	}
	if c.process[suite.OpOpen] != 1 || c.process[suite.OpVerify] != 2 {
		t.Errorf("a member needs more than two signatures and one decryption: %v", c.process)
	}
	if c.server[suite.OpHash] > 200 || c.server[suite.OpVerify] != 2 {
		t.Errorf("a server does more than two signatures and the hashes of a path: %v", c.server)
	}
}

// TestMessageCostsAreFlat: sending and reading cost the same in every group.
func TestMessageCostsAreFlat(t *testing.T) {
	cost := func(n int) (send, read suite.Counts) {
		w := mlstest.Crowd(t, n, false)
		var msg []byte
		var err error
		send = suite.Count(func() { _, msg, err = w.Clients[0].Group.Send([]byte("x"), member.SendOptions{}) })
		if err != nil {
			t.Fatal(err)
		}
		read = suite.Count(func() { _, _, err = w.Clients[1].Group.Process(msg) })
		if err != nil {
			t.Fatal(err)
		}
		return send, read
	}
	sendSmall, readSmall := cost(2)
	sendLarge, readLarge := cost(300)
	if sendSmall != sendLarge || readSmall != readLarge {
		t.Errorf("sending %v and %v, reading %v and %v", sendSmall, sendLarge, readSmall, readLarge)
	}
	if sendLarge[suite.OpSign] != 1 || readLarge[suite.OpVerify] != 1 || sendLarge[suite.OpSeal]+readLarge[suite.OpOpen] != 0 {
		t.Errorf("sending %v, reading %v", sendLarge, readLarge)
	}
}

// TestStateSizes: the public part is the tree, the GroupInfo and 2%, the
// private part 8 kB, all of it below 350 kB for 1,000 members; and a message
// changes the private part alone.
func TestStateSizes(t *testing.T) {
	for _, filled := range []bool{false, true} {
		if filled && (raceEnabled || testing.Short()) {
			break // a thousand paths
		}
		w := mlstest.Crowd(t, 1000, filled)
		g := w.Clients[0].Group
		public, private := mlstest.State(t, g)
		info, _ := w.Server.GroupInfo()
		tree := w.Server.TreeBytes()
		t.Logf("filled %v: tree %d, public %d, private %d", filled, len(tree), len(public), len(private))
		if n := len(public); n > (len(tree)+len(info))*102/100 {
			t.Errorf("public part of %d bytes for a tree of %d and a GroupInfo of %d", n, len(tree), len(info))
		}
		if len(private) > 8000 {
			t.Errorf("private part of %d bytes", len(private))
		}
		if n := len(public) + len(private); n > 350_000 {
			t.Errorf("state of %d bytes for 1,000 members", n)
		}
		server, err := w.Server.AppendBinary(nil)
		if err != nil || len(server) > 350_000 || len(server) > (len(tree)+len(info))*102/100 {
			t.Errorf("the server's state has %d bytes, err %v", len(server), err)
		}
		next, msg, err := g.Send([]byte("x"), member.SendOptions{})
		if err != nil {
			t.Fatal(err)
		}
		public2, private2 := mlstest.State(t, next)
		if string(public2) != string(public) || string(private2) == string(private) {
			t.Error("sending changed the public part, or not the private one")
		}
		reader, _, err := w.Clients[1].Group.Process(msg)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := mlstest.State(t, w.Clients[1].Group)
		if after, _ := mlstest.State(t, reader); string(after) != string(before) {
			t.Error("reading changed the public part")
		}
		// With keys held back for late messages of one sender.
		late := w.Clients[0].Group
		for range 65 {
			if late, msg, err = late.Send([]byte("x"), member.SendOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if reader, _, err = w.Clients[1].Group.Process(msg); err != nil {
			t.Fatal(err)
		}
		_, private = mlstest.State(t, w.Clients[1].Group)
		if _, more := mlstest.State(t, reader); len(more) > len(private)+64*60 {
			t.Errorf("64 keys held back take %d bytes", len(more)-len(private))
		}
	}
}
