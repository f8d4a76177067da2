package hub_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// sealed is a room as they are by default: link key tree, key at rest.
func sealed(p *pseudonym.Room) { p.Scheme, p.EAR = pseudonym.SchemeTree, true }

func (p *party) groupID() []byte { return p.g.Public().GroupID() }

// everyRequest sends one request of each room method as a leaf and returns the
// errors by method.
func (p *party) everyRequest() map[string]error {
	p.w.t.Helper()
	out := make(map[string]error)
	for method, body := range map[string]proto.Message{
		seal.MethodUpdate:       &hubv1.UpdateRequest{Commit: []byte{1}},
		seal.MethodSubmit:       &hubv1.SubmitRequest{Message: []byte{1}},
		seal.MethodGroupInfo:    &hubv1.GroupInfoRequest{},
		seal.MethodPutGroupInfo: &hubv1.PutGroupInfoRequest{},
		seal.MethodCatchUp:      &hubv1.CatchUpRequest{},
		seal.MethodJoinState:    &hubv1.JoinStateRequest{Epoch: 1, SignatureKey: p.signer.Public()},
		seal.MethodWrapState:    &hubv1.WrapStateRequest{},
		seal.MethodWrapRefresh:  &hubv1.WrapRefreshRequest{Delta: []byte{1}},
	} {
		c := p.call(method)
		if method == seal.MethodJoinState {
			c.kind, c.leaf = seal.AuthNewLeaf, 0
		}
		_, out[method] = do(p.w, c, body, new(hubv1.PutGroupInfoResponse)) // no fields: takes any
	}
	return out
}

func (w *world) everyCode(errs map[string]error, want mmrerr.Code, but ...string) {
	w.t.Helper()
	for method, err := range errs {
		got, _ := mmrerr.Of(err)
		if (err == nil || got != want) && !slices.Contains(but, method) {
			w.t.Errorf("%s: %v, want %s", method, err, want)
		}
	}
}

// TestKeyAtRest: every request needs the room's key, and none helps without it
// (SPEC.md R-101).
func TestKeyAtRest(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]*creation{
		"no key":                   {call: func(c *call) { c.ear = primitive.Secret{} }, policy: &pseudonym.Room{EAR: true}},
		"a key where none belongs": {call: func(c *call) { c.ear = primitive.NewSecret() }, policy: &pseudonym.Room{}},
	} {
		t.Run(name, func(t *testing.T) {
			id := w.identity(leafSpec{})
			policy := policyOf(id.tbs.User)
			policy.EAR = c.policy.EAR
			c.id, c.policy = id, policy
			before := w.dump()
			_, err := w.create(*c)
			w.wantCode(err, mmrerr.EARKey)
			w.unchanged(before)
		})
	}
	for name, shape := range map[string]func(*pseudonym.Room){"tree": sealed, "static": func(p *pseudonym.Room) { p.EAR = true }} {
		t.Run(name, func(t *testing.T) {
			alice := w.room(shape)
			bob := alice.add("b.example")
			if _, err := bob.submit(bob.message("with the key")); err != nil {
				t.Fatal(err)
			}
			before := w.dump()
			right := bob.ear
			for _, bob.ear = range []primitive.Secret{{}, primitive.NewSecret()} {
				w.everyCode(bob.everyRequest(), mmrerr.NoRoom)
			}
			bob.ear = right
			w.unchanged(before)
		})
	}
}

// TestKeyStep: step 16 of SPEC.md.
func TestKeyStep(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	alice.add("b.example")
	bob := alice.add("b.example")
	r := refusals{w, alice}
	key := func(b []byte) func(*hubv1.UpdateRequest) {
		return func(m *hubv1.UpdateRequest) { m.NextEarKey = b }
	}
	r.run(t, "Remove without key", mmrerr.EARKey, commit{proposals: removal(1), request: key(nil)})
	r.run(t, "short key", mmrerr.EARKey, commit{proposals: removal(1), request: key(make([]byte, 31))})
	r.run(t, "the old key", mmrerr.EARKey, commit{proposals: removal(1), request: key(alice.ear.Bytes())})
	id := w.identity(leafSpec{user: w.id("b.example", pseudonym.User)})
	r.run(t, "key without path", mmrerr.EARKey, commit{
		adds: []*member.KeyPackage{w.keyPackage(id, false)}, linkKeys: []*identity{id}, samePath: true,
		options: func(o *member.CommitOptions) { o.NoPath = true }, rotate: true,
	})
	old := bob.ear
	s, err := alice.commit(commit{rotate: true})
	if err != nil {
		t.Fatalf("a path commit may rotate: %v", err)
	}
	w.everyCode(bob.everyRequest(), mmrerr.EARStale, seal.MethodCatchUp, seal.MethodJoinState)
	bob.follow(s)
	if bob.ear.Equal(old) {
		t.Fatal("the key was not replaced")
	}
	if _, err := bob.submit(bob.message("with the new key")); err != nil {
		t.Error(err)
	}
	alice.sameState()
}

// TestRotation: who stays catches up with the old key and goes on with the new
// one; who was removed can do nothing with either, nor with the disk (SPEC.md
//
func TestRotation(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	bob := alice.add("b.example")
	mallory := alice.add("b.example")
	es, err := bob.catchUp(0)
	if err != nil || len(es) != 1 {
		t.Fatalf("%d events, %v", len(es), err)
	}
	bob.process(es[0].Body.(*seal.CommitEvent).Commit)
	bob.view = alice.view
	old := alice.ear
	groupID := alice.groupID()
	rows, ok := w.h.CurrentRows(context.Background(), groupID, old)
	if !ok || len(rows) != 3 {
		t.Fatalf("%d big rows, %v", len(rows), ok)
	}
	s, err := alice.commit(commit{proposals: removal(2)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alice.submit(alice.message("without her")); err != nil {
		t.Fatal(err)
	}
	// The removed one, with the old key and with the new one.
	before := w.dump()
	for _, mallory.ear = range []primitive.Secret{old, s.ear} {
		w.everyCode(mallory.everyRequest(), mmrerr.NoRoom)
	}
	w.unchanged(before)
	if _, ok := w.h.CurrentRows(context.Background(), groupID, old); ok {
		t.Error("the old key opens the head")
	}
	for _, k := range rows {
		if _, err := w.store.Get(context.Background(), k); !errors.Is(err, kv.ErrNotFound) {
			t.Errorf("a big row under the old key is still there: %v", err)
		}
	}
	for seq, want := range map[uint64]bool{1: true, 2: true, 3: true, 4: false} {
		_, err := w.store.Get(context.Background(), hub.LogKey(groupID, old, seq))
		if (err == nil) != want {
			t.Errorf("event %d under the old key: %v", seq, err)
		}
		_, err = w.store.Get(context.Background(), hub.LogKey(groupID, s.ear, seq))
		if (err == nil) == want {
			t.Errorf("event %d under the new key: %v", seq, err)
		}
	}
	// Who stayed.
	w.everyCode(bob.everyRequest(), mmrerr.EARStale, seal.MethodCatchUp, seal.MethodJoinState)
	own := bob.g.OwnLeaf()
	_, _, _, err = w.join(join{from: bob, id: bob.identity, resync: &own, sealed: true})
	w.wantCode(err, mmrerr.EARStale)
	stolen := *bob
	stolen.identity = mallory.identity
	w.everyCode(stolen.everyRequest(), mmrerr.NoRoom)
	if es, err = bob.catchUp(0); err != nil || len(es) != 2 {
		t.Fatalf("with the old key: %d events, %v", len(es), err)
	}
	c := es[1].Body.(*seal.CommitEvent)
	id := seal.NewEARKey(s.ear, groupID).ID()
	if es[1].Seq != 3 || !cmp.Equal(c.EARID, id[:]) {
		t.Errorf("the last event is %d with key %x", es[1].Seq, c.EARID)
	}
	if id := es[0].Body.(*seal.CommitEvent).EARID; len(id) != 0 {
		t.Errorf("a commit that rotated nothing names the key %x", id)
	}
	bob.follow(s)
	if es, err = bob.catchUp(4); err != nil || len(es) != 1 || es[0].Seq != 4 {
		t.Errorf("with the new key: %d events, %v", len(es), err)
	}
	if _, err = bob.catchUp(2); err == nil {
		t.Error("events of before are served under the new key")
	}
	bob.sameState()
}

// TestRotationRepeats: a request whose answer was lost is answered under either
// key (SPEC.md R-66).
func TestRotationRepeats(t *testing.T) {
	w := newWorld(t)
	alice, l := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), sealed)
	bob := alice.add("b.example")
	message := bob.call(seal.MethodSubmit)
	text := &hubv1.SubmitRequest{Message: bob.message("said before")}
	if _, err := do(w, message, text, new(hubv1.SubmitResponse)); err != nil {
		t.Fatal(err)
	}
	code := pseudonym.JoinCode(l.seed, alice.groupID()).Bytes()
	_, join, joining, err := w.join(join{from: alice, code: code})
	if err != nil {
		t.Fatal(err)
	}
	alice.process(join.GetCommit())
	alice.view = alice.fetchView()
	s, err := alice.commit(commit{proposals: removal(1), rotate: true})
	if err != nil {
		t.Fatal(err)
	}
	before := w.dump()
	for _, ear := range []primitive.Secret{s.call.ear, s.ear} {
		c := s.call
		c.ear = ear
		again, err := do(w, c, s.req, new(hubv1.UpdateResponse))
		if err != nil || !proto.Equal(again, s.res) {
			t.Errorf("the rotating commit again: %v, %v", again, err)
		}
	}
	if _, err := do(w, joining, join, new(hubv1.ExternalJoinResponse)); err != nil {
		t.Errorf("the join again, with the key of then: %v", err)
	}
	// bob was removed, and is told nothing, not even what he has said.
	_, err = do(w, message, text, new(hubv1.SubmitResponse))
	w.wantCode(err, mmrerr.NoRoom)
	w.unchanged(before)
}

func (p *party) fetchView() *treeView {
	p.w.t.Helper()
	return readView(p.w.t, p.groupID(), p.wrapState().GetWrapState(), p.g)
}

// TestLateJoiner: the key was replaced before a joiner came, who has the one of
// its epoch (SPEC.md R-105).
func TestLateJoiner(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	alice.add("b.example")
	bob := alice.add("b.example")
	epoch, tree := alice.g.Epoch(), alice.g.Public().TreeBytes()
	s, err := alice.commit(commit{proposals: removal(1)})
	if err != nil {
		t.Fatal(err)
	}
	c := bob.call(seal.MethodJoinState)
	c.kind, c.leaf = seal.AuthNewLeaf, 0
	ask := func(epoch uint64) (*hubv1.JoinStateResponse, error) {
		return do(w, c, &hubv1.JoinStateRequest{Epoch: epoch, SignatureKey: bob.signer.Public()}, new(hubv1.JoinStateResponse))
	}
	had := len(w.records(hub.RoomGroup(alice.groupID()), hub.PrefixFirst))
	for range 2 { // an answer may be lost
		res, err := ask(epoch)
		if err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(res.GetRatchetTree(), tree) || len(res.GetWrapState()) == 0 || res.GetSeq() != 2 {
			t.Error("not the snapshot of the joiner's epoch")
		}
	}
	if n := len(w.records(hub.RoomGroup(alice.groupID()), hub.PrefixFirst)); n != had-1 {
		t.Errorf("%d first contacts wait, before it came %d", n, had)
	}
	_, err = ask(epoch - 1)
	w.wantCode(err, mmrerr.LogTruncated)
	bob.follow(s)
	if _, err := bob.submit(bob.message("late")); err != nil {
		t.Error(err)
	}
}

// TestLinkBox: a link's box opens to the room's current key and needs none; a
// replaced key is of no use to a joiner (SPEC.md ).
func TestLinkBox(t *testing.T) {
	w := newWorld(t)
	alice, l := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), sealed)
	alice.add("b.example")
	code := pseudonym.JoinCode(l.seed, alice.groupID()).Bytes()
	info := func(f func(*call)) (primitive.Secret, error) {
		c := call{method: seal.MethodLinkInfo, groupID: alice.groupID(), kind: seal.AuthNone}
		if f != nil {
			f(&c)
		}
		res, err := do(w, c, &hubv1.LinkInfoRequest{Code: code}, new(hubv1.LinkInfoResponse))
		if err != nil {
			return primitive.Secret{}, err
		}
		k, err := seal.OpenLink(pseudonym.JoinKey(l.seed, alice.groupID()), alice.groupID(), res.GetLinkBox())
		if err != nil {
			t.Fatal(err)
		}
		return k.Secret(), nil
	}
	old, err := info(nil)
	if err != nil || !old.Equal(alice.ear) {
		t.Fatalf("the box does not open to the room's key: %v", err)
	}
	for name, f := range map[string]func(*call){
		"with the key": func(c *call) { c.ear = old },
		"expired":      func(c *call) { c.now = time.Now().Add(2 * time.Hour) },
		"other room":   func(c *call) { c.groupID = member.RandomGroupID() },
		"short id":     func(c *call) { c.groupID = c.groupID[:8] },
	} {
		_, err := info(f)
		if got, _ := mmrerr.Of(err); got != mmrerr.NoRoom {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := alice.commit(commit{proposals: removal(1)}); err != nil {
		t.Fatal(err)
	}
	now, err := info(nil)
	if err != nil || !now.Equal(alice.ear) || now.Equal(old) {
		t.Fatalf("after the rotation the box opens to another key: %v", err)
	}
	c := call{method: seal.MethodGroupInfo, groupID: alice.groupID(), kind: seal.AuthNewLeaf, signer: w.identity(leafSpec{}).key(t), ear: old}
	_, err = do(w, c, &hubv1.GroupInfoRequest{Code: code}, new(hubv1.GroupInfoResponse))
	w.wantCode(err, mmrerr.NoRoom)
	c.ear = now
	if _, err = do(w, c, &hubv1.GroupInfoRequest{Code: code}, new(hubv1.GroupInfoResponse)); err != nil {
		t.Error(err)
	}
	_, _, _, err = w.join(join{from: alice, code: code, call: func(c *call) { c.ear = old }})
	w.wantCode(err, mmrerr.NoRoom)
	carol, _, _, err := w.join(join{from: alice, code: code})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := carol.submit(carol.message("joined")); err != nil {
		t.Error(err)
	}
}

// TestWelcomeKey: a welcomed client gets the key with its first envelope.
func TestWelcomeKey(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	alice.add("b.example")
	id := w.identity(leafSpec{user: w.id("a.example", pseudonym.User)})
	kp := w.keyPackage(id, false)
	had := len(w.sentTo("a.example", 1))
	// Added by the commit that replaces the key: it gets the new one.
	if _, err := alice.commit(commit{adds: []*member.KeyPackage{kp}, linkKeys: []*identity{id}, proposals: []*mls.ProposalBody{mls.RemoveProposal(1)}}); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, row := range w.sentTo("a.example", had+2) {
		b, err := seal.OpenFirst(id.delivery, kp.Ref(), row.Envelope)
		if err != nil {
			continue
		}
		e, err := seal.ParseEvent(b)
		if err != nil {
			t.Fatal(err)
		}
		found = true
		if !e.Body.(*seal.WelcomeEvent).EARKey.Equal(alice.ear) {
			t.Error("the first envelope brings another key")
		}
	}
	if !found {
		t.Error("no first envelope")
	}
	// Its snapshot is under that key.
	for _, k := range hub.SnapshotKeys(alice.groupID(), alice.ear, alice.g.Epoch()) {
		if _, err := w.store.Get(context.Background(), k); err != nil {
			t.Error(err)
		}
	}
}
