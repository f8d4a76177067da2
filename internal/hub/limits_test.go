package hub_test

import (
	"testing"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// limited starts a hub with other limits.
func limited(t *testing.T, rates hub.Rates, limits hub.Limits) *world {
	t.Helper()
	w := newWorld(t)
	w.h.Close()
	w.rates, w.limits = rates, limits
	w.start()
	return w
}

// TestResyncRate: five resyncs of a leaf in an hour (SPEC.md R-141).
func TestResyncRate(t *testing.T) {
	w := newWorld(t)
	alice, l := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), sealed)
	bob, req, _, err := w.join(join{from: alice, code: pseudonym.JoinCode(l.seed, alice.groupID()).Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	alice.process(req.GetCommit())
	alice.view = bob.view
	for i := range 6 {
		own := bob.g.OwnLeaf()
		again, req, _, err := w.join(join{from: alice, id: bob.identity, resync: &own, sealed: true})
		if i == 5 {
			w.wantCode(err, mmrerr.RateLimited)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		bob = again
		alice.process(req.GetCommit())
	}
}

// TestEpochExhausted: no more messages in an epoch after so many events, until
// somebody commits (SPEC.md R-71).
func TestEpochExhausted(t *testing.T) {
	w := limited(t, hub.Rates{Requests: 1000, Commits: 1000}, hub.Limits{EventsPerEpoch: 3})
	alice := w.room(sealed)
	for range 2 {
		for range 3 {
			if _, err := alice.submit(alice.message("x")); err != nil {
				t.Fatal(err)
			}
		}
		before := w.dump()
		_, err := alice.submit(alice.message("one too many"))
		w.wantCode(err, mmrerr.EpochExhausted)
		w.unchanged(before)
		if _, err := alice.commit(commit{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.h.Limits().EventsPerEpoch; got != 3 {
		t.Errorf("%d", got)
	}
	if got := newWorld(t).h.Limits().EventsPerEpoch; got != 1<<20 {
		t.Errorf("the default is %d events", got)
	}
}

// TestLogLimit: a room's log keeps so many events (SPEC.md R-104).
func TestLogLimit(t *testing.T) {
	w := limited(t, hub.Rates{Requests: 1000, Commits: 1000}, hub.Limits{LogEvents: 4})
	alice := w.room(sealed)
	for range 7 {
		if _, err := alice.submit(alice.message("x")); err != nil {
			t.Fatal(err)
		}
	}
	_, err := alice.catchUp(3)
	w.wantCode(err, mmrerr.LogTruncated)
	if es, err := alice.catchUp(4); err != nil || len(es) != 4 || es[0].Seq != 4 {
		t.Errorf("%d events, %v", len(es), err)
	}
}

// TestRoomLimits: those of the hub bound those of a room, and both bound who
// comes in (SPEC.md R-116, §19).
func TestRoomLimits(t *testing.T) {
	w := limited(t, hub.Rates{Requests: 1000, Commits: 1000}, hub.Limits{Leaves: 4, LeavesPerUser: 2, Message: 2000, Proposals: 3, AAD: 2000})
	small := func(p *pseudonym.Room) {
		sealed(p)
		p.Limits.MaxLeaves, p.Limits.MaxLeavesPerUser, p.Limits.MaxMessage = 3, 2, 2000
	}
	for name, f := range map[string]func(*pseudonym.Room){
		"leaves":   func(p *pseudonym.Room) { small(p); p.Limits.MaxLeaves = 5 },
		"per user": func(p *pseudonym.Room) { small(p); p.Limits.MaxLeavesPerUser = 3 },
		"message":  func(p *pseudonym.Room) { small(p); p.Limits.MaxMessage = 2001 },
	} {
		id := w.identity(leafSpec{})
		policy := policyOf(id.tbs.User)
		f(policy)
		_, err := w.create(creation{id: id, policy: policy})
		if got, _ := mmrerr.Of(err); got != mmrerr.Limit {
			t.Errorf("%s: %v", name, err)
		}
	}
	alice := w.room(small)
	r := refusals{w, alice}
	raised := roomOf(t, alice.g.Public())
	raised.Limits.MaxLeaves = 5
	r.run(t, "raised beyond the hub's", mmrerr.Limit, commit{proposals: []*mls.ProposalBody{mls.ExtensionsProposal(w.extensions(raised))}})
	if _, err := alice.tryAdd(w.identity(leafSpec{user: alice.tbs.User}), commit{}); err != nil {
		t.Fatal(err)
	}
	r.add(t, "third leaf of a user", mmrerr.Limit, w.identity(leafSpec{user: alice.tbs.User}))
	alice.add("b.example")
	r.add(t, "fourth leaf of the room", mmrerr.Limit, w.identity(leafSpec{user: w.id("b.example", pseudonym.User)}))
	remove := mlstest.ByValue(mls.RemoveProposal(1))
	many := alice.lawless().Commit(mlstest.Forgery{List: list(remove, remove, remove, remove), AAD: []byte{0}})
	r.run(t, "too many proposals", mmrerr.Limit, commit{request: func(m *hubv1.UpdateRequest) { m.Commit = many }})
	r.run(t, "too much authenticated data", mmrerr.Limit, commit{aad: func(pseudonym.AAD) []byte { return make([]byte, 2001) }})
}

// TestCover: the sender of an event gets an envelope like everybody else; it is
// no event (SPEC.md R-73).
func TestCover(t *testing.T) {
	w := newWorld(t)
	w.h.Close()
	w.cover = 1
	w.start()
	alice := w.room(sealed)
	alice.add("b.example")
	had := len(w.sentTo("a.example", 1))
	if _, err := alice.submit(alice.message("hello")); err != nil {
		t.Fatal(err)
	}
	rows := w.sentTo("a.example", had+1)
	others := w.sentTo("b.example", 2)
	env := rows[len(rows)-1].Envelope
	if len(env) != len(others[1].Envelope) {
		t.Errorf("cover of %d bytes beside an event of %d", len(env), len(others[1].Envelope))
	}
	b, err := seal.OpenEnvelope(alice.k, env)
	if err != nil {
		t.Fatal(err)
	}
	e, err := seal.ParseEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := e.Body.(*seal.CoverEvent); !ok || len(e.Receipt) != 0 {
		t.Errorf("a %T with a receipt of %d bytes", e.Body, len(e.Receipt))
	}
	if es, err := alice.catchUp(0); err != nil || len(es) != 2 {
		t.Errorf("%d events in the log, %v", len(es), err)
	}
}
