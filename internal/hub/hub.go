// Package hub orders and fans out the traffic of rooms (SPEC.md §12). It tracks
// the public state of each room's MLS group, checks structure and roles by
// pseudonym, and sends every accepted event, sealed per recipient, to addresses
// that it cannot open.
//
// The way of a request: internal/gateway opens it; parse.go turns its body into
// typed values; one file per method checks it in the order of SPEC.md R-121 and
// builds the next state of the room; room.go writes state, log row and finished
// outbox rows in one transaction; the answer goes out; outbox.go hands the rows
// to the outboxes; dispatch.go delivers them.
//
// What the hub never has: accounts, real credentials, link keys, mailbox ids,
// tokens of connections, client addresses. What it does see is listed in
// docs/threat-model.md.
package hub

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/internal/redeem"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// groupIDSize is the length of a room's group id in bytes (SPEC.md §8).
const groupIDSize = 32

// Config describes a hub.
type Config struct {
	// Domain is the hub's domain, as in room URIs.
	Domain string
	// Keys are the hub's keys.
	Keys *keys.Set
	// Peers are the providers whose users may be members, with their delivery services.
	Peers *peer.Set
	// Store holds rooms, the replay cache, spent tokens and leases.
	Store kv.Store
	// Volatile says that Store is gone with the process.
	Volatile bool
	// Outbox holds one queue per destination.
	Outbox queue.Store
	// Logger and Registerer receive what may be observed.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// ReleaseInterval collects due envelopes of all rooms and sends them together,
	// shuffled; 0 sends at once (SPEC.md R-78).
	ReleaseInterval time.Duration
	// Rates bound what one leaf may do; zero fields mean the defaults.
	Rates Rates
	// Limits bound rooms and messages; zero fields mean the defaults.
	Limits Limits
	// IdleMonths ends rooms that nobody has used for so many months; 0 keeps them.
	IdleMonths int
	// CoverRate is how many cover events go out with an event that a leaf sends, on
	// average (SPEC.md R-73); 0 is none.
	CoverRate float64
	// ReportRetention is how long reports of abuse are kept; 0 means 30 days.
	ReportRetention time.Duration
	// Middleware, if not nil, wraps the handlers behind the gateway.
	Middleware gateway.Middleware
}

// Rates are limits per leaf or room (SPEC.md §19).
type Rates struct {
	Requests int // of a leaf and minute, default 120
	Commits  int // of a leaf and minute, default 20
	Codes    int // requests by code or sibling proof of a room and minute, default 10
	Resyncs  int // of a leaf and hour, default 5
}

func (r Rates) withDefaults() Rates {
	r.Requests = cmp.Or(r.Requests, 120)
	r.Commits = cmp.Or(r.Commits, 20)
	r.Codes = cmp.Or(r.Codes, 10)
	r.Resyncs = cmp.Or(r.Resyncs, 5)
	return r
}

// Limits of rooms and messages (SPEC.md §19). A room's policy may be stricter.
type Limits struct {
	Leaves         int // of a room, default 1000
	LeavesPerUser  int // of a room, default 10
	Message        int // bytes of an application message's ciphertext, default 262,144
	Proposals      int // of a commit, default 256
	AAD            int // bytes, default and most 65,536
	EventsPerEpoch int // that are followed by no more messages, default 2^20
	LogEvents      int // kept of a room, default 10,000
}

func (l Limits) withDefaults() Limits {
	l.Leaves = cmp.Or(l.Leaves, 1000)
	l.LeavesPerUser = cmp.Or(l.LeavesPerUser, 10)
	l.Message = cmp.Or(l.Message, 262_144)
	l.Proposals = cmp.Or(l.Proposals, 256)
	l.AAD = cmp.Or(l.AAD, 65_536)
	l.EventsPerEpoch = cmp.Or(l.EventsPerEpoch, 1<<20)
	l.LogEvents = cmp.Or(l.LogEvents, 10_000)
	return l
}

// admits reports whether a room's own limits are within the hub's.
func (l Limits) admits(p *pseudonym.Room) bool {
	return int64(p.Limits.MaxLeaves) <= int64(l.Leaves) && int(p.Limits.MaxLeavesPerUser) <= l.LeavesPerUser && int64(p.Limits.MaxMessage) <= int64(l.Message)
}

// Hub is a running hub.
type Hub struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	gateway *gateway.Gateway
	cache   *cache
	dirty   *dirtySet
	flusher *flusher
	locks   *locks
	rates   *rates
	codes   *keyRates // by room
	resyncs *keyRates // by room and client pseudonym
	freeze  frozen

	queueKeys  *queueKeyTable
	owner      string    // this process in leases
	sweeping   *kv.Lease // of maintain, the last one it had
	sweepClaim kv.Claim  // of the same goroutine

	ctx    context.Context // ends when Close begins
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New builds a hub and starts its dispatchers and sweeps; Close ends them.
func New(cfg Config) (*Hub, error) {
	if cfg.Domain == "" || cfg.Keys == nil || cfg.Peers == nil || cfg.Store == nil || cfg.Outbox == nil {
		return nil, errors.New("hub: incomplete configuration")
	}
	cfg.Rates, cfg.Limits = cfg.Rates.withDefaults(), cfg.Limits.withDefaults()
	if cfg.ReportRetention == 0 {
		cfg.ReportRetention = defaultReportsFor
	}
	owner := make([]byte, 16)
	_, _ = rand.Read(owner) // never fails
	h := &Hub{
		cfg: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registerer), cache: newCache(1024), dirty: newDirtySet(),
		locks: newLocks(), rates: newRates(cfg.Rates), codes: newKeyRates(cfg.Rates.Codes, time.Minute), resyncs: newKeyRates(cfg.Rates.Resyncs, time.Hour), queueKeys: newQueueKeyTable(), owner: hex.EncodeToString(owner),
	}
	h.flusher = newFlusher(h)
	h.ctx, h.cancel = context.WithCancel(context.Background())
	var began time.Time
	if cfg.Volatile {
		began = time.Now()
	}
	h.gateway = gateway.New(gateway.Config{
		ForgetsSince: began,
		Audience:     seal.HubAudience(cfg.Domain), Keys: cfg.Keys, Replay: cfg.Store,
		Redeemer: redeem.New(redeem.Config{Spent: cfg.Store, Peers: cfg.Peers}),
		Methods:  h.methods(), Middleware: cfg.Middleware,
		Registerer: cfg.Registerer, Logger: cfg.Logger,
	})
	h.wg.Go(func() { h.maintain(h.ctx) })
	for _, domain := range cfg.Peers.Domains(peer.Provider) {
		h.wg.Go(func() { h.dispatch(h.ctx, domain) })
	}
	return h, nil
}

// Register registers the hub's services on its listener.
func (h *Hub) Register(s grpc.ServiceRegistrar) { gatewayv1.RegisterGatewayServiceServer(s, h.gateway) }

// Close stops dispatchers and sweeps and waits for them. What is pending stays
// in the store and is sent by the next process.
func (h *Hub) Close() {
	h.cancel()
	h.wg.Wait()
}

// background runs f in a goroutine that Close waits for.
func (h *Hub) background(f func(context.Context)) {
	h.wg.Go(func() { f(h.ctx) })
}

// Ready reports whether the hub can do its work.
func (h *Hub) Ready(ctx context.Context) error {
	if _, err := h.cfg.Store.Get(ctx, kv.Key{Group: "ready", Name: "ready"}); err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	if _, err := h.cfg.Outbox.Stat(ctx, "ready"); err != nil && !errors.Is(err, queue.ErrNotFound) {
		return err
	}
	return h.cfg.Keys.Valid(time.Now())
}

// sweepEvery is how often a replica looks for pending rows and expired cache entries.
const sweepEvery = 10 * time.Second

// maintain runs the periodic work. The sweep is one replica's at a time.
func (h *Hub) maintain(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	h.sweepOnce(ctx) // what an earlier process left
	for {
		select {
		case <-ctx.Done():
			h.releaseSweep()
			return
		case <-t.C:
			h.cache.sweep()
			h.sweepOnce(ctx)
		}
	}
}

var sweepLease = kv.Key{Group: "lease", Name: "sweep"}

// releaseSweep lets the next process sweep at once.
func (h *Hub) releaseSweep() {
	if h.sweeping == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = kv.Release(ctx, h.cfg.Store, sweepLease, *h.sweeping) // it ends by itself if this does not work
}

func (h *Hub) sweepOnce(ctx context.Context) {
	lease, err := h.sweepClaim.Acquire(ctx, h.cfg.Store, sweepLease, h.owner, time.Now(), 3*sweepEvery)
	if err != nil {
		return // another replica sweeps, or the store is away
	}
	h.sweeping = &lease
	for _, f := range []func(context.Context) error{h.sweepPending, h.repeatFirstContacts, func(ctx context.Context) error { return h.sweepIdle(ctx, time.Now()) }} {
		if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
			h.log.Warn("sweep did not finish", "err_class", "store")
		}
	}
}

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
