// Package demo runs the main job of mmrelay on real processes: a hub and two
// relays that are separate operators, three people who talk through them, and
// then the question that matters: what did each party see? The answer is
// computed from what the processes really received and stored.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Config describes a run.
type Config struct {
	// Store is pebble or redis.
	Store string
	// Bin is the directory of hub and relay built with the tag mmrtap; empty
	// means "tap" beside this program.
	Bin string
	// Keep leaves the directory with keys, stores and captures in place.
	Keep bool
	// Stdout receives transcript and table, Stderr progress.
	Stdout, Stderr io.Writer
}

// ErrLeak reports that a party saw what it should not.
var ErrLeak = errors.New("a party saw what it must not see")

// Run runs the demo.
func Run(ctx context.Context, cfg Config) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if cfg.Bin == "" {
		cfg.Bin = filepath.Join(filepath.Dir(self), "tap")
	}
	for _, p := range []string{"hub", "relay"} {
		if _, err := os.Stat(filepath.Join(cfg.Bin, p)); err != nil {
			return fmt.Errorf("%s is not in %s\nhint: 'make demo' builds it", p, cfg.Bin)
		}
	}
	dir, err := os.MkdirTemp("", "mmr-demo-")
	if err != nil {
		return err
	}
	d := &deployment{dir: dir, mmr: self, bin: cfg.Bin, store: cfg.Store}
	defer func() {
		d.kill()
		if cfg.Keep {
			_, _ = fmt.Fprintln(cfg.Stderr, "kept:", dir) // a courtesy
		} else {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	begin := time.Now()
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(cfg.Stdout, format+"\n", args...) }
	say("One hub (%s) and two relays (%s, %s), three processes with %s stores, TLS 1.3 between all.", hubDomain, aDomain, bDomain, cfg.Store)
	if err := d.keygen(ctx); err != nil {
		return err
	}
	if err := d.up(ctx); err != nil {
		return err
	}
	t, err := play(ctx, d, say)
	if err != nil {
		return err
	}
	if err := d.down(); err != nil {
		return err
	}
	parties, err := d.evidence(ctx)
	if err != nil {
		return err
	}
	say("")
	leak := report(cfg.Stdout, t.facts(), parties)
	say("\nTook %v.", time.Since(begin).Round(100*time.Millisecond))
	if leak {
		return ErrLeak
	}
	say("Every \"no\" was searched for in raw, hex and base64, and not found; every \"yes\" was found.")
	return nil
}
