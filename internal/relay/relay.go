// Package relay is the provider's side of mmrelay: accounts and their
// certificates and tokens, anonymous mailboxes, KeyPackage pools, connection
// requests, delivery from hubs, and forwarding of its clients' opaque requests.
//
// One process runs all of it, in parts that share no key: the account store
// (who the users are), the package store (pools, by hash of a token) and the
// queue store (mailboxes) have no common identifier, so that what one of them
// shows cannot be joined with another (DESIGN.md section 5, SPEC.md R-68).
//
//	clients ── AccountService   account session (mutual TLS)
//	        ── ForwardService   account session or token; sees target and bucket
//	        ── GatewayService   anonymous; provider methods, encapsulated
//	        ── MailboxService   read key
//	peers   ── GatewayService   mutual TLS; provider methods, encapsulated
//	        ── DeliveryService  mutual TLS, configured hubs only
//
// What the relay sees is stated in docs/threat-model.md: accounts and, for each
// forwarded request, target domain, bucket and time; per mailbox, arrival
// times, buckets and sealed addresses. It never sees a room, a pseudonym's
// activity, a sender or a message type.
package relay

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	deliveryv1 "github.com/mmrelay/mmrelay/gen/mmr/delivery/v1"
	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/internal/redeem"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Config describes a relay.
type Config struct {
	// Domain is the provider's domain, as in its users' identifiers.
	Domain string
	// Keys are the provider's keys.
	Keys *keys.Set
	// Peers are the hubs and providers this relay forwards to; hubs among them may deliver.
	Peers *peer.Set
	// Queues holds the mailboxes' entries and Mailboxes their read keys and blocks.
	Queues    queue.Store
	Mailboxes kv.Store
	// Packages holds KeyPackage pools, and the gateway's replay cache and spent tokens.
	Packages kv.Store
	// Volatile says that Packages does not outlive the process: requests from
	// before its start are refused, since nobody remembers them (SPEC.md R-65).
	Volatile bool
	// Accounts holds everything that knows a user: accounts, connection packages
	// and requests. It is the only store with real identifiers.
	Accounts kv.Store
	// Logger and Registerer receive what may be observed.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Registration is how accounts are created.
	Registration Registration
	// Limits bound everything; zero fields mean the defaults of SPEC.md §19.
	Limits Limits
	// DeliverLatency is the minimum time a delivery batch takes, so that its
	// answer does not tell what happened inside (SPEC.md R-53). 0 means 5 ms.
	DeliverLatency time.Duration
	// Push wakes clients that are not listening.
	Push Push
	// Middleware, if not nil, wraps the handlers behind the gateway.
	Middleware gateway.Middleware
}

// Registration says who may register.
type Registration struct {
	// Open lets anybody register. Otherwise Code must be presented.
	Open bool
	// Code is compared in constant time.
	Code string
}

// Limits are the operator's limits. Zero fields mean the defaults.
type Limits struct {
	TokensPerDay     int // per account and UTC day; default 500
	ForwardPerMinute int // per account; default 600
	Queue            queue.Limits
	ConnectionBox    int // waiting requests per user; default 256
}

// Relay is a running provider.
type Relay struct {
	cfg      Config
	metrics  *metrics
	gateway  *gateway.Gateway
	redeemer *redeem.Redeemer
	seals    *sealCache
	rates    *rates
	push     *pusher // nil: no wake-ups

	ctx      context.Context // of periodic work, ends with stopping
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	stopping chan struct{}
	stopOnce sync.Once
}

// New builds a relay and starts its periodic work; Close ends it.
func New(cfg Config) (*Relay, error) {
	if cfg.Domain == "" || cfg.Keys == nil || cfg.Peers == nil || cfg.Queues == nil || cfg.Mailboxes == nil || cfg.Packages == nil || cfg.Accounts == nil {
		return nil, errors.New("relay: incomplete configuration")
	}
	if cfg.DeliverLatency == 0 {
		cfg.DeliverLatency = 5 * time.Millisecond
	}
	if err := cfg.Push.valid(); err != nil {
		return nil, err
	}
	cfg.Limits = cfg.Limits.withDefaults()
	r := &Relay{cfg: cfg, metrics: newMetrics(cfg.Registerer), seals: newSealCache(100_000), rates: newRates(cfg.Limits.ForwardPerMinute), stopping: make(chan struct{})}
	r.redeemer = redeem.New(redeem.Config{
		Spent: cfg.Packages, Peers: cfg.Peers, OwnDomain: cfg.Domain, Own: cfg.Keys.TokenKeys,
	})
	var began time.Time
	if cfg.Volatile {
		began = time.Now()
	}
	r.gateway = gateway.New(gateway.Config{
		ForgetsSince: began,
		Audience:     "provider:" + cfg.Domain, Keys: cfg.Keys, Replay: cfg.Packages, Redeemer: r.redeemer,
		Methods: r.methods(), Middleware: cfg.Middleware, Registerer: cfg.Registerer, Logger: cfg.Logger,
	})
	if len(cfg.Peers.Domains(peer.Hub)) == 0 {
		cfg.Logger.Error("configuration: no hub is configured, so clients cannot reach any room", "reason", "no-hub")
	}
	if ds := append(cfg.Peers.Domains(peer.Hub), cfg.Peers.Domains(peer.Provider)...); onlyOwn(ds, cfg.Domain) {
		// SPEC.md R-60: forwarding to oneself hides nothing.
		cfg.Logger.Error("configuration: this relay's own domain is its only target: forwarding hides no address", "reason", "own-target-only")
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.maintain)
	if cfg.Push.URL != "" {
		r.push = newPusher(r, cfg.Push)
		r.wg.Go(r.push.run)
	}
	return r, nil
}

func onlyOwn(domains []string, own string) bool {
	for _, d := range domains {
		if d != own {
			return false
		}
	}
	return len(domains) > 0
}

// RegisterClients registers the services of the client listener.
func (r *Relay) RegisterClients(s grpc.ServiceRegistrar) {
	relayv1.RegisterAccountServiceServer(s, &AccountService{r: r})
	relayv1.RegisterForwardServiceServer(s, &ForwardService{r: r})
	relayv1.RegisterMailboxServiceServer(s, newMailboxService(r))
	gatewayv1.RegisterGatewayServiceServer(s, &anonymousGateway{r: r})
}

// RegisterPeers registers the services of the peer listener.
func (r *Relay) RegisterPeers(s grpc.ServiceRegistrar) {
	gatewayv1.RegisterGatewayServiceServer(s, r.gateway)
	deliveryv1.RegisterDeliveryServiceServer(s, &DeliveryService{r: r})
}

// Stop ends periodic work, and listening streams with a reason, so that a graceful
// stop need not wait for them.
func (r *Relay) Stop() {
	r.stopOnce.Do(func() {
		close(r.stopping)
		r.cancel()
	})
}

// Close stops the relay and waits for its periodic work: afterwards it uses its
// stores for calls under way only.
func (r *Relay) Close() {
	r.Stop()
	r.wg.Wait()
}

// Ready reports whether the relay can do its work: its stores answer and it has
// valid keys.
func (r *Relay) Ready(ctx context.Context) error {
	for _, s := range []kv.Store{r.cfg.Accounts, r.cfg.Packages, r.cfg.Mailboxes} {
		if _, err := s.Get(ctx, kv.Key{Group: "ready", Name: "ready"}); err != nil && !errors.Is(err, kv.ErrNotFound) {
			return err
		}
	}
	if _, err := r.cfg.Queues.Stat(ctx, "ready"); err != nil && !errors.Is(err, queue.ErrNotFound) {
		return err
	}
	return r.cfg.Keys.Valid(time.Now())
}

func (l Limits) withDefaults() Limits {
	if l.TokensPerDay == 0 {
		l.TokensPerDay = 500
	}
	if l.ForwardPerMinute == 0 {
		l.ForwardPerMinute = 600
	}
	if l.ConnectionBox == 0 {
		l.ConnectionBox = 256
	}
	l.Queue = l.Queue.WithDefaults()
	return l
}
