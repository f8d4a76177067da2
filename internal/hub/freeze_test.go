package hub_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestFrozen: on a restored store rooms are read and do not change, until the
// operator says that none is behind (SPEC.md R-106).
func TestFrozen(t *testing.T) {
	w := newWorld(t)
	w.idle = 13
	alice, l := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), sealed)
	bob := alice.add("b.example")
	if _, err := alice.commit(commit{proposals: nil}); err != nil {
		t.Fatal(err)
	}
	w.settled(alice.groupID())
	w.withoutSweeps()
	if _, err := w.store.Apply(context.Background(), []kv.Op{{Key: store.Restored, Value: []byte{1}}}); err != nil {
		t.Fatal(err)
	}
	before := w.dump()
	code := pseudonym.JoinCode(l.seed, alice.groupID()).Bytes()
	d, _ := w.write(alice.view, treeWrite{full: true, policy: roomOf(t, alice.g.Public())}, alice.g.Public(), alice.g.Export, nil)
	for name, f := range map[string]func() error{
		"commit":  func() error { _, err := alice.commit(commit{}); return err },
		"leave":   func() error { p := *alice; return p.leave() },
		"message": func() error { p := *alice; _, err := p.submit(p.message("x")); return err },
		"refresh": func() error { return alice.refresh(d) },
		"join":    func() error { _, _, _, err := w.join(join{from: alice, code: code}); return err },
		"PutGroupInfo": func() error {
			_, err := do(w, alice.call(seal.MethodPutGroupInfo), &hubv1.PutGroupInfoRequest{}, new(hubv1.PutGroupInfoResponse))
			return err
		},
		"PutSeals": func() error {
			_, err := do(w, alice.call(seal.MethodPutSeals), &hubv1.PutSealsRequest{Seals: [][]byte{{1}}}, new(hubv1.PutSealsResponse))
			return err
		},
		"ReportCommit": func() error {
			_, err := do(w, alice.call(seal.MethodReportCommit), &hubv1.ReportCommitRequest{CommitHash: make([]byte, 32)}, new(hubv1.ReportCommitResponse))
			return err
		},
	} {
		if got, _ := mmrerr.Of(f()); got != mmrerr.RoomFrozen {
			t.Errorf("%s: %s", name, got)
		}
	}
	// Reading goes on, and changes nothing.
	if es, err := alice.catchUp(1); err != nil || len(es) != 3 {
		t.Errorf("%d events, %v", len(es), err)
	}
	c := bob.call(seal.MethodJoinState)
	c.kind, c.leaf = seal.AuthNewLeaf, 0
	if _, err := do(w, c, &hubv1.JoinStateRequest{Epoch: bob.added.staged.Epoch(), SignatureKey: bob.signer.Public()}, new(hubv1.JoinStateResponse)); err != nil {
		t.Error(err)
	}
	if err := w.h.SweepIdle(context.Background(), time.Now().AddDate(5, 0, 0)); err != nil {
		t.Fatal(err)
	}
	w.unchanged(before)
	// Who cannot see whether the store was restored changes nothing either.
	w.h.Close()
	w.start()
	w.store.blind.Store(true)
	_, err := alice.submit(alice.message("x"))
	if code, ok := mmrerr.Of(err); err == nil || ok {
		t.Errorf("without an answer of the store: %v, %s", err, code)
	}
	w.store.blind.Store(false)
	r := httptest.NewRecorder()
	w.h.Admin().ServeHTTP(r, httptest.NewRequest("POST", "/hub/unfreeze", nil))
	if r.Code != 204 {
		t.Errorf("status %d", r.Code)
	}
	if _, err := alice.submit(alice.message("and on")); err != nil {
		t.Error(err)
	}
	if len(w.records(hub.RoomGroup(alice.groupID()), "")) == 0 {
		t.Error("no room")
	}
}
