package ledger_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// faults is a seeded schedule of what goes wrong.
type faults struct {
	d     *deployment
	p     *party
	rnd   *rand.Rand
	pause time.Duration // how long what stands still stands still
	log   func(format string, args ...any)
	count map[string]int
	stuck int // daemons that did not stop by themselves after SIGTERM

	forgotten time.Time // when connections were last
	overflown bool      // somebody was away until its mailbox was full
}

// stopGrace is after what time daemons end whatever still goes on. They are not to
// need it, except for connections that were forgotten: a server notices that after
// noticed at the latest, and until then it waits for them to take what it has.
const (
	stopGrace = 20 * time.Second
	noticed   = 3 * time.Minute
)

// kinds are the faults that a deployment can have, by name.
func (f *faults) kinds() map[string]func(context.Context) {
	k := map[string]func(context.Context){
		"kill -9 of a hub":           func(context.Context) { f.kill(f.oneOf(f.d.hubs)) },
		"kill -9 of a relay":         func(context.Context) { f.kill(f.oneOf(f.d.relays)) },
		"a hub stands still":         func(ctx context.Context) { f.still(ctx, f.oneOf(f.d.hubs)) },
		"a relay stands still":       func(ctx context.Context) { f.still(ctx, f.oneOf(f.d.relays)) },
		"partition of services":      func(ctx context.Context) { f.partition(ctx, f.d.peers) },
		"partition of clients":       func(ctx context.Context) { f.partition(ctx, []*link{f.d.clients[aDomain], f.d.clients[bDomain]}) },
		"connections reset":          f.reset,
		"connections forgotten":      f.forget,
		"slow links":                 f.slow,
		"rolling restart of all":     f.roll,
		"all hubs killed at once":    func(context.Context) { f.killAll(f.d.hubs) },
		"all processes of one relay": func(context.Context) { f.killAll(f.oneRelay()) },
	}
	if f.d.redis != nil {
		k["kill -9 of Redis"] = func(ctx context.Context) {
			f.d.redis.Kill()
			sleep(ctx, time.Duration(f.rnd.Int64N(int64(2*time.Second))))
			f.d.redis.Restart()
		}
		k["Redis stands still"] = func(ctx context.Context) {
			f.d.redis.Pause()
			sleep(ctx, f.pause/2)
			f.d.redis.Resume()
		}
	}
	if len(f.p.mortals()) > 0 {
		k["kill -9 of clients"] = f.killClients
	}
	if f.d.small {
		k[fullMailbox] = f.overflow
	}
	if *skew {
		k["clock of a process 5 min off"] = f.wrongClock
	}
	if f.d.cluster != nil {
		k["slots of the cluster move"] = f.reshard
		k["a master hands over"] = f.handOver
		k["kill -9 of a master"] = f.failOver
	}
	if len(f.d.hubs) == 1 { // the same as of one
		delete(k, "all hubs killed at once")
		delete(k, "all processes of one relay")
	}
	if f.d.disk != "" {
		k["disk of the hub full"] = f.full
	}
	return k
}

// run injects faults until ctx ends: each kind once in a shuffled order, again
// and again, with a breath between them.
func (f *faults) run(ctx context.Context) {
	kinds := f.kinds()
	f.count = make(map[string]int)
	for {
		names := slices.Sorted(maps.Keys(kinds))
		f.rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, n := range names {
			sleep(ctx, 500*time.Millisecond+time.Duration(f.rnd.Int64N(int64(2*time.Second))))
			if ctx.Err() != nil {
				return
			}
			f.log("fault: %s", n)
			f.count[n]++
			kinds[n](ctx)
		}
	}
}

func (f *faults) oneOf(ps []*process) *process { return ps[f.rnd.IntN(len(ps))] }

func (f *faults) oneRelay() []*process {
	half := len(f.d.relays) / 2
	if f.rnd.IntN(2) == 0 {
		return f.d.relays[:half]
	}
	return f.d.relays[half:]
}

func (f *faults) restart(p *process) {
	if err := p.start(); err != nil {
		f.d.tb.Errorf("starting %s: %v", p.name, err)
	}
}

func (f *faults) kill(p *process) {
	p.end(syscall.SIGKILL)
	f.restart(p)
}

func (f *faults) killAll(ps []*process) {
	for _, p := range ps {
		p.end(syscall.SIGKILL)
	}
	for _, p := range ps {
		f.restart(p)
	}
}

func (f *faults) still(ctx context.Context, p *process) {
	p.pause()
	sleep(ctx, f.pause)
	p.resume()
}

func (f *faults) partition(ctx context.Context, ls []*link) {
	l := ls[f.rnd.IntN(len(ls))]
	l.partition()
	sleep(ctx, f.pause)
	l.heal()
}

func (f *faults) reset(context.Context) {
	for _, l := range f.d.links() {
		l.cut()
	}
}

// forget loses the connections of one link without a word; new ones work.
func (f *faults) forget(context.Context) {
	ls := f.d.links()
	ls[f.rnd.IntN(len(ls))].forget()
	f.forgotten = time.Now()
}

func (f *faults) slow(ctx context.Context) {
	for _, l := range f.d.links() {
		l.slow(time.Duration(20+f.rnd.IntN(100)) * time.Millisecond)
	}
	sleep(ctx, f.pause)
	for _, l := range f.d.links() {
		l.heal()
	}
}

// roll restarts everything, one process after the other, as an upgrade does.
func (f *faults) roll(ctx context.Context) {
	for _, p := range f.d.processes() {
		if ctx.Err() != nil {
			return
		}
		begin := time.Now()
		killed := p.end(syscall.SIGTERM)
		stopped := time.Since(begin)
		if killed || stopped >= stopGrace && time.Since(f.forgotten) > noticed {
			f.stuck++
		}
		f.restart(p)
		if err := p.ready(); err != nil {
			f.d.tb.Error(err)
		}
		f.log("  %s stopped in %v, was ready %v later", p.name, stopped.Round(time.Millisecond), (time.Since(begin) - stopped).Round(time.Millisecond))
	}
}

// full fills the disk that the hub writes to, and makes room again. The hub is
// killed meanwhile: what it has reserved for its log would do for a while, but it
// cannot open a new one.
func (f *faults) full(ctx context.Context) {
	name := filepath.Join(f.d.disk, "filler")
	file, err := os.Create(name)
	if err != nil {
		f.log("  no file: %v", err)
		return
	}
	piece := make([]byte, 64<<10)
	for err == nil {
		_, err = file.Write(piece)
	}
	_ = file.Close() // it is full, as it should be
	sleep(ctx, f.pause/2)
	f.kill(f.d.hubs[0])
	sleep(ctx, f.pause/2)
	if err := os.Remove(name); err != nil {
		f.d.tb.Error(err)
	}
}

// String lists the faults that were injected.
func (f *faults) String() string {
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(f.kinds())) {
		fmt.Fprintf(&b, "  %-29s %d\n", n, f.count[n])
	}
	return b.String()
}
