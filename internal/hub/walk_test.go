package hub_test

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// walkKV asks a failpoint, but for leases: they are nobody's request.
type walkKV struct {
	kv.Store
	faulty kv.Store
	off    atomic.Bool // nothing fails, and nothing is counted
}

func newWalkKV(plain kv.Store, p *queuetest.Failpoint) *walkKV {
	return &walkKV{Store: plain, faulty: kvtest.Faulty(plain, p.Fault)}
}

func (w *walkKV) of(group string) kv.Store {
	if group == "lease" || w.off.Load() {
		return w.Store
	}
	return w.faulty
}

func (w *walkKV) Get(ctx context.Context, k kv.Key) (kv.Record, error) {
	return w.of(k.Group).Get(ctx, k)
}

func (w *walkKV) GetMany(ctx context.Context, group string, names []string) ([]kv.Record, error) {
	return w.of(group).GetMany(ctx, group, names)
}

func (w *walkKV) Apply(ctx context.Context, ops []kv.Op) ([]kv.Version, error) {
	return w.of(ops[0].Key.Group).Apply(ctx, ops)
}

func (w *walkKV) Scan(ctx context.Context, group, prefix string) iter.Seq2[kv.Record, error] {
	return w.of(group).Scan(ctx, group, prefix)
}

// walked is one request of a walk.
type walked struct {
	call  call
	body  proto.Message
	res   proto.Message
	rows  map[string]int // envelopes that it makes, by destination
	after func() error   // what works when it has worked
	again mmrerr.Code    // what a repeat may be answered besides
	cut   func()         // looks at the stores where it was cut; nil: nobody does
}

// walk cuts the way of a request at every write, before and after it was carried
// out, alone and with the process: the repeat of the same bytes is answered as
// accepted, there is one event, and every recipient gets it once.
func walk(t *testing.T, prepare func(w *world) (alice *party, r walked)) {
	t.Helper()
	queuetest.Walk(t, func(t *testing.T, p *queuetest.Failpoint) {
		w := newWorld(t)
		alice, r := prepare(w)
		had := make(map[string]int)
		if alice != nil {
			w.settled(alice.groupID())
		}
		for d := range r.rows {
			had[d] = w.inOutbox(d)
		}
		w.h.Close()
		plain := w.store.Store
		if _, err := kv.Acquire(context.Background(), plain, kv.Key{Group: "lease", Name: "sweep"}, "the test", time.Now(), time.Hour); err != nil {
			t.Fatal(err)
		}
		cut := newWalkKV(plain, p)
		w.store.Store = cut
		w.restartWith(queuetest.Faulty(w.outbox, p.Fault))
		_, err := do(w, r.call, r.body, r.res)
		if err != nil && !errors.Is(err, queuetest.ErrFault) {
			t.Fatalf("refused: %v", err)
		}
		if p.Halt {
			w.h.Close()
		}
		if r.cut != nil {
			cut.off.Store(true)
			r.cut()
			cut.off.Store(false)
		}
		if p.Halt {
			p.Heal()
			w.restartWith(queuetest.Faulty(w.outbox, p.Fault))
		}
		if _, err = do(w, r.call, r.body, r.res); errors.Is(err, queuetest.ErrFault) {
			_, err = do(w, r.call, r.body, r.res)
		}
		if code, ok := mmrerr.Of(err); err != nil && (!ok || code != r.again) {
			t.Fatalf("the repeat: %v", err)
		}
		for range 3 { // the last fault may be here
			if err = w.h.Sweep(context.Background()); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("sweep: %v", err)
		}
		for d, n := range r.rows {
			w.sentTo(d, had[d]+n)
		}
		if err := r.after(); errors.Is(err, queuetest.ErrFault) {
			err = r.after()
			if err != nil {
				t.Errorf("afterwards: %v", err)
			}
		} else if err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func hashOf(b []byte) []byte {
	h := primitive.Hash(b)
	return h[:]
}

// inOutbox is how many rows a destination's outbox has.
func (w *world) inOutbox(domain string) int {
	return len(w.entries(domain))
}

// entries are the rows of a destination's outbox.
func (w *world) entries(domain string) []queue.Entry {
	var all []queue.Entry
	for {
		var after queue.Seq
		if n := len(all); n > 0 {
			after = all[n-1].Seq
		}
		es, err := w.outbox.Read(context.Background(), hub.OutboxID(domain), after, 100_000)
		if err != nil || len(es) == 0 {
			return all
		}
		all = append(all, es...)
	}
}

// events asks a member how many events it can read.
func events(p *party, from uint64, want int) func() error {
	return func() error {
		es, err := p.catchUp(from)
		if err == nil && len(es) != want {
			return errors.New("another number of events in the log")
		}
		return err
	}
}

// TestWalk: every way of writing (SPEC.md §12), cut everywhere.
func TestWalk(t *testing.T) {
	t.Run("CreateRoom", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			var req *hubv1.CreateRoomRequest
			var k call
			id := w.identity(leafSpec{})
			policy := policyOf(id.tbs.User)
			sealed(policy)
			c := creationOf(id, policy, &req, &k)
			c.dry = true
			alice, err := w.create(c)
			if err != nil {
				w.t.Fatal(err)
			}
			return nil, walked{k, req, new(hubv1.CreateRoomResponse), nil, events(alice, 0, 0), mmrerr.OK, nil}
		})
	})
	t.Run("Update with an Add", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice := w.room(sealed)
			alice.add("a.example")
			id := w.identity(leafSpec{user: w.id("b.example", pseudonym.User)})
			s := alice.stage(commit{adds: []*member.KeyPackage{w.keyPackage(id, false)}, linkKeys: []*identity{id}})
			return alice, walked{s.call, s.req, new(hubv1.UpdateResponse), map[string]int{"a.example": 2, "b.example": 1}, events(alice, 0, 2), mmrerr.OK, nil}
		})
	})
	t.Run("Update with another key at rest", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice := w.room(sealed)
			alice.add("b.example")
			alice.add("b.example")
			s := alice.stage(commit{proposals: removal(1)})
			return alice, walked{s.call, s.req, new(hubv1.UpdateResponse), map[string]int{"a.example": 1, "b.example": 2}, func() error {
				alice.ear = s.ear
				return events(alice, 4, 0)()
			}, mmrerr.OK, nil}
		})
	})
	t.Run("Update with a leave", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice := w.room(sealed)
			bob := alice.add("b.example")
			_, m, err := bob.g.Propose(mls.RemoveProposal(bob.g.OwnLeaf()), member.SendOptions{AAD: []byte{0}})
			if err != nil {
				w.t.Fatal(err)
			}
			// A leaver may do nothing more, step 3, before repeats are looked for, step 4.
			return alice, walked{bob.call(seal.MethodUpdate), &hubv1.UpdateRequest{Proposals: [][]byte{m}}, new(hubv1.UpdateResponse), map[string]int{"a.example": 1}, events(alice, 0, 2), mmrerr.Leaving, nil}
		})
	})
	t.Run("ExternalJoin", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice, l := w.linked(pseudonym.JoinByLink, time.Now().Add(time.Hour), sealed)
			_, req, k, err := w.join(join{from: alice, code: pseudonym.JoinCode(l.seed, alice.groupID()).Bytes(), dry: true})
			if err != nil {
				w.t.Fatal(err)
			}
			return alice, walked{k, req, new(hubv1.ExternalJoinResponse), map[string]int{"a.example": 1}, events(alice, 0, 2), mmrerr.OK, nil}
		})
	})
	t.Run("Submit", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice := w.room(sealed)
			alice.add("b.example")
			return alice, walked{alice.call(seal.MethodSubmit), &hubv1.SubmitRequest{Message: alice.message("once")}, new(hubv1.SubmitResponse), map[string]int{"b.example": 1}, events(alice, 0, 2), mmrerr.OK, nil}
		})
	})
	t.Run("WrapRefresh", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice := w.room(sealed)
			alice.add("b.example")
			d, _ := w.write(alice.view, treeWrite{full: true, policy: roomOf(w.t, alice.g.Public())}, alice.g.Public(), alice.g.Export, nil)
			return alice, walked{alice.call(seal.MethodWrapRefresh), &hubv1.WrapRefreshRequest{Delta: deltaBytes(w.t, d)}, new(hubv1.WrapRefreshResponse), map[string]int{"b.example": 1}, events(alice, 0, 2), mmrerr.OK, nil}
		})
	})
	t.Run("PutGroupInfo", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice := w.room(sealed)
			info, err := alice.g.GroupInfo(member.GroupInfoOptions{WithoutTree: true})
			if err != nil {
				w.t.Fatal(err)
			}
			return alice, walked{alice.call(seal.MethodPutGroupInfo), &hubv1.PutGroupInfoRequest{GroupInfo: info}, new(hubv1.PutGroupInfoResponse), nil, events(alice, 0, 0), mmrerr.OK, nil}
		})
	})
	t.Run("PutSeals", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice := w.room(sealed)
			bob := alice.add("b.example")
			ss := w.moreSeals(3)
			return alice, walked{bob.call(seal.MethodPutSeals), &hubv1.PutSealsRequest{KeyId: 1, Seals: ss}, new(hubv1.PutSealsResponse), nil, func() error {
				n, err := bob.putSeals(1, ss)
				if err == nil && n != 3 {
					return errors.New("not three seals are stored")
				}
				return err
			}, mmrerr.OK, nil}
		})
	})
	t.Run("JoinState", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice := w.room(sealed)
			bob := alice.add("b.example")
			c := bob.call(seal.MethodJoinState)
			c.kind, c.leaf = seal.AuthNewLeaf, 0
			return alice, walked{c, &hubv1.JoinStateRequest{Epoch: 1, SignatureKey: bob.signer.Public()}, new(hubv1.JoinStateResponse), nil, events(bob, 0, 0), mmrerr.OK, nil}
		})
	})
	t.Run("ReportCommit", func(t *testing.T) {
		walk(t, func(w *world) (*party, walked) {
			alice := w.room(sealed)
			bob := alice.add("b.example")
			hash := hashOf(bob.added.req.GetCommit())
			return alice, walked{bob.call(seal.MethodReportCommit), &hubv1.ReportCommitRequest{Epoch: 0, CommitHash: hash}, new(hubv1.ReportCommitResponse), map[string]int{"a.example": 1, "b.example": 1}, events(alice, 0, 2), mmrerr.OK, nil}
		})
	})
}
