package hub_test

import (
	"bytes"
	"context"
	"slices"
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
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestLastLeave: a room that everybody leaves is deleted: first what names the
// rest, then the rest, and the id is not to be had again meanwhile (SPEC.md
//
func TestLastLeave(t *testing.T) {
	for name, shape := range map[string]func(*pseudonym.Room){"key of the hub": tree, "key of the members": sealed} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.withoutSweeps()
			var creation *hubv1.CreateRoomRequest
			var k call
			id := w.identity(leafSpec{})
			policy := policyOf(id.tbs.User)
			shape(policy)
			alice, err := w.create(creationOf(id, policy, &creation, &k))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := alice.submit(alice.message("to myself")); err != nil {
				t.Fatal(err)
			}
			if err := alice.leave(); err != nil {
				t.Fatal(err)
			}
			w.everyCode(alice.everyRequest(), mmrerr.NoRoom)
			_, err = do(w, k, creation, new(hubv1.CreateRoomResponse))
			w.wantCode(err, mmrerr.RoomExists)
			if len(w.records(hub.RoomGroup(alice.groupID()), "")) < 2 {
				t.Fatal("nothing is left to sweep: the test tests nothing")
			}
			for range 2 {
				if err := w.h.Sweep(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			if rs := w.records(hub.RoomGroup(alice.groupID()), ""); len(rs) != 0 {
				t.Errorf("%d records are left, the first is %q", len(rs), rs[0].Key.Name)
			}
		})
	}
}

// creationOf is a right creation that is remembered for a repeat.
func creationOf(id *identity, policy *pseudonym.Room, req **hubv1.CreateRoomRequest, k *call) creation {
	return creation{id: id, policy: policy, request: func(m *hubv1.CreateRoomRequest) { *req = m }, call: func(c *call) { *k = *c }}
}

// TestLeaverGetsNothing: what lies in the outbox for a leaf that leaves is
// dropped, and what lies there for others is not (SPEC.md R-113).
func TestLeaverGetsNothing(t *testing.T) {
	for _, crash := range []bool{false, true} {
		w := newWorld(t)
		alice := w.room(sealed)
		bob := alice.add("b.example")
		carol := alice.add("b.example")
		bob.process(carol.added.req.GetCommit())
		for range 3 {
			if _, err := alice.submit(alice.message("hello")); err != nil {
				t.Fatal(err)
			}
		}
		w.settled(alice.groupID())
		rows := w.sentTo("b.example", 2+1+6)
		leave := func() {
			if err := bob.leave(); err != nil {
				t.Fatal(err)
			}
		}
		if crash { // between the transaction and the mark
			w.store.fail(func(ops []kv.Op) (bool, error) {
				if ops[0].Key.Group == "stopped" {
					return false, errFault
				}
				return true, nil
			})
			leave()
			w.h.Close()
			w.store.fail(nil)
			if len(w.records(hub.RoomGroup(alice.groupID()), hub.PrefixStop)) != 1 {
				t.Fatal("no record of the lane")
			}
			w.start()
			if err := w.h.Sweep(context.Background()); err != nil {
				t.Fatal(err)
			}
		} else {
			leave()
		}
		w.settled(alice.groupID())
		left, err := w.h.Deliverable(context.Background(), "b.example")
		if err != nil {
			t.Fatal(err)
		}
		// Of nine, bob's Welcome, the commit that added carol and three messages go;
		// carol's Welcome and messages stay, and the proposal to her comes.
		lanes := make(map[string]int)
		for _, r := range left {
			lanes[r.Lane]++
		}
		if len(rows) != 9 || len(lanes) != 1 || len(left) != 5 {
			t.Errorf("crash %v: of %d rows are left %v", crash, len(rows), lanes)
		}
		if n := len(w.records(hub.RoomGroup(alice.groupID()), hub.PrefixStop)); n != 0 {
			t.Errorf("%d records of stopped lanes stay", n)
		}
	}
}

// TestLeaveTwice: a leaf leaves once; a second Remove of it could never be
// committed.
func TestLeaveTwice(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	device := w.identity(leafSpec{user: alice.tbs.User})
	second, err := alice.tryAdd(device, commit{})
	if err != nil {
		t.Fatal(err)
	}
	alice.add("b.example")
	second.process(alice.lastCommit(t))
	_, remove, err := second.g.Propose(mls.RemoveProposal(alice.g.OwnLeaf()), member.SendOptions{AAD: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	send := func(p *party, ms ...[]byte) error {
		_, err := do(w, p.call(seal.MethodUpdate), &hubv1.UpdateRequest{Proposals: ms}, new(hubv1.UpdateResponse))
		return err
	}
	before := w.dump()
	w.wantCode(send(second, remove, remove), mmrerr.ProposalList)
	w.unchanged(before)
	if err := alice.leave(); err != nil {
		t.Fatal(err)
	}
	w.wantCode(send(second, remove), mmrerr.ProposalList)
}

func (p *party) lastCommit(t *testing.T) []byte {
	t.Helper()
	es, err := p.catchUp(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range slices.Backward(es) {
		if c, ok := e.Body.(*seal.CommitEvent); ok {
			return c.Commit
		}
	}
	t.Fatal("no commit")
	return nil
}

// TestHubRemoves: an external commit ends the epoch, and the leave with it; the
// hub proposes it again, and members have to include it (SPEC.md R-114).
func TestHubRemoves(t *testing.T) {
	w := newWorld(t)
	alice, l := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), sealed)
	bob := alice.add("b.example")
	code := pseudonym.JoinCode(l.seed, alice.groupID()).Bytes()
	if err := bob.leave(); err != nil {
		t.Fatal(err)
	}
	_, req, _, err := w.join(join{from: alice, code: code})
	if err != nil {
		t.Fatal(err)
	}
	es, err := alice.catchUp(0)
	if err != nil {
		t.Fatal(err)
	}
	e, ok := es[len(es)-1].Body.(*seal.CommitEvent)
	if !ok || !bytes.Equal(e.Commit, req.GetCommit()) || len(e.HubProposals) != 1 {
		t.Fatalf("the join's event: %T with %d proposals of the hub", es[len(es)-1].Body, len(e.HubProposals))
	}
	w.everyCode(bob.everyRequest(), mmrerr.Leaving)
	alice.process(req.GetCommit())
	alice.view = alice.fetchView()
	unaware := alice.stage(commit{})
	_, err = do(w, unaware.call, unaware.req, new(hubv1.UpdateResponse))
	w.wantCode(err, mmrerr.LeaveMissing)
	if !bytes.Contains(mmrerr.Detail(err), e.HubProposals[0]) {
		t.Error("the refusal does not bring the hub's proposal")
	}
	alice.process(e.HubProposals[0])
	if _, err := alice.commit(commit{}); err != nil {
		t.Fatalf("with the hub's Remove: %v", err)
	}
	if alice.g.Public().Leaf(bob.g.OwnLeaf()) != nil {
		t.Error("the leaver is still there")
	}
	w.everyCode(bob.everyRequest(), mmrerr.NoRoom)
	alice.sameState()
}

// TestGone: a leaf whose relay says twice, a day apart, that its mailbox is gone
// is removed, visibly (SPEC.md ).
func TestGone(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	alice.add("b.example")
	w.settled(alice.groupID())
	lane := w.sentTo("b.example", 1)[0].Lane
	now := time.Now()
	report := func(at time.Duration) {
		if err := w.h.ReportGone(context.Background(), lane, now.Add(at)); err != nil {
			t.Fatal(err)
		}
		w.h.ForgetRooms()
	}
	for _, at := range []time.Duration{0, time.Hour, 23 * time.Hour} {
		report(at)
		if _, err := alice.submit(alice.message("still two")); err != nil {
			t.Fatal(err)
		}
	}
	if es, err := alice.catchUp(0); err != nil || len(es) != 4 {
		t.Fatalf("%d events, %v", len(es), err)
	}
	report(24 * time.Hour)
	if _, err := alice.submit(alice.message("one")); err != nil {
		t.Fatal(err)
	}
	es, err := alice.catchUp(5)
	if err != nil || len(es) != 2 {
		t.Fatalf("%d events after the second report, %v", len(es), err)
	}
	p, ok := es[0].Body.(*seal.ProposalEvent)
	if !ok || len(p.Proposals) != 1 {
		t.Fatalf("the first is a %T", es[0].Body)
	}
	if left, err := w.h.Deliverable(context.Background(), "b.example"); err != nil || len(left) != 0 {
		t.Errorf("%d rows are left for the gone leaf, %v", len(left), err)
	}
	alice.process(p.Proposals[0])
	if _, err := alice.commit(commit{}); err != nil {
		t.Fatal(err)
	}
	if n := alice.g.Public().Len(); n != 1 {
		t.Errorf("%d leaves", n)
	}
}

// TestGoneAlone: when the last mailbox is gone, so is the room.
func TestGoneAlone(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	if _, err := alice.commit(commit{}); err != nil {
		t.Fatal(err)
	}
	w.settled(alice.groupID())
	for _, at := range []time.Time{time.Now(), time.Now().Add(25 * time.Hour)} {
		for _, r := range w.laneOf(alice) {
			if err := w.h.ReportGone(context.Background(), r, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.h.ForgetRooms()
	_, err := alice.submit(alice.message("anybody there?"))
	w.wantCode(err, mmrerr.NoRoom)
	w.everyCode(alice.everyRequest(), mmrerr.NoRoom)
}

// laneOf are the lanes of the party's provider, of which the last is its own.
func (w *world) laneOf(p *party) []string { return w.h.Lanes(context.Background(), p.groupID(), p.ear) }

// TestIdleRooms: rooms end when nobody has used them for so many months, by the
// month alone (SPEC.md R-100).
func TestIdleRooms(t *testing.T) {
	w := newWorld(t)
	w.idle = 13
	w.withoutSweeps()
	alice := w.room(sealed)
	now := time.Now()
	for _, months := range []time.Month{0, 12} {
		if err := w.h.SweepIdle(context.Background(), time.Date(now.Year(), now.Month()+months, 1, 12, 0, 0, 0, time.UTC)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := alice.submit(alice.message("still here")); err != nil {
		t.Fatal(err)
	}
	if err := w.h.SweepIdle(context.Background(), time.Date(now.Year(), now.Month()+13, 1, 12, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	w.everyCode(alice.everyRequest(), mmrerr.NoRoom)
	for range 2 {
		if err := w.h.Sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if rs := w.records(hub.RoomGroup(alice.groupID()), ""); len(rs) != 0 {
		t.Errorf("%d records are left: %s", len(rs), strings.ToValidUTF8(rs[0].Key.Name, "?"))
	}
}
