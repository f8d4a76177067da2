// Package ledger_test keeps a ledger of everything a hub has accepted, under
// faults, and compares it with what every client got: nothing accepted is lost,
// nothing comes twice, everything comes in the order of its room. The daemons are
// real processes; links between them and the clients go through proxies.
//
//	make ledger-short   what CI runs
//	make ledger         5 minutes, 50 clients, 20 rooms
//
// A run prints its seed. The schedule of faults and of what people do follows from
// it; what happens at the same time does not.
package ledger_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/redistest"
)

var (
	duration = flag.Duration("for", 0, "how long faults are injected, half as long on a single machine; 0 skips the test")
	clients  = flag.Int("clients", 12, "number of clients")
	rooms    = flag.Int("rooms", 6, "number of rooms")
	rate     = flag.Float64("rate", 12, "messages and commits a second, of all clients together")
	pause    = flag.Duration("pause", 3*time.Second, "how long a process stands still, a link is cut or slow")
	skew     = flag.Bool("skew", false, "clocks go wrong too: takes a build of the whole standard library")
	seed     = flag.Uint64("seed", 0, "seed of the schedule; 0 takes the time")
)

// settleFor bounds how long it may take until everybody has everything after the
// last fault. It is generous: nothing is asserted about time.
const settleFor = 3 * time.Minute

func TestMain(m *testing.M) {
	if config := os.Getenv(appEnv); config != "" {
		if err := app(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	code := m.Run()
	if madeRoot != "" {
		_ = os.RemoveAll(madeRoot) // of the tests, whose results are known
	}
	os.Exit(code)
}

// TestReplicas: two hubs and two relays of each provider on one redis-server that
// syncs its append-only file before it answers.
func TestReplicas(t *testing.T) {
	wanted(t)
	r := redistest.Start(t, redistest.Options{AOF: true})
	db := map[string]int{hubDomain: 0, aDomain: 1, bDomain: 2}
	d := deploy(t, 2, func(domain string) string { return fmt.Sprintf("%s?db=%d", r.URL(), db[domain]) })
	d.redis = r
	run(t, d, *duration)
}

// TestSingleMachine: one hub and two relays with embedded stores. The hub's is on
// a small file system that fills up, where one can be made; the mailboxes of one
// provider are small, and those of people who are away for long overflow.
func TestSingleMachine(t *testing.T) {
	wanted(t)
	dir := t.TempDir()
	disk := smallDisk(t, filepath.Join(dir, "disk"))
	d := deploy(t, 1, func(domain string) string {
		if domain == hubDomain && disk != "" {
			return "pebble:" + filepath.Join(disk, "store")
		}
		return "pebble:" + filepath.Join(dir, domain)
	}, func(d *deployment) { d.small = true })
	d.disk = disk
	run(t, d, *duration/2)
}

func wanted(t *testing.T) {
	t.Helper()
	if *duration == 0 {
		t.Skip("a test of a minute and more: make ledger-short, make ledger")
	}
}

func run(t *testing.T, d *deployment, duration time.Duration) {
	t.Helper()
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	begin := time.Now()
	say := func(format string, args ...any) {
		t.Logf("%6.1fs "+format, append([]any{time.Since(begin).Seconds()}, args...)...)
	}
	say("seed %d: %v, %d clients, %d rooms", s, duration, *clients, *rooms)
	d.mortals = true
	p := newParty(t, d, *clients, *rooms)
	say("everybody is in their rooms")
	f := &faults{d: d, p: p, rnd: rand.New(rand.NewPCG(s, 1)), pause: *pause, log: say}
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.run(ctx)
	}()
	p.talk(ctx, s, *rate)
	<-done
	say("the last fault is over")
	d.awaitReady(t)
	settle, stop := context.WithTimeout(context.Background(), settleFor)
	defer stop()
	if err := p.flush(settle); err != nil {
		t.Error(err)
	}
	say("everything is sent")
	v, differ := p.book.judge(), p.agree()
	for settle.Err() == nil && (len(v.lost) > 0 || len(differ) > 0) {
		sleep(settle, 200*time.Millisecond)
		v, differ = p.book.judge(), p.agree()
	}
	say("settled")
	report(t, p, f, v, differ, p.refused(t))
}

func report(t *testing.T, p *party, f *faults, v *verdict, differ []string, refused uint64) {
	t.Helper()
	var commits, failed int64
	for _, x := range p.people {
		commits += x.commits.Load()
		failed += x.failed.Load()
	}
	crashes := 0
	for _, x := range p.d.processes() {
		crashes += x.crashes
		if s := x.panicked(p.d.disk != ""); s != "" {
			t.Errorf("%s panicked: %s", x.name, s)
		}
	}
	t.Logf(`
faults injected:
%s  daemons that ended by themselves and were started again: %d
  daemons that did not stop by themselves:                  %d
messages accepted:          %d
  with unknown outcome:     %d, of which %d arrived
commits accepted:           %d
steps that failed:          %d
receipts:                   %d
refused by full mailboxes:  %d envelopes, of which their owners were told
  not readable by a guest:  %d, made in an epoch before it came
lost:                       %d
duplicated:                 %d
order violations:           %d
worst delay:                %v`,
		f, crashes, f.stuck, v.accepted, v.unknown, v.arrived, commits, failed, v.receipts, refused, v.before, len(v.lost), len(v.duplicated), len(v.disorder), v.worst.Round(time.Millisecond))
	p.saidMu.Lock()
	defer p.saidMu.Unlock()
	for _, m := range slices.Sorted(maps.Keys(p.warned)) {
		t.Logf("%4d times: %s", p.warned[m], m)
	}
	for _, list := range [][]string{v.lost, v.duplicated, v.disorder, v.other, differ} {
		for i, s := range list {
			if i == 12 {
				t.Errorf("... %d more", len(list)-i)
				break
			}
			t.Error(s)
		}
	}
	if f.stuck > 0 {
		t.Error("a daemon did not stop when it was asked to")
	}
	switch {
	case f.overflown && refused == 0:
		t.Error("a mailbox was full, and its owner is not told")
	case p.d.small && !f.overflown:
		t.Log("NOT PROVEN: nobody was away for long enough to fill its mailbox")
	}
	if v.accepted == 0 || v.receipts == 0 {
		t.Error("nothing was sent")
	}
}
