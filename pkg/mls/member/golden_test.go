package member_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

var update = flag.Bool("update", false, "write golden files of saved states for the current format")

// goldenStates are saved states of every kind. Their directory is named after
// the format; states of all formats ever released stay readable.
var goldenStates = []string{"active", "pending", "pending-private", "joining", "removed"}

// anySigner stands for whatever key a saved state asks for.
type anySigner []byte

func (s anySigner) Public() []byte              { return s }
func (s anySigner) Sign([]byte) ([]byte, error) { return make([]byte, 64), nil }

func load(public, private []byte) (*member.Group, error) {
	o := &member.Options{}
	o.Rules = mls.OpenRules{}
	return member.ParseGroup(public, private, func(key []byte) mls.Signer { return anySigner(key) }, o)
}

func golden(tb testing.TB, name string) (public, private []byte) {
	tb.Helper()
	dir := filepath.Join("testdata", "state-v1")
	public, err := os.ReadFile(filepath.Join(dir, name+".public"))
	if err != nil {
		tb.Fatal(err)
	}
	if private, err = os.ReadFile(filepath.Join(dir, name+".private")); err != nil {
		tb.Fatal(err)
	}
	return public, private
}

func TestGoldenStates(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	for _, name := range goldenStates {
		public, private := golden(t, name)
		g, err := load(public, private)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		public2, private2 := mlstest.State(t, g)
		if !bytes.Equal(public, public2) || !bytes.Equal(private, private2) {
			t.Errorf("%s: state is written differently now", name)
		}
		_, pending := g.Pending()
		want := map[string]struct {
			status  member.Status
			pending bool
		}{
			"active": {member.Active, false}, "pending": {member.Active, true}, "pending-private": {member.Active, true},
			"joining": {member.Joining, true}, "removed": {member.Removed, false},
		}[name]
		if g.Status() != want.status || pending != want.pending {
			t.Errorf("%s: status %d, pending %v", name, g.Status(), pending)
		}
	}
}

// writeGolden makes one state of every kind, with past epochs, skipped keys,
// stored proposals, an own Update and resumption secrets in them.
func writeGolden(t *testing.T) {
	w := customWorld(t, 1, 4)
	c := w.Clients[1]
	for _, other := range w.Clients {
		w.Commit(other, member.CommitOptions{})
		w.Say(other, member.SendOptions{})
		send(t, other, "skipped")
		w.Say(other, member.SendOptions{})
	}
	w.ProposeUpdate(c, nil, member.SendOptions{AAD: []byte("aad")})
	w.Propose(w.Clients[0], mls.RemoveProposal(w.Clients[3].Group.OwnLeaf()), member.SendOptions{})
	save := func(name string, g *member.Group) {
		public, private := mlstest.State(t, g)
		dir := filepath.Join("testdata", "state-v1")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for ext, b := range map[string][]byte{".public": public, ".private": private} {
			if err := os.WriteFile(filepath.Join(dir, name+ext), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	save("active", c.Group)
	for name, private := range map[string]bool{"pending": false, "pending-private": true} {
		o := member.CommitOptions{Private: private, ByValue: []*mls.ProposalBody{mls.AddProposal(custom(w.NewClient()).KeyPackage())}}
		next, _, err := c.Group.Stage(o)
		if err != nil {
			t.Fatal(err)
		}
		save(name, next)
	}
	gone := w.Clients[3]
	w.Commit(w.Clients[0], member.CommitOptions{})
	save("removed", gone.Group)
	info, _ := w.Server.GroupInfo()
	g, _, err := member.JoinExternal(custom(w.NewClient()).ID, info, member.ExternalOptions{Options: w.Options, Tree: w.Server.TreeBytes()})
	if err != nil {
		t.Fatal(err)
	}
	save("joining", g)
}

// Both halves of a state must be of one moment.
func TestStateHalvesBelongTogether(t *testing.T) {
	w := world(t, 3)
	c := w.Clients[0]
	public0, private0 := mlstest.State(t, c.Group)
	if _, err := c.Stage(member.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	public1, private1 := mlstest.State(t, c.Group)
	if _, err := c.Confirm(); err != nil {
		t.Fatal(err)
	}
	public2, private2 := mlstest.State(t, c.Group)
	other, otherPrivate := mlstest.State(t, w.Clients[1].Group)
	publics, privates := [][]byte{public0, public1, public2, other}, [][]byte{private0, private1, private2, otherPrivate}
	for i, public := range publics {
		for j, private := range privates {
			same := i == j
			g, err := load(public, private)
			if (err == nil) != same || (g != nil) != same {
				t.Errorf("public %d with private %d: %v", i, j, err)
			}
		}
	}
	if _, err := c.Load(public0, private0); err != nil {
		t.Error(err)
	}
	_, err := member.ParseGroup(public0, private0, member.Signers(), &w.Options)
	if err == nil {
		t.Error("loaded without a signer")
	}
}

// A saved state is parsed strictly: no byte can be changed, cut or added without
// being noticed, or it is one of the secrets.
func TestStateIsStrict(t *testing.T) {
	for _, name := range goldenStates {
		public, private := golden(t, name)
		for _, half := range []struct {
			b    []byte
			load func(b []byte) (*member.Group, error)
		}{
			{public, func(b []byte) (*member.Group, error) { return load(b, private) }},
			{private, func(b []byte) (*member.Group, error) { return load(public, b) }},
		} {
			for i := 0; i < len(half.b); i += 3 {
				if g, err := half.load(half.b[:i]); err == nil || g != nil {
					t.Fatalf("%s cut to %d bytes: accepted", name, i)
				}
			}
			if _, err := half.load(append(bytes.Clone(half.b), 0)); err == nil {
				t.Errorf("%s with a byte appended: accepted", name)
			}
		}
	}
}
