package daemon

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/store"
)

// HubConfig is the hub's command line.
type HubConfig struct {
	Common   `embed:""`
	Listen   string `help:"Address for the relays that forward requests (mutual TLS)." default:"127.0.0.1:7443"`
	AddrFile string `help:"Write the address that was bound to this file." placeholder:"FILE"`
	Store    string `help:"Where rooms and outboxes are: memory:, pebble:DIR, redis://..., rediss://..., redis+unix://..., redis+cluster://..." default:"pebble:./data/hub"`
	StoreURL string `help:"File whose first line is the store, for URLs with a password; overrides --store." type:"existingfile" placeholder:"FILE" name:"store-file"`

	ReleaseInterval   time.Duration `help:"Collect envelopes of all rooms for this long and send them together, shuffled; 0 sends at once." default:"0s"`
	RequestsPerMinute int           `help:"Requests per leaf and minute." default:"120"`
	CoverRate         float64       `help:"Cover events that go out with an event, on average; from 1 on the sender gets an envelope like everybody else." default:"0"`
	CommitsPerMinute  int           `help:"Commits per leaf and minute." default:"20"`
	CodesPerMinute    int           `help:"Requests by join code or sibling proof per room and minute." default:"10"`
	ResyncsPerHour    int           `help:"Resyncs per leaf and hour." default:"5"`
	RoomIdleMonths    int           `help:"Delete rooms that nobody has used for so many months; 0 keeps them." default:"13"`

	MaxLeaves        int `help:"Leaves of a room; a room's own limit may be lower." default:"1000"`
	MaxLeavesPerUser int `help:"Leaves of a user in a room." default:"10"`
	MaxMessage       int `help:"Bytes of an application message's ciphertext." default:"262144"`
	MaxProposals     int `help:"Proposals of a commit." default:"256"`
	MaxAAD           int `help:"Bytes of authenticated data of a message, at most 65536." default:"65536" name:"max-aad"`
	EventsPerEpoch   int `help:"Events after which a room takes no messages until somebody commits." default:"1048576"`
	LogEvents        int `help:"Events of a room that members can catch up on; older ones than 14 days go anyway." default:"10000"`

	ReportRetention time.Duration `help:"How long reports of abuse are kept." default:"720h"`
	Moderation      bool          `help:"Serve reports of abuse, mute and unfreeze under /hub/ of the admin listener. Whoever reaches it reads what was reported."`
	Unfreeze        bool          `help:"The operator has verified that no room of the restored store is behind what its members saw: let rooms change again."`
}

// RunHub runs a hub until ctx ends.
func RunHub(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var cfg HubConfig
	if done, err := parse(&cfg, "hub", "Orders and fans out rooms; sees pseudonyms and sealed addresses only.", args, stdout, stderr); done || err != nil {
		return err
	}
	b, err := cfg.open(keys.Hub, stderr)
	if err != nil {
		return err
	}
	defer b.peers.Close()
	url, err := storeURL(cfg.Store, cfg.StoreURL)
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, url, "hub")
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	defer func() { _ = st.Close() }() // everything accepted is durable already
	tap, err := cfg.Tap.open()
	if err != nil {
		return err
	}
	defer tap.close()
	h, err := hub.New(hub.Config{
		Domain: cfg.Domain, Keys: b.keys, Peers: b.peers, Store: st.KV, Outbox: st.Queue, Volatile: url == "memory:", Logger: b.log,
		Registerer:      prometheus.WrapRegistererWithPrefix("mmr_hub_", b.registry),
		ReleaseInterval: cfg.ReleaseInterval, Middleware: tap.middleware(),
		Rates: hub.Rates{Requests: cfg.RequestsPerMinute, Commits: cfg.CommitsPerMinute, Codes: cfg.CodesPerMinute, Resyncs: cfg.ResyncsPerHour},
		Limits: hub.Limits{
			Leaves: cfg.MaxLeaves, LeavesPerUser: cfg.MaxLeavesPerUser, Message: cfg.MaxMessage, Proposals: cfg.MaxProposals, AAD: cfg.MaxAAD,
			EventsPerEpoch: cfg.EventsPerEpoch, LogEvents: cfg.LogEvents,
		},
		CoverRate:  cfg.CoverRate,
		IdleMonths: cfg.RoomIdleMonths, ReportRetention: cfg.ReportRetention,
	})
	if err != nil {
		return err
	}
	defer h.Close()
	if cfg.Unfreeze {
		if err := h.Unfreeze(ctx); err != nil {
			return fmt.Errorf("unfreezing: %w", err)
		}
	}
	if cfg.Moderation {
		b.admin = h.Admin()
	}
	lis, err := grpcserver.Listen(cfg.Listen, cfg.AddrFile)
	if err != nil {
		return err
	}
	srv := grpcserver.New(grpcserver.Config{
		MaxConnections: cfg.MaxConnections, MaxCalls: cfg.MaxCalls,
		TLS: b.cert.ServerTLS(b.peers.Roots(), true), Logger: b.log,
		Registerer: prometheus.WrapRegistererWithPrefix("mmr_hub_", b.registry), Options: tap.options("peer"),
	})
	h.Register(srv)
	b.stores = store.Set{"hub": st}
	return cfg.run(ctx, b, h.Ready, nil, listener{srv, lis})
}

func storeURL(flag, file string) (string, error) {
	if file == "" {
		return flag, nil
	}
	return firstLine(file)
}
