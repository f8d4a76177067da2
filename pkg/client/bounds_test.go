package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestEarlyEvents: what a hub sends ahead of the room's order does not fill the
// memory; it is read again when its turn comes (SPEC.md R-76).
func TestEarlyEvents(t *testing.T) {
	w := newAuditWorld(t)
	c := &Client{opts: newOptions(nil), inbox: make(map[uint64]*Event), wake: make(chan struct{}, 1)}
	r := &room{g: w.alice, st: roomState{GroupID: w.alice.Public().GroupID(), Buffer: make(map[uint64][]byte), Chain: make([]byte, 32)}}
	for i := range 3 * maxEarly {
		e := &seal.Event{GroupID: r.st.GroupID, Seq: uint64(i + 2), Body: &seal.NoticeEvent{}}
		if err := c.arrived(context.Background(), r, e, make(batch)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.st.Buffer); n != maxEarly {
		t.Errorf("%d events wait, the bound is %d", n, maxEarly)
	}
	if r.st.GapSince == 0 {
		t.Error("no gap is seen")
	}
	r.st.Buffer = map[uint64][]byte{2: make([]byte, maxEarlySize)}
	if err := c.arrived(context.Background(), r, &seal.Event{GroupID: r.st.GroupID, Seq: 3, Body: &seal.NoticeEvent{}}, make(batch)); err != nil {
		t.Fatal(err)
	}
	if len(r.st.Buffer) != 1 {
		t.Error("there is no bound on their size")
	}
}

// TestExpiredHub: a room outlives the certificate that its hub had in the
// beginning, and its key is no other (SPEC.md ).
func TestExpiredHub(t *testing.T) {
	w := newAuditWorld(t)
	r := &room{g: w.alice, st: roomState{GroupID: w.alice.Public().GroupID(), Suite: uint16(Suite), Chain: make([]byte, 32)}}
	if _, err := r.hub(); !errors.Is(err, ErrUnverified) { // the audit world has no hub
		t.Errorf("a room without a hub: %v", err)
	}
	key, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	r.g = w.hosted(key)
	r.st.GroupID = r.g.Public().GroupID()
	e := &seal.Event{GroupID: r.st.GroupID, Seq: 1, Body: &seal.NoticeEvent{}}
	core, err := e.Core()
	if err != nil {
		t.Fatal(err)
	}
	e.Chain = seal.ChainNext([32]byte(r.st.Chain), 1, core)
	if e.Receipt, err = e.Accepted().Sign(key); err != nil {
		t.Fatal(err)
	}
	if !r.genuine(e) {
		t.Error("a receipt of the room's hub, without a certificate that is valid now, is not genuine")
	}
	other, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if e.Receipt, err = e.Accepted().Sign(other); err != nil {
		t.Fatal(err)
	}
	if r.genuine(e) {
		t.Error("a receipt of another key is genuine")
	}
}

// TestRest: what fails again and again is tried less and less often.
func TestRest(t *testing.T) {
	r := new(room)
	failed := errors.New("no")
	for i := range 20 {
		before := time.Now()
		r.rest(failed, time.Second)
		if least := time.Second << min(i, maxRest); r.restUntil.Sub(before) < least {
			t.Errorf("after %d failures: %v, want at least %v", i+1, r.restUntil.Sub(before), least)
		}
	}
	if r.rest(nil, time.Second); !r.restUntil.IsZero() || r.failures != 0 {
		t.Error("success does not end the rest")
	}
}
