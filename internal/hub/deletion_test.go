package hub_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// full is a room with something of every kind of row, of which all leaves but
// alice's are leaving.
func full(w *world) *party {
	w.t.Helper()
	alice, _ := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), sealed)
	bob := alice.add("b.example") // never comes: a first contact, a snapshot
	if _, err := bob.putSeals(1, w.moreSeals(2)); err != nil {
		w.t.Fatal(err)
	}
	if _, err := alice.submit(alice.message("hello")); err != nil {
		w.t.Fatal(err)
	}
	if _, err := do(w, alice.call(seal.MethodReportCommit), &hubv1.ReportCommitRequest{Epoch: alice.g.Public().Epoch() - 1, CommitHash: hashOf(bob.added.req.GetCommit())}, new(hubv1.ReportCommitResponse)); err != nil {
		w.t.Fatal(err)
	}
	if err := bob.leave(); err != nil {
		w.t.Fatal(err)
	}
	w.settled(alice.groupID())
	return alice
}

// keyFirst asserts that a room whose rows are being deleted has no record any
// more: it has the sealed head, which alone names the big rows.
func (w *world) keyFirst(groupID []byte, rows int) {
	w.t.Helper()
	left := w.records(hub.RoomGroup(groupID), "")
	sealed, record := 0, false
	for _, r := range left {
		if strings.HasPrefix(r.Key.Name, "w") {
			sealed++
		}
		record = record || r.Key.Name == "room"
	}
	if record && sealed < rows {
		w.t.Errorf("%d of %d sealed rows went before the record", rows-sealed, rows)
	}
}

func (w *world) sealedRows(groupID []byte) int {
	w.t.Helper()
	return len(w.records(hub.RoomGroup(groupID), "w"))
}

// erased sweeps, and asserts that of a room there is nothing to read and in the
// end nothing at all.
func (w *world) erased(p *party) error {
	for method, err := range p.everyRequest() {
		if errors.Is(err, queuetest.ErrFault) {
			return err
		}
		if code, _ := mmrerr.Of(err); err == nil || code != mmrerr.NoRoom {
			return fmt.Errorf("%s is answered %w", method, err)
		}
	}
	// The mark is old when nothing has been pending for a while.
	for _, mark := range w.records("dirty", "") {
		if _, err := w.store.Apply(context.Background(), []kv.Op{{Key: mark.Key, Value: make([]byte, 8)}}); err != nil {
			return err
		}
	}
	for range 3 {
		if err := w.h.Sweep(context.Background()); err != nil {
			return err
		}
	}
	left := w.records(hub.RoomGroup(p.groupID()), "")
	if len(left) > 0 {
		return fmt.Errorf("%d rows of the room are left, of them %d sealed", len(left), w.sealedRows(p.groupID()))
	}
	if n := len(w.records("dirty", "")); n > 0 {
		return fmt.Errorf("%d marks are left", n)
	}
	if n := len(w.records("seals", "")); n > 0 {
		return fmt.Errorf("%d lanes have one-time addresses", n)
	}
	return nil
}

// TestWalkRoomEnds: wherever the end of a room is cut, its record goes first, then
// nobody can read anything of it, and sweeps delete the rest without anybody's help.
func TestWalkRoomEnds(t *testing.T) {
	t.Run("because its last member leaves", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice := full(w)
			rows := w.sealedRows(alice.groupID())
			if rows < 8 {
				w.t.Fatalf("%d sealed rows: the test tests little", rows)
			}
			_, m, err := alice.g.Propose(mls.RemoveProposal(alice.g.OwnLeaf()), member.SendOptions{AAD: []byte{0}})
			if err != nil {
				w.t.Fatal(err)
			}
			return alice, walked{
				call: alice.call(seal.MethodUpdate), body: &hubv1.UpdateRequest{Proposals: [][]byte{m}}, res: new(hubv1.UpdateResponse), again: mmrerr.NoRoom,
				cut: func() { w.keyFirst(alice.groupID(), rows) }, after: func() error { return w.erased(alice) },
			}
		})
	})
	t.Run("because nobody uses it", func(t *testing.T) {
		queuetest.Walk(t, func(t *testing.T, p *queuetest.Failpoint) {
			w := newWorld(t)
			w.idle = 13
			w.withoutSweeps()
			alice := full(w)
			rows := w.sealedRows(alice.groupID())
			w.h.Close()
			plain := w.store.Store
			if err := kv.Delete(context.Background(), plain, hub.DirtyKey(alice.groupID())); err != nil { // months later it has none
				t.Fatal(err)
			}
			w.store.Store = newWalkKV(plain, p)
			w.start()
			later := time.Now().AddDate(0, 14, 0)
			_ = w.h.SweepIdle(context.Background(), later) // cut or not, it is repeated
			w.h.Close()
			w.store.Store = plain
			w.keyFirst(alice.groupID(), rows)
			p.Heal()
			w.store.Store = newWalkKV(plain, p)
			w.start()
			var err error
			for range 4 {
				if err = w.h.SweepIdle(context.Background(), later); err == nil {
					err = w.erased(alice)
				}
				if !errors.Is(err, queuetest.ErrFault) {
					break
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	})
}

// TestBigRoomEnds: a room of more rows than go at once is cut between two steps:
// what remembers that it has ended is there until nothing else is.
func TestBigRoomEnds(t *testing.T) {
	w := newWorld(t)
	w.withoutSweeps()
	alice := w.room(sealed)
	for i := range 300 {
		if _, err := alice.submit(alice.message(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	w.settled(alice.groupID())
	before := w.sealedRows(alice.groupID())
	if err := alice.leave(); err != nil {
		t.Fatal(err)
	}
	steps := 0
	w.store.fail(func(ops []kv.Op) (bool, error) {
		if ops[0].Key.Group != hub.RoomGroup(alice.groupID()) {
			return true, nil
		}
		if steps++; steps > 1 {
			return false, errFault
		}
		return true, nil
	})
	if err := w.h.Sweep(context.Background()); !errors.Is(err, errFault) {
		t.Fatalf("a sweep that is cut: %v", err)
	}
	w.store.fail(nil)
	left := w.sealedRows(alice.groupID())
	if left == 0 || left == before {
		t.Fatalf("%d of %d rows are left: the test tests nothing", left, before)
	}
	if len(w.records(hub.RoomGroup(alice.groupID()), hub.NameTombstone)) != 1 {
		t.Error("nobody will come to delete the rest")
	}
	if err := w.erased(alice); err != nil {
		t.Error(err)
	}
}

// TestWalkRotation: wherever a commit that replaces the key at rest is cut, exactly
// one of the two keys opens the room, and once it is the new one, nothing that the
// old one opens is left of roster, tree and link keys.
func TestWalkRotation(t *testing.T) {
	walk(t, func(w *world) (*party, walked) {
		alice := w.room(sealed)
		alice.add("b.example")
		alice.add("b.example")
		w.settled(alice.groupID())
		old := alice.ear
		rows, ok := w.h.CurrentRows(context.Background(), alice.groupID(), old)
		if !ok || len(rows) != 3 {
			w.t.Fatalf("%d big rows, %v", len(rows), ok)
		}
		s := alice.stage(commit{proposals: removal(1)})
		look := func() error {
			_, byOld := w.h.CurrentRows(context.Background(), alice.groupID(), old)
			_, byNew := w.h.CurrentRows(context.Background(), alice.groupID(), s.ear)
			if byOld == byNew {
				return fmt.Errorf("the old key opens the room: %v, the new one: %v", byOld, byNew)
			}
			for _, k := range rows {
				if _, err := w.store.Store.Get(context.Background(), k); byNew && !errors.Is(err, kv.ErrNotFound) {
					return fmt.Errorf("a big row under the old key is left: %w", err)
				}
			}
			return nil
		}
		return alice, walked{
			call: s.call, body: s.req, res: new(hubv1.UpdateResponse), rows: map[string]int{"a.example": 1, "b.example": 2},
			cut: func() {
				w.h.ForgetRooms()
				if err := look(); err != nil {
					w.t.Error(err)
				}
			},
			after: func() error {
				w.h.ForgetRooms()
				if err := look(); err != nil {
					return err
				}
				alice.ear = s.ear
				return events(alice, 4, 0)()
			},
		}
	})
}
