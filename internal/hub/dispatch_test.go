package hub_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"

	deliveryv1 "github.com/mmrelay/mmrelay/gen/mmr/delivery/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/kv/kvtest"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/internal/redact"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// The tests of this file run in bubbles of virtual time, so that backoff, waiting
// lanes and leases cost nothing. Their keys are of the time at which bubbles begin.

const destination = "a.example"

// bubbleKeys makes the keys of a hub and a relay once.
func bubbleKeys(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(materialRoot, "bubble")
	if _, err := os.Stat(filepath.Join(dir, "trust")); err == nil {
		return dir
	}
	dirs := []string{filepath.Join(dir, hubDomain), filepath.Join(dir, destination)}
	for i, r := range []keys.Role{keys.Hub, keys.Provider} {
		if err := keys.Generate(dirs[i], r, filepath.Base(dirs[i]), nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err := keys.MakeTrust(filepath.Join(dir, "trust"), dirs); err != nil {
		t.Fatal(err)
	}
	return dir
}

// delivered is a relay as a hub sees it: it stores items once, whatever it answers.
type delivered struct {
	deliveryv1.UnimplementedDeliveryServiceServer
	answer func(address string, nth int) byte // for the n-th item that comes to an address
	refuse func() error                       // of a stream; nil: none is

	mu      sync.Mutex // guards all below
	came    map[string]int
	items   map[string]bool     // ids that were stored
	stored  map[string][]string // envelopes by address
	batches int
}

func (d *delivered) Deliver(s deliveryv1.DeliveryService_DeliverServer) error {
	if d.refuse != nil {
		if err := d.refuse(); err != nil {
			return err
		}
	}
	for {
		req, err := s.Recv()
		if err != nil {
			return err // the hub has gone
		}
		if err := s.Send(&deliveryv1.DeliverResponse{Status: d.take(req.GetItems())}); err != nil {
			return err
		}
	}
}

func (d *delivered) take(items []*deliveryv1.Item) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.batches++
	late := make(map[string]bool) // nothing overtakes what comes again (SPEC.md R-52)
	var status []byte
	for _, it := range items {
		a := string(it.GetSealed())
		d.came[a]++
		st := byte(0)
		if d.answer != nil {
			st = d.answer(a, d.came[a])
		}
		if late[a] = late[a] || st == 3; late[a] {
			st = 3
		}
		status = append(status, st)
		if st != 0 || d.items[string(it.GetItemId())] {
			continue
		}
		d.items[string(it.GetItemId())] = true
		d.stored[a] = append(d.stored[a], string(it.GetEnvelope()))
	}
	return status
}

func (d *delivered) seen() (batches int, stored map[string][]string, came map[string]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.batches, maps.Clone(d.stored), maps.Clone(d.came)
}

// dispatching is a hub with one destination, in a bubble.
type dispatching struct {
	t      *testing.T
	dir    string
	store  *kv.Memory
	outbox *queue.Memory
	relay  *delivered
	lis    *bufconn.Listener
}

func newDispatching(t *testing.T, answer func(address string, nth int) byte) *dispatching {
	t.Helper()
	d := &dispatching{t: t, dir: bubbleKeys(t), store: kv.NewMemory(), outbox: queue.NewMemory(), lis: bufconn.Listen(1 << 16)}
	d.relay = &delivered{answer: answer, came: make(map[string]int), items: make(map[string]bool), stored: make(map[string][]string)}
	cert, pool := d.tls(destination)
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(cert.ServerTLS(pool.Roots(), true))))
	deliveryv1.RegisterDeliveryServiceServer(s, d.relay)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(d.lis) // ends with Stop
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return d
}

// tls is the certificate of a service and the peers that it has.
func (d *dispatching) tls(domain string) (*grpcserver.Certificate, *peer.Set) {
	d.t.Helper()
	cert, err := grpcserver.LoadCertificate(filepath.Join(d.dir, domain, "tls.crt"), filepath.Join(d.dir, domain, "tls.key"))
	if err != nil {
		d.t.Fatal(err)
	}
	roots, err := keys.Pool(filepath.Join(d.dir, "trust", "operators.pem"))
	if err != nil {
		d.t.Fatal(err)
	}
	set, err := peer.New(cert, roots, []peer.Peer{{Name: peer.Name{Role: peer.Provider, Domain: destination}, Addr: "relay"}},
		peer.WithDialer(func(ctx context.Context, _ string) (net.Conn, error) { return d.lis.DialContext(ctx) }))
	if err != nil {
		d.t.Fatal(err)
	}
	return cert, set
}

// quiet keeps the leases of sweeps from a failpoint: they are not the path.
func quiet(s kv.Store, p *queuetest.Failpoint) kv.Store {
	return &pathKV{Store: s, faulty: kvtest.Faulty(s, p.Fault)}
}

type pathKV struct {
	kv.Store
	faulty kv.Store
}

func (k *pathKV) Get(ctx context.Context, key kv.Key) (kv.Record, error) {
	return k.faulty.Get(ctx, key)
}

func (k *pathKV) GetMany(ctx context.Context, group string, names []string) ([]kv.Record, error) {
	return k.faulty.GetMany(ctx, group, names)
}

func (k *pathKV) Apply(ctx context.Context, ops []kv.Op) ([]kv.Version, error) {
	if g, n := ops[0].Key.Group, ops[0].Key.Name; g == "lease" && n == "sweep" || g == "sweep" {
		return k.Store.Apply(ctx, ops)
	}
	return k.faulty.Apply(ctx, ops)
}

// start starts a hub process whose stores ask a failpoint, and returns what ends it.
func (d *dispatching) start(p *queuetest.Failpoint) (stop func()) {
	d.t.Helper()
	ks, err := keys.Load(filepath.Join(d.dir, hubDomain), keys.Hub, hubDomain)
	if err != nil {
		d.t.Fatal(err)
	}
	_, peers := d.tls(hubDomain)
	h, err := hub.New(hub.Config{
		Domain: hubDomain, Keys: ks, Peers: peers, Store: quiet(d.store, p), Outbox: queuetest.Faulty(d.outbox, p.Fault),
		Logger: redact.NewLogger(os.Stderr, slog.LevelError+1), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		d.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { h.Close(); peers.Close() })
	d.t.Cleanup(stop)
	return stop
}

func (d *dispatching) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// put puts n rows for one leaf into the outbox.
func (d *dispatching) put(lane, address string, n int) (envelopes []string) {
	d.t.Helper()
	for i := range n {
		e := fmt.Sprintf("%s %d", lane, i)
		d.must(hub.PutRow(context.Background(), d.outbox, destination, name16(lane), name16(e), []byte(address), []byte(e)))
		envelopes = append(envelopes, e)
	}
	return envelopes
}

func name16(s string) string { return fmt.Sprintf("%-16.16s", s) }

func (d *dispatching) waiting() int {
	d.t.Helper()
	st, err := d.outbox.Stat(context.Background(), hub.OutboxID(destination))
	d.must(err)
	return st.Entries
}

// emptied waits until the outbox is empty, for a time.
func (d *dispatching) emptied(within time.Duration) bool {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if d.waiting() == 0 {
			return true
		}
	}
	return false
}

// TestWalkDispatch cuts the way of envelopes from the outbox to the relay at every
// write: the lease, one-time addresses, the reports of what is gone, the
// acknowledgement. Whatever the relay answered, each envelope is stored once, a
// leaf's in their order; a leaf that is gone is reported and holds up nobody; a
// one-time address is used once.
func TestWalkDispatch(t *testing.T) {
	queuetest.Walk(t, func(t *testing.T, p *queuetest.Failpoint) {
		synctest.Test(t, func(t *testing.T) {
			d := newDispatching(t, func(address string, nth int) byte {
				switch {
				case address == "slow" && nth <= 2:
					return 3 // later
				case address == "gone":
					return 1
				case address == "worn 2":
					return 2 // bad: a one-time address that the relay does not take
				}
				return 0
			})
			want := map[string][]string{"plain": d.put("plain", "plain", 3), "slow": d.put("slow", "slow", 3)}
			d.put("gone", "gone", 2)
			d.put("left", "left", 2)
			d.must(hub.StopLane(context.Background(), d.store, name16("left")))
			worn := d.put("worn", "worn", 3)
			d.must(hub.PutOneTime(context.Background(), d.store, name16("worn"), []byte("worn 1"), []byte("worn 2")))
			plain := d.put("plain again", "plain again", 1)
			want["plain again"] = plain

			stop := d.start(p)
			if p.Halt && !d.emptied(20*time.Second) {
				stop()
				p.Heal()
				d.start(p)
			}
			if !d.emptied(time.Hour) {
				t.Fatalf("%d rows are never delivered", d.waiting())
			}
			time.Sleep(time.Minute) // nothing more comes
			_, stored, came := d.relay.seen()
			var ofWorn []string
			for a, es := range stored {
				switch {
				case a == "worn 1" || a == "worn 2" || a == "worn":
					ofWorn = append(ofWorn, es...)
				case !slices.Equal(es, want[a]):
					t.Errorf("%s got %q, want %q", a, es, want[a])
				}
			}
			for a := range want {
				if stored[a] == nil {
					t.Errorf("%s got nothing", a)
				}
			}
			slices.Sort(ofWorn)
			if !slices.Equal(ofWorn, worn) {
				t.Errorf("the leaf with one-time addresses got %q, want %q", ofWorn, worn)
			}
			for _, a := range []string{"worn 1", "worn 2"} {
				if came[a] > 1 {
					t.Errorf("a one-time address was used %d times", came[a])
				}
			}
			if came["left"] > 0 {
				t.Error("a leaf that is leaving got something")
			}
			if !hub.ReportedGone(context.Background(), d.store, name16("gone")) {
				t.Error("what is gone is not reported")
			}
			if n := hub.OneTimeLeft(context.Background(), d.store, name16("worn")); n != 0 {
				t.Errorf("%d one-time addresses are left", n)
			}
		})
	})
}

// TestLeaseLost: a process that has lost its lease to another one sends nothing
// more from the time on at which it would have renewed it, until it has it again.
func TestLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		d := newDispatching(t, func(address string, _ int) byte {
			select {
			case <-open:
				return 0
			default:
				return 3
			}
		})
		want := d.put("leaf", "leaf", 3)
		d.start(new(queuetest.Failpoint))
		time.Sleep(20 * time.Second)
		before, _, _ := d.relay.seen()
		if before < 2 {
			t.Fatalf("%d batches: the test tests nothing", before)
		}
		rec, err := d.store.Get(context.Background(), hub.DispatchLease(destination))
		d.must(err)
		d.must(kv.Delete(context.Background(), d.store, rec.Key))
		renew := func() {
			_, err := kv.Acquire(context.Background(), d.store, rec.Key, "another process", time.Now(), time.Minute)
			d.must(err)
		}
		renew()
		time.Sleep(6 * time.Second) // longer than it goes without renewing
		lost, _, _ := d.relay.seen()
		for range 10 {
			renew()
			time.Sleep(5 * time.Second)
		}
		if now, _, _ := d.relay.seen(); now != lost {
			t.Errorf("%d batches were sent without the lease", now-lost)
		}
		close(open)
		if !d.emptied(time.Minute) {
			t.Fatal("nothing is delivered when the lease is free again")
		}
		if _, stored, _ := d.relay.seen(); !slices.Equal(stored["leaf"], want) {
			t.Errorf("the leaf got %q, want %q", stored["leaf"], want)
		}
	})
}

// TestTwoDispatchers: two processes that both believe they hold the lease, as when
// one stood still, store nothing twice and leave nothing undelivered.
func TestTwoDispatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatching(t, func(_ string, nth int) byte {
			if nth <= 45 {
				return 3
			}
			return 0
		})
		want := d.put("leaf", "leaf", 20)
		first := d.store
		d.start(new(queuetest.Failpoint))
		d.store = kv.NewMemory() // whose leases the first does not see
		d.start(new(queuetest.Failpoint))
		d.store = first
		if !d.emptied(time.Hour) {
			t.Fatal("the outbox is never empty")
		}
		if _, stored, _ := d.relay.seen(); !slices.Equal(stored["leaf"], want) {
			t.Errorf("the leaf got %d envelopes, want %d, each once and in order", len(stored["leaf"]), len(want))
		}
	})
}
