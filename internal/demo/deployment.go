package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mmrelay/mmrelay/pkg/client"
)

// The deployment: one hub and two providers that are each other's partner relay.
const (
	hubDomain = "hub.example"
	aDomain   = "a.example"
	bDomain   = "b.example"
)

// deployment is the running processes with what is needed to reach them.
type deployment struct {
	dir      string
	mmr      string // this program, for keygen
	bin      string // directory of hub and relay, built with the tag mmrtap
	store    string // pebble or redis
	redis    string // socket
	procs    []*process
	trust    *client.Trust
	relays   map[string]string // client addresses by domain
	trustDir string
}

// keygen makes keys and trust with the same commands an operator uses.
func (d *deployment) keygen(ctx context.Context) error {
	run := func(args ...string) error {
		out, err := exec.CommandContext(ctx, d.mmr, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("mmr %s: %w: %s", args[0], err, out)
		}
		return nil
	}
	d.trustDir = filepath.Join(d.dir, "trust")
	err := errors.Join(
		run("keygen", "hub", "--domain", hubDomain, "--out", d.path(hubDomain, "keys")),
		run("keygen", "relay", "--domain", aDomain, "--out", d.path(aDomain, "keys")),
		run("keygen", "relay", "--domain", bDomain, "--out", d.path(bDomain, "keys")),
	)
	if err != nil {
		return err
	}
	if err := run("keygen", "trust", "--out", d.trustDir, d.path(hubDomain, "keys"), d.path(aDomain, "keys"), d.path(bDomain, "keys")); err != nil {
		return err
	}
	d.trust, err = client.LoadTrust(d.trustDir)
	return err
}

func (d *deployment) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

func (d *deployment) storeURL(domain string) string {
	if d.store == "redis" {
		db := map[string]int{hubDomain: 0, aDomain: 1, bDomain: 2}[domain]
		return fmt.Sprintf("redis+unix://%s?db=%d", d.redis, db)
	}
	return "pebble:" + d.path(domain, "store")
}

// up starts the daemons and waits until they are ready.
func (d *deployment) up(ctx context.Context) error {
	for _, domain := range []string{hubDomain, aDomain, bDomain} {
		if err := os.MkdirAll(d.path(domain), 0o700); err != nil {
			return err
		}
	}
	if d.store == "redis" {
		p, sock, err := startRedis(ctx, d.dir)
		if err != nil {
			return err
		}
		d.procs, d.redis = append(d.procs, p), sock
	}
	ports, err := freePorts(5)
	if err != nil {
		return err
	}
	peers := map[string]string{hubDomain: "hub:" + hubDomain + "=" + ports[0], aDomain: "provider:" + aDomain + "=" + ports[1], bDomain: "provider:" + bDomain + "=" + ports[2]}
	d.relays = map[string]string{aDomain: ports[3], bDomain: ports[4]}
	code := d.path("registration-code")
	if err := os.WriteFile(code, []byte("demo\n"), 0o600); err != nil {
		return err
	}
	for _, domain := range []string{hubDomain, aDomain, bDomain} {
		args := []string{
			"--domain", domain, "--keys", d.path(domain, "keys"), "--peer-ca", filepath.Join(d.trustDir, "operators.pem"),
			"--admin-file", d.path(domain, "admin"), "--store", d.storeURL(domain), "--tap-file", d.path(domain, "tap"), "--log-level", "debug",
		}
		for other, p := range peers {
			if other != domain {
				args = append(args, "--peer", p)
			}
		}
		program := "relay"
		if domain == hubDomain {
			program = "hub"
			args = append(args, "--listen", ports[0])
		} else {
			args = append(args, "--listen", d.relays[domain], "--peer-listen", peers[domain][len("provider:"+domain+"="):], "--registration-code-file", code)
		}
		p, err := start(domain, d.dir, filepath.Join(d.bin, program), args...)
		if err != nil {
			return fmt.Errorf("starting %s: %w\nhint: make demo builds it", program, err)
		}
		d.procs = append(d.procs, p)
	}
	for _, p := range d.procs {
		if p.name == "redis" {
			continue
		}
		if err := p.ready(ctx, d.path(p.name, "admin")); err != nil {
			return err
		}
	}
	return nil
}

// down stops the daemons gracefully; redis stays until its contents were read.
func (d *deployment) down() error {
	var errs []error
	for _, p := range d.procs {
		if p.name != "redis" {
			errs = append(errs, p.stop())
		}
	}
	return errors.Join(errs...)
}

func (d *deployment) kill() {
	for _, p := range d.procs {
		p.kill()
	}
	if d.redis != "" {
		_ = os.RemoveAll(filepath.Dir(d.redis)) // a temporary directory
	}
}
