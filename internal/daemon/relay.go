package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// RelayConfig is the relay's command line.
type RelayConfig struct {
	Common       `embed:""`
	Listen       string `help:"Address for clients (TLS)." default:"127.0.0.1:7444"`
	AddrFile     string `help:"Write the client address that was bound to this file." placeholder:"FILE"`
	PeerListen   string `help:"Address for hubs and other relays (mutual TLS)." default:"127.0.0.1:7445"`
	PeerAddrFile string `help:"Write the peer address that was bound to this file." placeholder:"FILE"`

	Store           string `help:"Where everything is unless a store below says otherwise: memory:, pebble:DIR, redis://..., rediss://..., redis+unix://..., redis+cluster://..." default:"pebble:./data/relay"`
	StoreURL        string `help:"File whose first line is the store, for URLs with a password; overrides --store." type:"existingfile" placeholder:"FILE" name:"store-file"`
	AccountStore    string `help:"Store of accounts, the only one with real identifiers." placeholder:"STORE"`
	KeypackageStore string `help:"Store of KeyPackage pools, replay cache and spent tokens." placeholder:"STORE"`
	QueueStore      string `help:"Store of mailboxes." placeholder:"STORE"`

	OpenRegistration     bool          `help:"Let anybody create an account."`
	RegistrationCodeFile string        `help:"File whose first line must be presented to create an account." type:"existingfile" placeholder:"FILE"`
	TokensPerDay         int           `help:"Tokens per account and UTC day." default:"500"`
	ForwardPerMinute     int           `help:"Forwarded requests per account and minute." default:"600"`
	QueueEntries         int           `help:"Entries that a mailbox holds at most." default:"10000"`
	QueueBytes           int64         `help:"Bytes that a mailbox holds at most." default:"67108864"`
	QueueAge             time.Duration `help:"How long a mailbox keeps an entry; its owner can only shorten it." default:"720h"`
	PushWebhook          string        `help:"URL that is told which mailboxes got entries, by the push tokens of their owners, in batches; https, or http on this machine." placeholder:"URL"`
	PushInterval         time.Duration `help:"How long wake-ups are collected." default:"5s"`
}

// RunRelay runs a relay until ctx ends.
func RunRelay(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var cfg RelayConfig
	if done, err := parse(&cfg, "relay", "A provider: accounts, anonymous mailboxes, KeyPackages, forwarding, delivery.", args, stdout, stderr); done || err != nil {
		return err
	}
	reg, err := cfg.registration()
	if err != nil {
		return err
	}
	b, err := cfg.open(keys.Provider, stderr)
	if err != nil {
		return err
	}
	defer b.peers.Close()
	stores, err := cfg.stores(ctx)
	if err != nil {
		return err
	}
	defer stores.close()
	tap, err := cfg.Tap.open()
	if err != nil {
		return err
	}
	defer tap.close()
	prefixed := prometheus.WrapRegistererWithPrefix("mmr_relay_", b.registry)
	r, err := relay.New(relay.Config{
		Domain: cfg.Domain, Keys: b.keys, Peers: b.peers, Logger: b.log, Registerer: prefixed, Registration: reg,
		Queues: stores.queues.Queue, Mailboxes: stores.queues.KV, Packages: stores.packages.KV, Volatile: stores.volatile, Accounts: stores.accounts.KV,
		Limits:     relay.Limits{TokensPerDay: cfg.TokensPerDay, ForwardPerMinute: cfg.ForwardPerMinute, Queue: queue.Limits{MaxEntries: cfg.QueueEntries, MaxBytes: cfg.QueueBytes, MaxAge: cfg.QueueAge}},
		Push:       relay.Push{URL: cfg.PushWebhook, Interval: cfg.PushInterval},
		Middleware: tap.middleware(),
	})
	if err != nil {
		return err
	}
	defer r.Close()
	clients, err := grpcserver.Listen(cfg.Listen, cfg.AddrFile)
	if err != nil {
		return err
	}
	peers, err := grpcserver.Listen(cfg.PeerListen, cfg.PeerAddrFile)
	if err != nil {
		return errors.Join(err, clients.Close())
	}
	cs := grpcserver.New(grpcserver.Config{
		MaxConnections: cfg.MaxConnections, MaxCalls: cfg.MaxCalls,
		TLS: b.cert.ServerTLS(b.keys.ClientCAs(), false), Logger: b.log, SmallBuffers: true,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"listener": "client"}, prefixed), Options: tap.options("client"),
	})
	r.RegisterClients(cs)
	ps := grpcserver.New(grpcserver.Config{
		MaxConnections: cfg.MaxConnections, MaxCalls: cfg.MaxCalls,
		TLS: b.cert.ServerTLS(b.peers.Roots(), true), Logger: b.log, MaxMessage: 4 << 20,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"listener": "peer"}, prefixed), Options: tap.options("peer"),
	})
	r.RegisterPeers(ps)
	b.stores = store.Set{"accounts": stores.accounts, "packages": stores.packages, "queues": stores.queues}
	return cfg.run(ctx, b, r.Ready, r.Stop, listener{cs, clients}, listener{ps, peers})
}

func (c *RelayConfig) registration() (relay.Registration, error) {
	switch {
	case c.OpenRegistration && c.RegistrationCodeFile != "":
		return relay.Registration{}, fmt.Errorf("%w: only one of --open-registration and --registration-code-file can be given", errUsage)
	case c.OpenRegistration:
		return relay.Registration{Open: true}, nil
	case c.RegistrationCodeFile == "":
		return relay.Registration{}, fmt.Errorf("%w: one of --open-registration and --registration-code-file must be given\nhint: nobody could create an account otherwise", errUsage)
	}
	code, err := firstLine(c.RegistrationCodeFile)
	if err != nil {
		return relay.Registration{}, err
	}
	if code == "" {
		return relay.Registration{}, fmt.Errorf("%w: the first line of --registration-code-file is empty", errUsage)
	}
	return relay.Registration{Code: code}, nil
}

// relayStores are the three stores that share no key.
type relayStores struct {
	accounts, packages, queues *store.Stores
	volatile                   bool // the packages do not outlive the process
}

func (c *RelayConfig) stores(ctx context.Context) (*relayStores, error) {
	base, err := storeURL(c.Store, c.StoreURL)
	if err != nil {
		return nil, err
	}
	s := new(relayStores)
	for _, x := range []struct {
		to        **store.Stores
		own, name string
	}{{&s.accounts, c.AccountStore, "accounts"}, {&s.packages, c.KeypackageStore, "packages"}, {&s.queues, c.QueueStore, "queues"}} {
		url := base
		if x.own != "" {
			url = x.own
		}
		if x.name == "packages" {
			s.volatile = url == "memory:"
		}
		if *x.to, err = store.Open(ctx, url, x.name); err != nil {
			s.close()
			return nil, fmt.Errorf("opening the %s store: %w", x.name, err)
		}
	}
	return s, nil
}

func (s *relayStores) close() {
	for _, st := range []*store.Stores{s.accounts, s.packages, s.queues} {
		if st != nil {
			_ = st.Close() // everything accepted is durable already
		}
	}
}
