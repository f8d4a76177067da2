package hub_test

import (
	"slices"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
)

// treeWrite is a delta in the making: zero fields are right.
type treeWrite struct {
	none    bool     // no delta
	lacks   []uint32 // leaves whose link key the writer does not know
	full    bool
	change  func(*treewrap.Delta)
	policy  *pseudonym.Room // set by its users
	refresh []uint32
}

type exporter func(label string, context []byte, n int) ([]byte, error)

func export(t *testing.T, f exporter, label string) primitive.Secret {
	t.Helper()
	b, err := f(label, nil, primitive.SecretSize)
	if err != nil {
		t.Fatal(err)
	}
	s, err := primitive.ParseSecret(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func roomOf(t *testing.T, g *mls.PublicGroup) *pseudonym.Room {
	t.Helper()
	data, _ := g.Extension(mls.ExtensionType(pseudonym.ExtensionRoom))
	r, err := pseudonym.ParseRoom(data)
	if err != nil {
		return policyOf(pseudonym.ID{}) // of a room that the hub must refuse
	}
	return r
}

// leavesOf is what the link key tree is over.
func leavesOf(g *mls.PublicGroup, p *pseudonym.Room, added []mls.LeafIndex) []treewrap.Leaf {
	ls := make([]treewrap.Leaf, g.Width())
	for i, n := range g.Members() {
		if c, err := pseudonym.ParseCredential(uint16(n.Credential.Type), n.Credential.Body); err == nil {
			ls[i] = treewrap.Leaf{Present: true, Hash: c.Hash(), Rule: p.KeyRule(p.RoleOf(c.User)), Added: slices.Contains(added, i)}
		}
	}
	return ls
}

// write makes a delta for the epoch of g.
func (w *world) write(v *treewrap.View, o treeWrite, g *mls.PublicGroup, f exporter, added []mls.LeafIndex) (*treewrap.Delta, *treewrap.View) {
	w.t.Helper()
	leaves := leavesOf(g, o.policy, added)
	known := make(map[uint32]primitive.Secret)
	for i, l := range leaves {
		if ilk, ok := w.ilks[l.Hash]; ok && !slices.Contains(o.lacks, uint32(i)) {
			known[uint32(i)] = ilk
		}
	}
	for i := range leaves { // a writer that breaks the rule itself is the test's own doing
		leaves[i].Added = false
	}
	d, next, err := v.Write(treewrap.Write{
		Epoch: g.Epoch(), R: export(w.t, f, treewrap.LabelTreeWrap), Leaves: leaves, Links: o.policy.Links, Known: known, Full: o.full, Refresh: o.refresh,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return d, next
}

func deltaBytes(t *testing.T, d *treewrap.Delta) []byte {
	t.Helper()
	b, err := d.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func deltaExtension(t *testing.T, d *treewrap.Delta, change func(*treewrap.Delta)) mls.Extension {
	t.Helper()
	if change != nil {
		change(d)
	}
	return mls.Extension{Type: mls.ExtensionType(pseudonym.ExtensionWrapDelta), Data: deltaBytes(t, d)}
}

// follow takes a commit of somebody else, with what came with it.
func (p *party) follow(s *sent) {
	p.w.t.Helper()
	p.process(s.req.GetCommit())
	if p.g.Status() != member.Active {
		return
	}
	if s.req.GetNextEarKey() != nil {
		p.ear = export(p.w.t, p.g.Export, "mmr ear")
	}
	if s.delta != nil {
		p.apply(s.delta)
	}
}

// apply takes a delta of the current epoch.
func (p *party) apply(d *treewrap.Delta) {
	p.w.t.Helper()
	policy := roomOf(p.w.t, p.g.Public())
	v, err := p.view.Apply(export(p.w.t, p.g.Export, treewrap.LabelTreeWrap), leavesOf(p.g.Public(), policy, nil), policy.Links, d)
	if err != nil {
		p.w.t.Fatal(err)
	}
	p.view = v
}

type treeView = treewrap.View

// readView opens a state that the hub served, by a member of its epoch or, if
// it is older, with what the test keeps.
func readView(t *testing.T, groupID, state []byte, g *member.Group) *treeView {
	t.Helper()
	s, err := treewrap.ParseState(state)
	if err != nil {
		t.Fatal(err)
	}
	v, err := treewrap.Read(groupID, s, export(t, g.Export, treewrap.LabelTreeWrap))
	if err != nil {
		t.Fatal(err)
	}
	return v
}
