package ledger_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/mmrelay/mmrelay/internal/daemontest"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/pkg/client"
)

const (
	hubDomain = "hub.example"
	aDomain   = "a.example"
	bDomain   = "b.example"
)

var roles = map[string]keys.Role{hubDomain: keys.Hub, aDomain: keys.Provider, bDomain: keys.Provider}

// makeShared makes what all tests of the package use, once.
var makeShared = sync.OnceValues(func() (*daemontest.Set, error) {
	root, err := os.MkdirTemp("", "mmrledger")
	if err != nil {
		return nil, err
	}
	madeRoot = root
	s, err := daemontest.Make(root, roles)
	if err == nil && *skew {
		err = buildSkewed(s)
	}
	return s, err
})

var madeRoot string // written by makeShared, read when the tests are over

// deployment is one hub and two providers, each of one or more processes.
type deployment struct {
	tb      testing.TB
	trust   *client.Trust
	hubs    []*process
	relays  []*process
	clients map[string]*link // by provider
	peers   []*link
	redis   *redistest.Server // nil: none that may be killed
	cluster *redistest.Cluster
	disk    string // small file system of the hub's store; empty: none

	trustDir string
	mortals  bool // some clients are processes that are killed
	small    bool // mailboxes of provider b are small
}

// smallMailbox is how many envelopes a small mailbox holds.
const smallMailbox = 24

func (d *deployment) processes() []*process {
	return append(append([]*process(nil), d.hubs...), d.relays...)
}

func (d *deployment) links() []*link {
	ls := append([]*link(nil), d.peers...)
	return append(ls, d.clients[aDomain], d.clients[bDomain])
}

// deploy starts everything. store names the store of a domain; replicas is how
// many processes each has.
func deploy(t *testing.T, replicas int, store func(domain string) string, shape ...func(*deployment)) *deployment {
	t.Helper()
	s, err := makeShared()
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{tb: t, clients: make(map[string]*link), trustDir: s.Trust()}
	for _, f := range shape {
		f(d)
	}
	if d.trust, err = client.LoadTrust(s.Trust()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	place := func(domain string, i int) string { return filepath.Join(dir, fmt.Sprint(domain, i)) }
	files := func(domain, file string) (fs []string) {
		for i := range replicas {
			fs = append(fs, filepath.Join(place(domain, i), file))
		}
		return fs
	}
	// Each pair of parties has a link of its own, so that it can be cut alone.
	to := func(from, domain string) string {
		role, file := "provider", "peer"
		if domain == hubDomain {
			role, file = "hub", "addr"
		}
		l := newLink(t, from+" to "+domain, files(domain, file)...)
		d.peers = append(d.peers, l)
		return role + ":" + domain + "=" + l.addr()
	}
	code := filepath.Join(dir, "code")
	if err := os.WriteFile(code, []byte("let-me-in\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, domain := range []string{hubDomain, aDomain, bDomain} {
		args := []string{
			"--domain", domain, "--keys", s.Keys(domain), "--peer-ca", s.Operators(),
			"--no-rotate-keys", "--store", store(domain), "--listen", "127.0.0.1:0", "--log-level", "warn",
		}
		for _, other := range []string{hubDomain, aDomain, bDomain} {
			if other != domain {
				args = append(args, "--peer", to(domain, other))
			}
		}
		for i := range replicas {
			own := append(append([]string(nil), args...), "--addr-file", filepath.Join(place(domain, i), "addr"))
			name := fmt.Sprint(domain, " ", i)
			if domain == hubDomain {
				own = append(own, "--grace", stopGrace.String(), "--requests-per-minute", "1000000", "--commits-per-minute", "1000000", "--codes-per-minute", "1000000")
				d.hubs = append(d.hubs, newProcess(t, name, place(domain, i), s.Program("hub"), own...))
				continue
			}
			own = append(own, "--peer-listen", "127.0.0.1:0", "--peer-addr-file", filepath.Join(place(domain, i), "peer"), "--registration-code-file", code, "--grace", stopGrace.String(),
				"--tokens-per-day", "1000000", "--forward-per-minute", "1000000")
			if d.small && domain == bDomain {
				own = append(own, "--queue-entries", fmt.Sprint(smallMailbox))
			}
			d.relays = append(d.relays, newProcess(t, name, place(domain, i), s.Program("relay"), own...))
		}
	}
	for _, domain := range []string{aDomain, bDomain} {
		d.clients[domain] = newLink(t, "clients to "+domain, files(domain, "addr")...)
	}
	for _, p := range d.processes() {
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
	}
	d.awaitReady(t)
	return d
}

func (d *deployment) awaitReady(t *testing.T) {
	t.Helper()
	for _, p := range d.processes() {
		if err := p.ready(); err != nil {
			t.Fatal(err)
		}
	}
}
