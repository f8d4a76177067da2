// Package daemon is what both daemons do around their service: flags, keys,
// stores, listeners, admin endpoint, key rotation, logs, graceful stop.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/mmrelay/mmrelay/internal/buildinfo"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/internal/redact"
	"github.com/mmrelay/mmrelay/internal/store"
)

// Common are the flags of both daemons.
type Common struct {
	Domain     string   `help:"Domain of this service, as in identifiers: lower case, at least one dot." required:"" placeholder:"DOMAIN"`
	Keys       string   `help:"Key directory made by 'mmr keygen'." required:"" type:"existingdir" placeholder:"DIR"`
	Peer       []string `help:"A service of another operator: role:domain=host:port with role hub or provider. Repeatable." placeholder:"PEER"`
	PeerCA     string   `help:"PEM bundle of the roots that the peers' certificates chain to." required:"" type:"existingfile" placeholder:"FILE"`
	Admin      string   `help:"Address of /livez, /readyz and /metrics; empty turns it off." default:"127.0.0.1:0"`
	AdminFile  string   `help:"Write the admin address that was bound to this file." placeholder:"FILE"`
	BackupDir  string   `help:"Directory for backups of an embedded store, made by 'mmr store backup' through the admin listener; empty turns that off." type:"path" placeholder:"DIR"`
	RotateKeys bool     `help:"Make successors of HPKE and token keys in the key directory as they near their end. Turn off where the directory is read-only or shared by replicas." default:"true" negatable:""`

	Drain          time.Duration `help:"How long health says NOT_SERVING before the listeners stop accepting." default:"0s"`
	Grace          time.Duration `help:"How long calls under way may take when stopping." default:"10s"`
	MaxConnections int           `help:"Connections of a listener at once; further ones are closed as they come." default:"20000"`
	MaxCalls       int           `help:"Calls of a listener under way at once, without mailbox and delivery streams; further ones are told to come back." default:"4096"`

	LogLevel string `help:"Least severity that is logged: debug, info, warn, error." enum:"debug,info,warn,error" default:"info"`

	Version kong.VersionFlag `help:"Print the version and exit."`

	Tap tapFlags `embed:""`
}

// errUsage marks what is wrong with the command line.
var errUsage = errors.New("usage")

// ExitCode is 2 for usage errors, 1 for all others.
func ExitCode(err error) int {
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

// parse reads flags and environment into cfg. done reports that --help or
// --version was answered.
func parse(cfg any, name, description string, args []string, stdout, stderr io.Writer) (done bool, err error) {
	exited := false
	p, err := kong.New(cfg, kong.Name(name), kong.Description(description),
		kong.DefaultEnvars(strings.ToUpper(name)), kong.Writers(stdout, stderr), kong.UsageOnError(),
		kong.Vars{"version": name + " " + buildinfo.Version()},
		kong.Exit(func(int) { exited = true }))
	if err != nil {
		return false, err
	}
	_, err = p.Parse(args)
	if exited {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w\nhint: %s --help lists the flags", errUsage, err, name)
	}
	return false, nil
}

// base is what both daemons have before their service.
type base struct {
	log      *slog.Logger
	registry *prometheus.Registry
	keys     *keys.Set
	cert     *grpcserver.Certificate
	peers    *peer.Set
	stores   store.Set
	admin    http.Handler // under /hub/ of the admin listener, nil: nothing
}

func (c *Common) open(role keys.Role, stderr io.Writer) (*base, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, fmt.Errorf("%w: --log-level: %w", errUsage, err)
	}
	b := &base{log: redact.NewLogger(stderr, level), registry: grpcserver.NewRegistry()}
	var err error
	if b.keys, err = keys.Load(c.Keys, role, c.Domain); err != nil {
		return nil, fmt.Errorf("loading keys: %w\nhint: make them with 'mmr keygen %s --domain %s --out DIR'", err, keygenName(role), c.Domain)
	}
	if c.RotateKeys {
		if err := b.keys.Rotate(time.Now()); err != nil {
			return nil, fmt.Errorf("rotating keys: %w\nhint: --no-rotate-keys if the key directory is read-only", err)
		}
	}
	if b.cert, err = grpcserver.LoadCertificate(filepath.Join(c.Keys, "tls.crt"), filepath.Join(c.Keys, "tls.key")); err != nil {
		return nil, err
	}
	roots, err := keys.Pool(c.PeerCA)
	if err != nil {
		return nil, fmt.Errorf("reading --peer-ca: %w", err)
	}
	var ps []peer.Peer
	for _, s := range c.Peer {
		p, err := peer.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("%w: --peer: %w", errUsage, err)
		}
		ps = append(ps, p)
	}
	if b.peers, err = peer.New(b.cert, roots, ps); err != nil {
		return nil, fmt.Errorf("%w: --peer: %w", errUsage, err)
	}
	return b, nil
}

func keygenName(r keys.Role) string {
	if r == keys.Hub {
		return "hub"
	}
	return "relay"
}

// listener is one server with its place.
type listener struct {
	server *grpcserver.Server
	net.Listener
}

// run serves until ctx ends. stopping ends long-lived streams.
func (c *Common) run(ctx context.Context, b *base, ready func(context.Context) error, stopping func(), ls ...listener) error {
	g := &grpcserver.Group{Logger: b.log, Drain: c.Drain, Grace: c.Grace, Stopping: stopping}
	for _, l := range ls {
		g.Add(l.server, l.Listener)
	}
	eg, ctx := errgroup.WithContext(ctx)
	if c.Admin != "" {
		a, err := grpcserver.NewAdmin(c.Admin, c.AdminFile, b.registry, ready)
		if err != nil {
			return err
		}
		if c.BackupDir != "" {
			a.Handle("POST /backup/{name}", backups(c.BackupDir, b.stores))
		}
		if b.admin != nil {
			a.Handle("/hub/", b.admin)
		}
		eg.Go(func() error { return a.Run(ctx) })
	}
	ends := newExpiries(b)
	if err := ends.look(time.Now()); err != nil {
		return err
	}
	eg.Go(func() error { c.maintainKeys(ctx, b, ends); return nil })
	eg.Go(func() error { return g.Run(ctx) })
	return eg.Wait()
}

// maintainKeys rotates hourly, or reads what somebody else rotated.
func (c *Common) maintainKeys(ctx context.Context, b *base, ends *expiries) {
	every := time.Minute
	if c.RotateKeys {
		every = time.Hour
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			err := b.keys.Reload()
			if c.RotateKeys {
				err = b.keys.Rotate(now)
			}
			if err := errors.Join(err, ends.look(now)); err != nil {
				b.log.Error("key directory could not be read or written; the loaded keys stay", "err_class", "keys")
			}
		}
	}
}

// firstLine is for secrets that come from a file.
func firstLine(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line), nil
}
