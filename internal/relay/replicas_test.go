package relay_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// interleave lets calls of a store wait for a moment, so that callers at the same
// time meet between any two of them.
func interleave(string) (bool, error) {
	time.Sleep(rand.N(time.Millisecond))
	return true, nil
}

// replicas are two relays on the same stores.
func replicas(t *testing.T, limits relay.Limits) [2]*world {
	t.Helper()
	w := newWorld(t)
	w.stop()
	w.limits = limits
	w.start(interleave)
	x := &world{t: t, queues: w.queues, mailboxes: w.mailboxes, packages: w.packages, accounts: w.accounts, keys: w.keys, limits: limits}
	x.start(interleave)
	t.Cleanup(func() { x.stop() })
	return [2]*world{w, x}
}

// rush is what many callers do at once, each through one of two replicas, until a
// limit is reached.
type rush struct {
	callers int
	call    func(w *world, i int) error
	refused mmrerr.Code // of what is beyond the limit; OK: callers are not told
	want    int         // how many may succeed, or be there
	count   func() int  // what is there then; nil: as many as succeeded
}

// rushes are all limits that hold for a provider as a whole.
var rushes = map[string]struct {
	limits  relay.Limits
	prepare func(w *world) rush
}{
	"tokens of an account and day": {relay.Limits{TokensPerDay: 10}, func(w *world) rush {
		u := w.user("anna")
		pub := w.keys.Issuer().Published(time.Now())[0].Key
		return rush{callers: 30, want: 10, refused: mmrerr.RateLimited, call: func(w *world, _ int) error {
			r, err := token.NewRequest(pub, token.Challenge{Issuer: own, Audience: seal.ProviderAudience(own)})
			w.must(err)
			_, err = w.account(u).IssueTokens(w.t.Context(), &relayv1.IssueTokensRequest{TruncatedTokenKeyId: uint32(pub.ID().Truncated()), Blinded: [][]byte{r.Blinded()}})
			return err
		}}
	}},
	"redemptions of a token": {relay.Limits{}, func(w *world) rush {
		tok := w.token(seal.ProviderAudience(own))
		return rush{callers: 20, want: 1, refused: mmrerr.TokenSpent, call: func(w *world, _ int) error {
			k := newKey(w)
			a := w.ask(seal.MethodQueueCreate, seal.AuthQueue, k, false, &relayv1.QueueCreateRequest{ReadKey: k.Public().Bytes()}, new(relayv1.QueueCreateResponse))
			a.token = tok
			return a.send(w)
		}}
	}},
	"accounts of a name": {relay.Limits{}, func(*world) rush {
		return rush{callers: 20, want: 1, refused: mmrerr.Malformed, call: func(w *world, i int) error {
			_, req, _ := w.registration("zoe", fmt.Sprint("zoe-", i))
			_, err := relayv1.NewAccountServiceClient(w.dial(w.clients, nil)).Register(w.t.Context(), req)
			return err
		}}
	}},
	"connection packages": {relay.Limits{}, func(w *world) rush {
		u := w.user("anna")
		for range 2 {
			w.must(w.publish(u, w.connectionPackages(u, 60)))
		}
		return rush{callers: 20, want: 8, refused: mmrerr.Limit, call: func(w *world, _ int) error {
			return w.publish(u, w.connectionPackages(u, 1))
		}}
	}},
	"waiting connection requests": {relay.Limits{ConnectionBox: 10}, func(w *world) rush {
		u := w.user("anna")
		req := w.connectionPackages(u, 1)
		w.must(w.publish(u, req))
		ref := w.packageRef(req.GetPackages()[0])
		return rush{
			callers: 30, want: 10, call: func(w *world, _ int) error { return w.request(ref).send(w) },
			count: func() int { return len(w.waiting(u)) },
		}
	}},
	"blocked handles of a mailbox": {relay.Limits{}, func(w *world) rush {
		m := w.mailbox()
		const most, there = 10_000, 9_990
		for i := 0; i < there; i += kv.MaxOps {
			var ops []kv.Op
			for j := i; j < min(i+kv.MaxOps, there); j++ {
				ops = append(ops, kv.Op{Key: kv.Key{Group: relay.MailboxGroup(m.id), Name: relay.PrefixBlock + fmt.Sprintf("%016d", j)}, Value: []byte{1}})
			}
			_, err := w.mailboxes.Apply(w.t.Context(), ops)
			w.must(err)
		}
		return rush{callers: 20, want: most - there, refused: mmrerr.Limit, call: func(w *world, _ int) error {
			return w.block(m, [16]byte(random(16))).send(w)
		}}
	}},
	"sets of a pool": {relay.Limits{}, func(w *world) rush {
		p := w.pool(31)
		for range 2 {
			a, _ := w.upload(p, 30)
			w.mustAsk(a)
		}
		var mu sync.Mutex // w.set notes what it makes
		return rush{callers: 16, want: 6, refused: mmrerr.PoolFull, call: func(w *world, _ int) error {
			mu.Lock()
			set := w.set(p, false)
			mu.Unlock()
			return w.ask(seal.MethodPoolUpload, seal.AuthPool, p.key, true, &relayv1.PoolUploadRequest{PoolId: p.id, Sets: []*relayv1.PoolSet{set}}, new(relayv1.PoolUploadResponse)).send(w)
		}}
	}},
	"fetches from a pool in an hour": {relay.Limits{}, func(w *world) rush {
		p := w.pool(3)
		return rush{callers: 24, want: 10, refused: mmrerr.NoConsent, call: func(w *world, _ int) error {
			a, _ := w.adder(p)
			return a.send(w)
		}}
	}},
	"entries of a mailbox": {relay.Limits{Queue: queue.Limits{MaxEntries: 10}}, func(w *world) rush {
		m := w.mailbox()
		return rush{callers: 20, want: 10, call: func(w *world, i int) error {
			_, err := w.batch([]*item{w.to(m, fmt.Appendf(nil, "item %11d", i)), w.to(m, fmt.Appendf(nil, "more %11d", i))})
			return err
		}, count: func() int { return len(w.entries(m)) }}
	}},
	"bytes of a mailbox": {relay.Limits{Queue: queue.Limits{MaxBytes: 10*512 + 511}}, func(w *world) rush {
		m := w.mailbox()
		return rush{callers: 30, want: 10, call: func(w *world, i int) error {
			_, err := w.batch([]*item{w.to(m, fmt.Appendf(nil, "item %11d", i))})
			return err
		}, count: func() int { return len(w.entries(m)) }}
	}},
	// What is counted by each process, as docs/operations.md says: as many times as
	// there are replicas. Half a minute's allowance may come at once.
	"forwarded requests of an account, by process": {relay.Limits{ForwardPerMinute: 2}, func(w *world) rush {
		u := w.user("anna")
		return rush{callers: 30, want: 2, refused: mmrerr.RateLimited, call: func(w *world, _ int) error {
			_, err := relayv1.NewForwardServiceClient(w.dial(w.clients, u.session)).Forward(w.t.Context(), &relayv1.ForwardRequest{
				TargetDomain: partner, Role: relayv1.Role_ROLE_PROVIDER, Encapsulated: make([]byte, 512),
			})
			return err
		}}
	}},
}

// TestLimitsHoldOverReplicas: many callers at once, through two relays on the same
// stores, get what a limit allows to the last place, and not one more.
func TestLimitsHoldOverReplicas(t *testing.T) {
	for name, x := range rushes {
		t.Run(name, func(t *testing.T) {
			ws := replicas(t, x.limits)
			r := x.prepare(ws[0])
			var worked, refused atomic.Int64
			var wg sync.WaitGroup
			for i := range r.callers {
				wg.Go(func() {
					err := r.call(ws[i%2], i)
					switch {
					case err == nil:
						worked.Add(1)
					case r.refused != mmrerr.OK && codeOf(err) == r.refused:
						refused.Add(1)
					default:
						t.Errorf("caller %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			got := int(worked.Load())
			if r.count != nil {
				if refused.Load() > 0 || got != r.callers {
					t.Errorf("%d callers were told", refused.Load())
				}
				got = r.count()
			}
			if got != r.want {
				t.Errorf("%d are there, the limit allows %d", got, r.want)
			}
		})
	}
}

// TestTakeoverByReplica: a reader at one replica ends when another comes at the
// other, though nothing happens in the mailbox.
func TestTakeoverByReplica(t *testing.T) {
	ws := replicas(t, relay.Limits{})
	m := ws[0].mailbox()
	listen := func(w *world) *reader {
		t.Helper()
		s, err := w.listen(m, 0)
		w.must(err)
		if res, err := s.Recv(); err != nil || res.GetBatch() == nil {
			t.Fatalf("no first page: %v", err)
		}
		return s
	}
	older := listen(ws[0])
	for i := range 4 {
		newer := listen(ws[(i+1)%2])
		res, err := older.Recv()
		if err != nil || res.GetEnd().GetReason() != relayv1.EndReason_END_REASON_REPLACED {
			t.Fatalf("the older reader is told %v, %v", res, err)
		}
		older = newer
	}
	ws[0].deliver(ws[0].to(m, random(16)))
	if res, err := older.Recv(); err != nil || len(res.GetBatch().GetEntries()) != 1 {
		t.Errorf("the newest reader gets %v, %v", res, err)
	}
}
