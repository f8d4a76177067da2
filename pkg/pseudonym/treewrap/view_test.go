package treewrap_test

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
)

func TestApplyRefusals(t *testing.T) {
	w := newRoom(t, 4)
	reader, err := treewrap.Read(w.gid, w.hub, w.r)
	if err != nil {
		t.Fatal(err)
	}
	w.next()
	first := w.write(treewrap.Write{})
	w.next()
	second := w.write(treewrap.Write{})
	v, err := reader.Apply(w.r, w.leaves, nil, second)
	is(t, "missed delta", err, treewrap.ErrMissed)
	if v != nil {
		t.Error("result with ErrMissed")
	}
	bad := copyDelta(first)
	bad.Nodes = nil
	v, err = reader.Apply(w.r, w.leaves, nil, bad)
	is(t, "delta the hub should have refused", err, mmrerr.WrapStructure)
	if v != nil {
		t.Error("result with an error")
	}
}

// TestSuspect checks that wrong ciphertexts are noticed, that payloads held are
// kept, and that a full rewrite by somebody else heals the reader (SPEC.md
//
func TestSuspect(t *testing.T) {
	for name, spoil := range map[string]func(w *room, d *treewrap.Delta){
		"garbage at the top": func(_ *room, d *treewrap.Delta) {
			n := &d.Nodes[slices.IndexFunc(d.Nodes, func(n treewrap.Node) bool { return n.Index == 3 })]
			n.Ciphertext = bytes.Clone(n.Ciphertext)
			n.Ciphertext[0] ^= 1
		},
		"garbage at a leaf": func(_ *room, d *treewrap.Delta) {
			d.Nodes[0].Ciphertext = bytes.Clone(d.Nodes[0].Ciphertext)
			d.Nodes[0].Ciphertext[0] ^= 1
		},
		"other key for a clean child": func(w *room, d *treewrap.Delta) {
			i := slices.IndexFunc(d.Nodes, func(n treewrap.Node) bool { return n.Index == 3 })
			content := slices.Concat(treewrap.NodeKey(w.r, 1).Bytes(), primitive.NewSecret().Bytes())
			d.Nodes[i] = treewrap.SealNodeAt(w.gid, w.epoch, 3, treewrap.NodeKey(w.r, 3), content, primitive.NewNonce())
		},
		"other key for a written child": func(w *room, d *treewrap.Delta) {
			i := slices.IndexFunc(d.Nodes, func(n treewrap.Node) bool { return n.Index == 1 })
			content := slices.Concat(primitive.NewSecret().Bytes(), treewrap.NodeKey(w.r, 2).Bytes())
			d.Nodes[i] = treewrap.SealNodeAt(w.gid, w.epoch, 1, treewrap.NodeKey(w.r, 1), content, primitive.NewNonce())
		},
		"changed payload of a clean leaf": func(w *room, d *treewrap.Delta) {
			i := slices.IndexFunc(d.Nodes, func(n treewrap.Node) bool { return n.Index == 2 })
			d.Nodes[i] = treewrap.SealNodeAt(w.gid, w.epoch, 2, treewrap.NodeKey(w.r, 2), primitive.NewSecret().Bytes(), primitive.NewNonce())
		},
	} {
		w := newRoom(t, 4)
		reader, err := treewrap.Read(w.gid, w.hub, w.r)
		if err != nil {
			t.Fatal(err)
		}
		w.next()
		w.set(0, pseudonym.KeyRequired)
		d := w.write(treewrap.Write{Refresh: []uint32{1}})
		spoil(w, d)
		if w.hub, err = w.hub.Commit(w.epoch, w.leaves, nil, d); err != nil {
			t.Fatalf("%s: the hub notices: %v", name, err)
		}
		v, err := reader.Apply(w.r, w.leaves, nil, d)
		is(t, name, err, treewrap.ErrSuspect)
		if v == nil || !v.Suspect() {
			t.Fatalf("%s: no view", name)
		}
		for i := uint32(1); i < 4; i++ {
			if p, ok := v.Payload(i); !ok || !p.Equal(w.known[i]) {
				t.Errorf("%s: payload of clean leaf %d lost", name, i)
			}
		}
		_, _, err = v.Write(treewrap.Write{Epoch: w.epoch, R: w.r, Leaves: w.leaves})
		is(t, name+", writing", err, treewrap.ErrSuspect)

		// Somebody who knows all payloads rewrites the tree.
		healer, _ := treewrap.Read(w.gid, w.hub, w.r)
		known := healer.Payloads()
		lacking := len(known) < 4
		full := treewrap.Write{Epoch: w.epoch, R: w.r, Leaves: w.leaves, Full: true}
		if lacking {
			_, _, err = healer.Write(full)
			is(t, name+", full write without all payloads", err, treewrap.ErrUnknownPayload)
		}
		rewrite := w.fullRewrite()
		next, isFull, err := w.hub.Refresh(w.epoch, w.leaves, nil, rewrite)
		if err != nil || !isFull {
			t.Fatalf("%s: full rewrite: %v", name, err)
		}
		v, err = v.Apply(w.r, w.leaves, nil, rewrite)
		if err != nil || v.Suspect() || v.State().ID() != next.ID() {
			t.Errorf("%s: not healed: %v", name, err)
		}
		for i, p := range w.known {
			if got, ok := v.Payload(i); !ok || !got.Equal(p) {
				t.Errorf("%s: payload of leaf %d", name, i)
			}
		}
	}
}

// fullRewrite is a full write of the hub's state by somebody with all payloads:
// the view of the honest writer put on the spoiled state.
func (w *room) fullRewrite() *treewrap.Delta {
	w.t.Helper()
	d, _, err := w.view.Write(treewrap.Write{Epoch: w.epoch, R: w.r, Leaves: w.leaves, Full: true})
	if err != nil {
		w.t.Fatal(err)
	}
	d.BaseID = w.hub.ID()
	return d
}

func TestWipeReplaced(t *testing.T) {
	w := newRoom(t, 4)
	before := w.view
	keys := maps.Clone(before.Keys())
	gone, _ := before.Payload(3)
	kept, _ := before.Payload(0)
	w.next()
	w.leaves[3] = treewrap.Leaf{}
	w.write(treewrap.Write{})
	before.WipeReplaced(w.view)
	zero := make([]byte, 32)
	for y, k := range keys {
		n, live := w.view.Keys()[y]
		replaced := !live || !n.Equal(k)
		if wiped := bytes.Equal(k.Bytes(), zero); wiped != (replaced || !live) {
			t.Errorf("node %d: wiped %v, replaced %v", y, wiped, replaced)
		}
	}
	if !bytes.Equal(gone.Bytes(), zero) || bytes.Equal(kept.Bytes(), zero) {
		t.Error("payload of the removed leaf is kept, or that of another wiped")
	}
	if p, ok := w.view.Payload(0); !ok || bytes.Equal(p.Bytes(), zero) {
		t.Error("the new view lost a payload")
	}
}

// TestCosts holds what commits cost in bytes, beside the two other ways: the
// static scheme, which sends one entry for an added leaf and nothing for a
// removed one, and wrapping every link key anew. docs/performance.md has the
// table that it logs.
func TestCosts(t *testing.T) {
	const entry = 60 // of the static scheme (SPEC.md R-14)
	for n, most := range map[int]int{10: 500, 100: 800, 1000: 1200} {
		size := func(change func(w *room)) int {
			w := newRoom(t, n)
			w.next()
			change(w)
			b, _ := w.write(treewrap.Write{Refresh: []uint32{uint32(n / 3)}}).AppendBinary(nil)
			if len(b) > 2*most {
				t.Errorf("%d leaves: delta of %d bytes", n, len(b))
			}
			return len(b)
		}
		w := newRoom(t, n)
		state, _ := w.hub.AppendBinary(nil)
		t.Logf("| %d | %d | %d | %d | %d | %d | %d |", n,
			size(func(*room) {}),
			size(func(w *room) {
				w.leaves = append(w.leaves, treewrap.Leaf{})
				w.set(uint32(n), pseudonym.KeyRequired)
			}),
			size(func(w *room) { w.leaves[n/2] = treewrap.Leaf{} }),
			entry, entry*n, len(state))
	}
}

func TestJoinerLinkContext(t *testing.T) {
	if got := treewrap.JoinerLinkContext([]byte("gid"), [32]byte{1}); !bytes.Equal(got, append([]byte("\x03gid\x20\x01"), make([]byte, 31)...)) {
		t.Errorf("context %x", got)
	}
}

// TestWith asserts that payloads kept elsewhere let a member repair a state that
// it cannot read, and that none is taken for a leaf without payload.
func TestWith(t *testing.T) {
	w := newRoom(t, 4)
	v, err := treewrap.Read(w.gid, w.hub, primitive.NewSecret()) // nothing opens
	is(t, "reading with another key", err, treewrap.ErrSuspect)
	known := map[uint32]primitive.Secret{9: primitive.NewSecret()}
	reader, err := treewrap.Read(w.gid, w.hub, w.r)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(known, reader.Payloads())
	got := v.With(known)
	if _, ok := got.Payload(9); ok {
		t.Error("a payload for a leaf that has none")
	}
	if _, ok := v.Payload(0); ok {
		t.Error("the view itself changed")
	}
	d, next, err := got.Write(treewrap.Write{Epoch: w.epoch, R: w.r, Leaves: w.leaves, Full: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, full, err := w.hub.Refresh(w.epoch, w.leaves, nil, d); err != nil || !full || next.Suspect() {
		t.Errorf("full rewrite: %v, full %v", err, full)
	}
}

// TestThief: who steals what a member stores opens exactly the payloads of that
// moment: none that was replaced before, none that comes later.
func TestThief(t *testing.T) {
	w := newRoom(t, 5)
	apply := func(d *treewrap.Delta) {
		t.Helper()
		var err error
		if w.hub, err = w.hub.Commit(w.epoch, w.leaves, w.links, d); err != nil {
			t.Fatal(err)
		}
	}
	before := w.hub
	replaced := w.known[1]
	w.next()
	w.set(1, pseudonym.KeyRequired)
	apply(w.write(treewrap.Write{}))
	state, top := w.hub, w.view.TopKey() // stolen

	got, err := treewrap.ReadTop(w.gid, state, top)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.EqualFunc(got.Payloads(), w.known, primitive.Secret.Equal) {
		t.Error("the thief does not open what the member does")
	}
	keys := []primitive.Secret{top}
	for _, n := range state.Nodes() {
		for _, k := range keys {
			if pt, err := n.Open(w.gid, k); err == nil && len(pt) == 2*primitive.SecretSize {
				for side := range 2 {
					s, err := primitive.ParseSecret(pt[side*primitive.SecretSize : (side+1)*primitive.SecretSize])
					if err != nil {
						t.Fatal(err)
					}
					keys = append(keys, s)
				}
			}
		}
	}
	w.next()
	w.set(3, pseudonym.KeyRequired)
	apply(w.write(treewrap.Write{}))
	for name, s := range map[string]*treewrap.State{"before": before, "after": w.hub} {
		for _, n := range s.Nodes() {
			for _, k := range keys {
				pt, err := n.Open(w.gid, k)
				if err != nil || len(pt) != primitive.SecretSize {
					continue
				}
				p, err := primitive.ParseSecret(pt)
				if err != nil {
					t.Fatal(err)
				}
				if p.Equal(replaced) || p.Equal(w.known[3]) {
					t.Errorf("the thief opens a payload of %s", name)
				}
			}
		}
	}
	if v, err := treewrap.ReadTop(w.gid, w.hub, top); err == nil || len(v.Payloads()) != 0 {
		t.Errorf("the stolen key opens the next state: %v", err)
	}
}
