package treewrap_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
)

func copyDelta(d *treewrap.Delta) *treewrap.Delta {
	c := *d
	c.Nodes, c.Gone, c.Unresolved, c.Links = slices.Clone(d.Nodes), slices.Clone(d.Gone), slices.Clone(d.Unresolved), slices.Clone(d.Links)
	return &c
}

// TestHubRefusals changes a good delta in every way that SPEC.md R-95 names.
func TestHubRefusals(t *testing.T) {
	w := newRoom(t, 8)
	l1, _ := link(1, w.gid)
	l2, _ := link(2, w.gid)
	w.links = []pseudonym.RoomLink{l1, l2}
	w.next()
	w.set(2, pseudonym.KeyRequired) // replaced
	w.leaves[5] = treewrap.Leaf{}   // removed
	good := w.write(treewrap.Write{})
	if _, err := w.hub.Commit(w.epoch, w.leaves, w.links, good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(d *treewrap.Delta)
		want   mmrerr.Code
	}{
		"old epoch":          {func(d *treewrap.Delta) { d.Epoch-- }, mmrerr.WrapStale},
		"future epoch":       {func(d *treewrap.Delta) { d.Epoch++ }, mmrerr.WrapStale},
		"base":               {func(d *treewrap.Delta) { d.BaseID[0] ^= 1 }, mmrerr.WrapStale},
		"zero base":          {func(d *treewrap.Delta) { d.BaseID = [32]byte{} }, mmrerr.WrapStale},
		"unresolved clean":   {func(d *treewrap.Delta) { d.Unresolved = []uint32{0} }, mmrerr.WrapStructure},
		"unresolved blank":   {func(d *treewrap.Delta) { d.Unresolved = []uint32{5} }, mmrerr.WrapStructure},
		"unresolved unknown": {func(d *treewrap.Delta) { d.Unresolved = []uint32{99} }, mmrerr.WrapStructure},
		"unresolved written": {func(d *treewrap.Delta) { d.Unresolved = []uint32{2} }, mmrerr.WrapStructure},
		"node's epoch":       {func(d *treewrap.Delta) { d.Nodes[0].Epoch-- }, mmrerr.WrapStructure},
		"node's size":        {func(d *treewrap.Delta) { d.Nodes[0].Ciphertext = d.Nodes[0].Ciphertext[1:] }, mmrerr.WrapStructure},
		"node not live": {func(d *treewrap.Delta) {
			d.Nodes = append(d.Nodes, treewrap.Node{Index: 10, Epoch: d.Epoch, Ciphertext: make([]byte, 48)})
		}, mmrerr.WrapStructure},
		"gone missing":  {func(d *treewrap.Delta) { d.Gone = nil }, mmrerr.WrapStructure},
		"gone too much": {func(d *treewrap.Delta) { d.Gone = append(d.Gone, 14) }, mmrerr.WrapStructure},
		"link missing":  {func(d *treewrap.Delta) { d.Links = d.Links[:1] }, mmrerr.WrapStructure},
		"links swapped": {func(d *treewrap.Delta) { slices.Reverse(d.Links) }, mmrerr.WrapStructure},
		"link too many": {func(d *treewrap.Delta) { d.Links = append(d.Links, d.Links[0]) }, mmrerr.WrapStructure},
		"open upwards": {func(d *treewrap.Delta) {
			d.Nodes = append(d.Nodes, treewrap.Node{Index: 14, Epoch: d.Epoch, Ciphertext: make([]byte, 48)})
		}, mmrerr.WrapStructure},
		"nothing at all": {func(d *treewrap.Delta) { d.Nodes = nil }, mmrerr.WrapStructure},
	} {
		d := copyDelta(good)
		c.change(d)
		s, err := w.hub.Commit(w.epoch, w.leaves, w.links, d)
		is(t, name, err, c.want)
		if s != nil {
			t.Errorf("%s: result with an error", name)
		}
	}
	for i := range good.Nodes {
		d := copyDelta(good)
		d.Nodes = slices.Delete(d.Nodes, i, i+1)
		if s, err := w.hub.Commit(w.epoch, w.leaves, w.links, d); err == nil || s != nil {
			t.Errorf("without node %d: accepted", good.Nodes[i].Index)
		}
	}
	// A writer who refreshes more than it must is welcome.
	more := w.refreshed(3)
	if _, err := w.hub.Commit(w.epoch, w.leaves, w.links, more); err != nil {
		t.Errorf("refreshed leaf: %v", err)
	}
}

// refreshed writes the same change again, with one leaf more.
func (w *room) refreshed(leaf uint32) *treewrap.Delta {
	w.t.Helper()
	v, err := treewrap.Read(w.gid, w.hub, w.firstR)
	if err != nil {
		w.t.Fatal(err)
	}
	d, _, err := v.Write(treewrap.Write{
		Epoch: w.epoch, R: w.r, Leaves: w.leaves, Links: w.links, Known: w.known, Refresh: []uint32{leaf, 5, 77},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func TestUnresolvedLeaves(t *testing.T) {
	w := newRoom(t, 4)
	w.next()
	w.leaves = append(w.leaves, treewrap.Leaf{Present: true, Hash: randomHash(), Rule: pseudonym.KeyRequired})
	d, v := w.stage(treewrap.Write{})
	if d.HasLeaf(4) || d.HasLeaf(0) {
		t.Error("delta writes an unresolved or a clean leaf")
	}
	if !slices.Equal(d.Unresolved, []uint32{4}) {
		t.Errorf("unresolved %v", d.Unresolved)
	}
	s, err := w.hub.Commit(w.epoch, w.leaves, nil, d)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Bound(4); ok || !slices.Equal(s.Touched(w.leaves), []uint32{4}) {
		t.Errorf("touched %v", s.Touched(w.leaves))
	}
	// Added by the same commit, it must have come with a key.
	w.leaves[4].Added = true
	_, err = w.hub.Commit(w.epoch, w.leaves, nil, d)
	is(t, "added and unresolved", err, mmrerr.LinkKeyMissing)
	// The next writer knows the key and refreshes the same epoch.
	w.hub, w.view = s, v
	w.leaves[4].Added = false
	w.known[4] = primitive.NewSecret()
	d = w.write(treewrap.Write{})
	if !d.HasLeaf(4) {
		t.Error("delta does not write the leaf")
	}
	next, full, err := w.hub.Refresh(w.epoch, w.leaves, nil, d)
	if err != nil || full || len(next.Touched(w.leaves)) != 0 {
		t.Errorf("refresh: full %v, %v", full, err)
	}
}

func TestKeyRules(t *testing.T) {
	w := newRoom(t, 3)
	// Leaf 1 is demoted in a room where only admins give keys: its payload goes.
	w.next()
	w.leaves[1].Rule = pseudonym.KeyForbidden
	d := w.write(treewrap.Write{})
	s, err := w.hub.Commit(w.epoch, w.leaves, nil, d)
	if err != nil || !slices.Equal(s.Occupied(), []uint32{0, 2}) {
		t.Errorf("occupied %v, %v", s.Occupied(), err)
	}
	if _, ok := w.view.Payload(1); ok {
		t.Error("payload of a forbidden leaf kept")
	}
	// An optional leaf may come without a key, and get one later.
	w.hub = s
	w.next()
	w.leaves = append(w.leaves, treewrap.Leaf{Present: true, Hash: randomHash(), Rule: pseudonym.KeyOptional, Added: true})
	d = w.write(treewrap.Write{})
	if s, err = w.hub.Commit(w.epoch, w.leaves, nil, d); err != nil || len(d.Unresolved) != 0 || !slices.Equal(s.Occupied(), []uint32{0, 2}) {
		t.Errorf("keyless leaf: occupied %v, %v", s.Occupied(), err)
	}
	w.hub = s
	w.next()
	w.known[3] = primitive.NewSecret()
	d = w.write(treewrap.Write{})
	if s, err = w.hub.Commit(w.epoch, w.leaves, nil, d); err != nil || !slices.Equal(s.Occupied(), []uint32{0, 2, 3}) {
		t.Errorf("key supplied later: occupied %v, %v", s.Occupied(), err)
	}
	// It replaces its credential without a new key: the old payload goes.
	w.hub = s
	w.next()
	w.leaves[3].Hash = randomHash()
	delete(w.known, 3)
	d = w.write(treewrap.Write{})
	if s, err = w.hub.Commit(w.epoch, w.leaves, nil, d); err != nil || !slices.Equal(s.Occupied(), []uint32{0, 2}) {
		t.Errorf("keyless again: occupied %v, %v", s.Occupied(), err)
	}
}

func TestEmptyTree(t *testing.T) {
	w := newRoom(t, 2)
	l, _ := link(1, w.gid)
	w.links = []pseudonym.RoomLink{l}
	w.next()
	for i := range w.leaves {
		w.leaves[i].Rule = pseudonym.KeyForbidden
	}
	d := w.write(treewrap.Write{})
	s, err := w.hub.Commit(w.epoch, w.leaves, w.links, d)
	if err != nil || len(s.Occupied()) != 0 || len(d.Links) != 0 || !slices.Equal(d.Gone, []uint32{0, 1, 2}) {
		t.Fatalf("occupied %v, %v", s.Occupied(), err)
	}
	if _, ok := s.Top(); ok || w.view.TopKey().Present() {
		t.Error("top of an empty tree")
	}
	d.Links = []treewrap.LinkTop{{LinkID: l.ID}}
	_, err = w.hub.Commit(w.epoch, w.leaves, w.links, d)
	is(t, "link into an empty tree", err, mmrerr.WrapStructure)
	if v, err := treewrap.Read(w.gid, s, primitive.NewSecret()); err != nil || v.Suspect() {
		t.Errorf("reading: %v", err)
	}
	if v, err := treewrap.Read(w.gid, nil, primitive.NewSecret()); err != nil || len(v.Payloads()) != 0 {
		t.Errorf("reading nothing: %v", err)
	}
}

func TestRefreshRules(t *testing.T) {
	w := newRoom(t, 4)
	// Nothing to do: only a full rewrite passes.
	d, _ := w.stage(treewrap.Write{})
	_, _, err := w.hub.Refresh(w.epoch, w.leaves, nil, d)
	is(t, "needless refresh", err, mmrerr.WrapStale)
	d, _ = w.stage(treewrap.Write{Full: true})
	if _, full, err := w.hub.Refresh(w.epoch, w.leaves, nil, d); err != nil || !full || len(d.Nodes) != 7 {
		t.Errorf("full rewrite: %v, %v, %d nodes", full, err, len(d.Nodes))
	}
	// An epoch without delta lies behind.
	w.next()
	d, _ = w.stage(treewrap.Write{})
	if s, full, err := w.hub.Refresh(w.epoch, w.leaves, nil, d); err != nil || full || s.Epoch() != w.epoch {
		t.Errorf("refresh of an old state: %v, %v", full, err)
	}
	// Two writers on one state: the second is stale.
	first, _ := w.stage(treewrap.Write{})
	second, _ := w.stage(treewrap.Write{})
	s, _, err := w.hub.Refresh(w.epoch, w.leaves, nil, first)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Refresh(w.epoch, w.leaves, nil, second)
	is(t, "second writer", err, mmrerr.WrapStale)
}

func TestStateEncoding(t *testing.T) {
	w := newRoom(t, 5)
	l, key := link(1, w.gid)
	w.links = []pseudonym.RoomLink{l}
	w.next()
	d := w.write(treewrap.Write{})
	s, err := w.hub.Commit(w.epoch, w.leaves, w.links, d)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := s.AppendBinary(nil)
	got, err := treewrap.ParseState(b)
	if err != nil || got.ID() != s.ID() || got.Epoch() != s.Epoch() || !slices.Equal(got.Occupied(), s.Occupied()) {
		t.Fatalf("round trip: %v", err)
	}
	db, _ := d.AppendBinary(nil)
	gotDelta, err := treewrap.ParseDelta(db)
	if err != nil || !cmp.Equal(gotDelta, d) || gotDelta.ID() != s.ID() {
		t.Errorf("delta: %v, %s", err, cmp.Diff(gotDelta, d))
	}
	// The link opens the top, and the top the tree.
	top, err := got.OpenTop(w.gid, l.ID, key)
	if err != nil || !top.Equal(w.view.TopKey()) {
		t.Fatalf("top key: %v", err)
	}
	v, err := treewrap.ReadTop(w.gid, got, top)
	if err != nil || len(v.Payloads()) != 5 {
		t.Errorf("by link: %v", err)
	}
	_, other := link(1, w.gid)
	for name, f := range map[string]func() (primitive.Secret, error){
		"key":   func() (primitive.Secret, error) { return got.OpenTop(w.gid, l.ID, other) },
		"id":    func() (primitive.Secret, error) { return got.OpenTop(w.gid, [16]byte{2}, key) },
		"group": func() (primitive.Secret, error) { return got.OpenTop(w.gid[1:], l.ID, key) },
	} {
		k, err := f()
		is(t, "other "+name, err, primitive.ErrOpen)
		if k.Present() {
			t.Errorf("%s: result with an error", name)
		}
	}
	for n := range len(b) {
		if s, err := treewrap.ParseState(b[:n]); err == nil || s != nil {
			t.Fatalf("%d bytes: accepted", n)
		}
	}
	var zero *treewrap.State
	zb, _ := zero.AppendBinary(nil)
	if s, err := treewrap.ParseState(zb); err != nil || s.ID() != [32]byte{} || !bytes.Equal(zb, make([]byte, 43)) {
		t.Errorf("zero state: %x, %v", zb, err)
	}
}

func FuzzDeltaMalleability(f *testing.F) {
	w := newRoom(f, 4)
	l, _ := link(1, w.gid)
	w.links = []pseudonym.RoomLink{l}
	w.next()
	w.leaves[1] = treewrap.Leaf{}
	w.leaves = append(w.leaves, treewrap.Leaf{Present: true, Hash: randomHash(), Rule: pseudonym.KeyRequired})
	d := w.write(treewrap.Write{})
	b, _ := d.AppendBinary(nil)
	f.Add(b)
	f.Add(make([]byte, 44))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := treewrap.ParseDelta(b)
		if err != nil {
			if d != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, _ := d.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}

func FuzzStateMalleability(f *testing.F) {
	w := newRoom(f, 4)
	b, _ := w.hub.AppendBinary(nil)
	f.Add(b)
	f.Add(make([]byte, 43))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := treewrap.ParseState(b)
		if err != nil {
			if s != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, _ := s.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
		if v, err := treewrap.Read(make([]byte, 32), s, primitive.NewSecret()); err == nil && len(v.Payloads()) != 0 {
			t.Error("a random key opens the state")
		}
	})
}
