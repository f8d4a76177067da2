package mls_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
)

var updateGolden = flag.Bool("update", false, "write the golden file of the present state version")

// TestGoldenState: states that were saved by any version ever released load.
func TestGoldenState(t *testing.T) {
	const file = "testdata/public-state-v1.bin"
	if *updateGolden {
		w := goldenGroup(t)
		if err := os.WriteFile(file, save(t, w.g), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts := newWorld(t, 1, 1).opts
	g, err := mls.ParsePublicGroup(b, opts)
	if err != nil {
		t.Fatal(err)
	}
	if g.Len() != 4 || len(g.Proposals()) != 2 || g.Epoch() != 9 {
		t.Errorf("%d members, %d proposals, epoch %d", g.Len(), len(g.Proposals()), g.Epoch())
	}
	if _, ok := g.GroupInfo(); !ok {
		t.Error("the GroupInfo is lost")
	}
	if !bytes.Equal(save(t, g), b) {
		t.Error("saved as other bytes")
	}
}

// goldenGroup has something in every section but that of a closed group.
func goldenGroup(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 1, 5, mls.Extension{Type: groupExtension, Data: []byte("x")})
	w.accept(w.commit(0, commitOptions{list: values(mls.RemoveProposal(2))}))
	g, err := w.g.WithGroupInfo(w.groupInfo(w.state(), 1, nil).Message())
	w.check(err)
	w.g = g
	w.store(w.propose(1, mls.RemoveProposal(4)))
	w.store(w.propose(3, mls.AddProposal(w.keyPackage(nil))))
	return w
}

func TestStateStrict(t *testing.T) {
	w := goldenGroup(t)
	good := save(t, w.g)
	section := func(b []byte, id uint16, v []byte) []byte {
		return codec.AppendVector(binary.BigEndian.AppendUint16(bytes.Clone(b), id), v)
	}
	for what, b := range map[string][]byte{
		"empty":            {},
		"magic":            append([]byte("mlsX"), good[4:]...),
		"version":          append([]byte("mlsP\x02"), good[5:]...),
		"only the head":    good[:5],
		"unknown section":  section(good, 7, nil),
		"section again":    section(good, 5, nil),
		"closed with data": section(good, 6, []byte{1}),
		"half a section":   append(bytes.Clone(good), 0x80, 0, 1),
	} {
		g, err := mls.ParsePublicGroup(b, w.opts)
		w.refused(mls.RuleState, err)
		if g != nil {
			t.Errorf("%s: a state with an error", what)
		}
	}
	for n := range good {
		if g, err := mls.ParsePublicGroup(good[:n], w.opts); err == nil && !bytes.Equal(save(t, g), good[:n]) {
			t.Fatalf("the first %d bytes are read as something else", n)
		}
	}
	// A section that may be ignored is kept, and ends with its epoch.
	extra := section(good, 0x8001, []byte("later version"))
	g, err := mls.ParsePublicGroup(extra, w.opts)
	w.check(err)
	if !bytes.Equal(save(t, g), extra) {
		t.Error("an optional section is lost")
	}
	w.g = g
	w.accept(w.commit(0, commitOptions{}))
	if bytes.Contains(save(t, w.g), []byte("later version")) {
		t.Error("an optional section outlives its epoch")
	}
	// What the state says of itself is checked against itself.
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		g, err := mls.ParsePublicGroup(bad, w.opts)
		if err == nil && !bytes.Equal(save(t, g), bad) {
			t.Fatalf("byte %d is read as something else", i)
		}
	}
}

// TestStateSize: saved state is at most the tree, the GroupInfo and 2%.
func TestStateSize(t *testing.T) {
	for _, filled := range []bool{true, false} {
		w := bench(t, 200, filled)
		info := w.groupInfo(w.state(), 0, func(g *mls.GroupInfo) { g.Extensions = g.Extensions[1:] }).Message()
		g, err := w.g.WithGroupInfo(info)
		w.check(err)
		tree, state := len(g.TreeBytes()), len(save(t, g))
		if state > (tree+len(info))*102/100 {
			t.Errorf("state of %d bytes for a tree of %d and a GroupInfo of %d", state, tree, len(info))
		}
	}
}

// TestClosedState: a re-initialized group stays so after a store and load.
func TestClosedState(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.accept(w.commit(0, commitOptions{list: values(mls.ReInitProposal(mls.ReInit{Version: mls.MLS10, Suite: 1}))}))
	if w.g = w.reload(); !w.g.Closed() {
		t.Error("the group is open again")
	}
	w.refuse(mls.RuleClosed, w.commit(0, commitOptions{}))
}
