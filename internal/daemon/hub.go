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
	CommitsPerMinute  int           `help:"Commits per leaf and minute." default:"20"`
	RoomIdleMonths    int           `help:"Delete rooms that nobody has used for so many months; 0 keeps them." default:"13"`
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
		Domain: cfg.Domain, Keys: b.keys, Peers: b.peers, Store: st.KV, Outbox: st.Queue, Logger: b.log,
		Registerer:      prometheus.WrapRegistererWithPrefix("mmr_hub_", b.registry),
		ReleaseInterval: cfg.ReleaseInterval, Rates: hub.Rates{Requests: cfg.RequestsPerMinute, Commits: cfg.CommitsPerMinute}, Middleware: tap.middleware(),
		IdleMonths: cfg.RoomIdleMonths,
	})
	if err != nil {
		return err
	}
	defer h.Close()
	lis, err := grpcserver.Listen(cfg.Listen, cfg.AddrFile)
	if err != nil {
		return err
	}
	srv := grpcserver.New(grpcserver.Config{
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
