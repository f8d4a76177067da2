package treewrap_test

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
)

// room is a room with one writer, for tests of single rules.
type room struct {
	t      testing.TB
	gid    []byte
	epoch  uint64
	r      primitive.Secret
	leaves []treewrap.Leaf
	links  []pseudonym.RoomLink
	known  map[uint32]primitive.Secret
	hub    *treewrap.State
	view   *treewrap.View
	firstR primitive.Secret // R of epoch 1
}

func randomHash() (h [32]byte) {
	_, _ = rand.Read(h[:])
	return h
}

// newRoom has n leaves with payloads, written at epoch 1.
func newRoom(tb testing.TB, n int) *room {
	tb.Helper()
	w := &room{t: tb, gid: make([]byte, 32), epoch: 1, r: primitive.NewSecret(), leaves: make([]treewrap.Leaf, n), known: map[uint32]primitive.Secret{}}
	for i := range w.leaves {
		w.set(uint32(i), pseudonym.KeyRequired)
	}
	w.firstR = w.r
	w.view = treewrap.New(w.gid)
	d := w.write(treewrap.Write{})
	var err error
	if w.hub, err = w.hub.Commit(w.epoch, w.leaves, w.links, d); err != nil {
		tb.Fatal(err)
	}
	return w
}

// set puts a new credential at a leaf.
func (w *room) set(i uint32, rule pseudonym.KeyRule) {
	w.leaves[i] = treewrap.Leaf{Present: true, Hash: randomHash(), Rule: rule}
	w.known[i] = primitive.NewSecret()
}

// next moves to the next epoch.
func (w *room) next() {
	w.epoch++
	w.r = primitive.NewSecret()
	for i := range w.leaves {
		w.leaves[i].Added = false
	}
}

// write makes a delta in the current epoch and moves the view, not the hub.
func (w *room) write(o treewrap.Write) *treewrap.Delta {
	w.t.Helper()
	d, v := w.stage(o)
	w.view = v
	return d
}

func (w *room) stage(o treewrap.Write) (*treewrap.Delta, *treewrap.View) {
	w.t.Helper()
	o.Epoch, o.R, o.Leaves, o.Links = w.epoch, w.r, w.leaves, w.links
	if o.Known == nil {
		o.Known = w.known
	}
	d, v, err := w.view.Write(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return d, v
}

func link(b byte, gid []byte) (pseudonym.RoomLink, *primitive.KEMPrivateKey) {
	seed := primitive.NewSecret()
	return pseudonym.NewRoomLink([16]byte{b}, seed, gid, 1), pseudonym.JoinKey(seed, gid)
}

func is(tb testing.TB, name string, err, want error) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("%s: %v, want %v", name, err, want)
	}
}
