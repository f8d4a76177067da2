package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/client"
)

// callTimeout bounds one step of a person; its outcome is unknown after that.
const callTimeout = 40 * time.Second

// options are those of all clients.
var options = []client.Option{client.WithGapWait(2 * time.Second), client.WithRetryFor(10 * time.Second)}

// person is a client that listens, and sends when it is told to.
type person struct {
	account
	name, domain string

	book  *book
	names *sync.Map // room URI to its name in the ledger

	next  map[string]int // number of the last message, by room; of the one goroutine that sends
	mu    sync.Mutex     // guards all below
	ready map[string]chan struct{}
	hang  context.CancelFunc // of the present Listen; nil: there is none
	away  chan struct{}      // not nil: does not listen until it is closed

	commits, failed atomic.Int64
}

// party is everybody, with the rooms they are in.
type party struct {
	d      *deployment
	book   *book
	names  sync.Map
	people []*person
	rooms  []*room
	wg     sync.WaitGroup
	stop   context.CancelFunc

	saidMu sync.Mutex // guards warned
	warned map[string]int
}

// room has members who stay and a guest who is added and removed by its host.
type room struct {
	uri, name string
	host      *person
	guest     *person
	members   []*person // host included
}

func newParty(t *testing.T, d *deployment, clients, rooms int) *party {
	t.Helper()
	p := &party{d: d, book: newBook(), warned: make(map[string]int)}
	live, stop := context.WithCancel(context.Background())
	p.stop = stop
	t.Cleanup(func() {
		stop()
		p.wg.Wait()
		for _, x := range p.people {
			_ = x.Close() // the test is over
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for i := range clients {
		p.people = append(p.people, p.join(ctx, t, live, i))
	}
	for i := range rooms {
		p.open(ctx, t, i)
	}
	return p
}

// say counts what people and clients complain of.
func (p *party) say(what string) {
	p.saidMu.Lock()
	defer p.saidMu.Unlock()
	p.warned[what]++
}

// counter counts what clients warn of.
type counter struct {
	p    *party
	name string
}

func (c *counter) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (c *counter) WithAttrs([]slog.Attr) slog.Handler           { return c }
func (c *counter) WithGroup(string) slog.Handler                { return c }
func (c *counter) Handle(_ context.Context, r slog.Record) error {
	c.p.warn(c.name, r.Message)
	return nil
}

// warn counts what a client complains of.
func (p *party) warn(name, what string) {
	p.say(what)
	if what == "a message could not be read" {
		p.book.unread(name)
	}
}

// join registers a person and lets it listen.
func (p *party) join(ctx context.Context, t *testing.T, live context.Context, i int) *person {
	t.Helper()
	own, partner := aDomain, bDomain
	if i%2 == 1 && !p.d.small || p.d.small && i > *rooms { // hosts and guests have room in their mailboxes
		own, partner = partner, own
	}
	name := fmt.Sprint("p", i)
	acc := client.Account{
		User: name, Device: name + "-phone", Domain: own, Relay: p.d.clients[own].addr(), Code: "let-me-in",
		PartnerDomain: partner, Partner: p.d.clients[partner].addr(),
	}
	x := &person{name: name, domain: own, book: p.book, names: &p.names, next: make(map[string]int), ready: make(map[string]chan struct{})}
	if p.d.mortals && i%4 == 3 {
		x.account = newRemote(t, appConfig{Dir: filepath.Join(t.TempDir(), name), Trust: p.d.trustDir, Account: acc}, func(n note) {
			switch {
			case n.Warn != "":
				p.warn(name, n.Warn)
			case n.Event != nil:
				x.hear(*n.Event, n.At)
			}
		})
		return x
	}
	c, err := client.Register(ctx, client.NewMemoryStore(), acc, p.d.trust, append(options, client.WithLogger(slog.New(&counter{p, name})))...)
	if err != nil {
		t.Fatalf("registering: %v", err)
	}
	x.account = c
	p.wg.Go(func() {
		for live.Err() == nil {
			if ctx := x.present(live); ctx != nil {
				listen(ctx, c, func(e client.Event) error { x.hear(e, time.Now()); return nil })
			}
		}
	})
	return x
}

// present waits until a person is not away, and returns what ends when it goes.
func (x *person) present(live context.Context) context.Context {
	x.mu.Lock()
	away := x.away
	if away == nil {
		defer x.mu.Unlock()
		var ctx context.Context
		ctx, x.hang = context.WithCancel(live)
		return ctx
	}
	x.mu.Unlock()
	select {
	case <-away:
	case <-live.Done():
	}
	return nil
}

// leaves lets a person not listen, nor do anything else, until it comes back.
func (x *person) leaves() (back func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	away := make(chan struct{})
	x.away = away
	if x.hang != nil {
		x.hang()
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.away = nil
		close(away)
	}
}

func (x *person) isAway() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.away != nil
}

// arrival is closed when an event of that kind about that room or user came.
func (x *person) arrival(what string) chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.ready[what]
	if c == nil {
		c = make(chan struct{})
		x.ready[what] = c
	}
	return c
}

func (x *person) arrived(what string) {
	c := x.arrival(what)
	select {
	case <-c:
	default:
		close(c)
	}
}

// hear notes what a client was told.
func (x *person) hear(e client.Event, at time.Time) {
	name := e.Room
	if n, ok := x.names.Load(e.Room); ok {
		name = n.(string)
	}
	switch e.Kind {
	case client.KindMessage:
		x.book.got(name, x.name, string(e.Data), e.Seq, at)
		x.arrived("message " + string(e.Data))
	case client.KindJoined:
		x.book.came(name, x.name, e.Seq)
		x.arrived("joined " + e.Room)
	case client.KindRemoved:
		x.book.went(name, x.name, e.Seq)
	case client.KindConnected:
		x.arrived("connected " + e.User)
	case client.KindForked, client.KindStuck, client.KindSuspect, client.KindLocked, client.KindGone:
		x.book.broken("%s: a room is %s for %s", name, e.Kind, x.name)
	case client.KindMembers, client.KindLeft, client.KindBanned:
	}
}

func wait(ctx context.Context, t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatalf("it does not happen: %s", what)
	}
}

// open makes a room of a third of the people, who come by a link, and a guest
// whom the host is connected with.
func (p *party) open(ctx context.Context, t *testing.T, i int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	n := len(p.people)
	r := &room{name: fmt.Sprint("r", i), host: p.people[i%n], guest: p.people[(i+1)%n]}
	if !slices.Contains(r.host.Connections(), r.guest.User()) {
		must(r.host.Connect(ctx, r.guest.User(), hubDomain))
		rs, err := r.guest.Requests(ctx)
		must(err)
		for _, q := range rs {
			must(r.guest.Accept(ctx, q.ID))
		}
		wait(ctx, t, "a connection", r.host.arrival("connected "+r.guest.User()))
	}
	var err error
	r.uri, err = r.host.CreateRoom(ctx, hubDomain)
	must(err)
	p.names.Store(r.uri, r.name)
	r.members = []*person{r.host}
	for k := 2; k < n && len(r.members) < 4+i%4; k += 2 + i%2 {
		r.members = append(r.members, p.people[(i+k)%n])
	}
	link, err := r.host.CreateLink(ctx, r.uri, time.Hour)
	must(err)
	for _, m := range r.members {
		p.book.seat(r.name, m.name, true)
		if m != r.host {
			_, err := m.Join(ctx, link)
			must(err)
		}
	}
	p.book.seat(r.name, r.guest.name, false)
	p.rooms = append(p.rooms, r)
}

// send sends the next message; its outcome is in the ledger.
func (x *person) send(ctx context.Context, r *room) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	x.next[r.name]++
	m := x.book.sending(r.name, x.name, x.next[r.name])
	err := x.Send(ctx, r.uri, []byte(m))
	if err == nil {
		x.book.accepted(m, time.Now())
	}
	return err
}

// swap adds the guest or removes it.
func (r *room) swap(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := r.host.Room(r.uri)
	if err != nil {
		return err
	}
	in := slices.ContainsFunc(info.Members, func(m client.MemberInfo) bool { return m.User == r.guest.User() })
	if in {
		return r.host.Remove(ctx, r.uri, r.guest.User())
	}
	return r.host.Add(ctx, r.uri, r.guest.User())
}

// talk lets everybody send at a steady rate until ctx ends, with a commit now
// and then. rate is messages a second, of all together.
func (p *party) talk(ctx context.Context, seed uint64, rate float64) {
	var wg sync.WaitGroup
	every := time.Duration(float64(len(p.people)) / rate * float64(time.Second))
	for i, x := range p.people {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)+100))
		var mine []*room
		for _, r := range p.rooms {
			if slices.Contains(r.members, x) || r.guest == x {
				mine = append(mine, r)
			}
		}
		if len(mine) == 0 {
			continue
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				sleep(ctx, every/2+time.Duration(rnd.Int64N(int64(every))))
				if ctx.Err() != nil {
					return
				}
				p.step(x, mine[rnd.IntN(len(mine))], rnd)
			}
		})
	}
	wg.Wait()
}

// step is what a person does next in a room. It is not cut off when the time is
// up: what it began has an outcome.
func (p *party) step(x *person, r *room, rnd *rand.Rand) {
	if x.isAway() {
		return
	}
	ctx := context.Background()
	var err error
	commit := true
	switch k := rnd.IntN(20); {
	case k == 0 && r.host == x, k == 1 && r.host == x:
		err = r.swap(ctx)
	case k == 2:
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err = x.Refresh(ctx, r.uri)
	default:
		if r.guest == x {
			if info, e := x.Room(r.uri); e != nil || info.Removed {
				return // not in the room at the moment
			}
		}
		commit = false
		err = x.send(ctx, r)
	}
	switch {
	case err != nil:
		x.failed.Add(1)
		p.say("a step failed: " + err.Error())
	case commit:
		x.commits.Add(1)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// flush makes everybody settle what is open: a message into every room.
func (p *party) flush(ctx context.Context) error {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for _, x := range p.people {
		wg.Go(func() {
			for _, r := range p.rooms {
				if !slices.Contains(r.members, x) {
					continue
				}
				for ctx.Err() == nil {
					err := x.send(ctx, r)
					if err == nil {
						break
					}
					sleep(ctx, time.Second)
					if ctx.Err() != nil {
						mu.Lock()
						errs = append(errs, fmt.Errorf("%s cannot send to %s any more: %w", x.name, r.name, err))
						mu.Unlock()
					}
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// agree says in what members of a room differ: all must be in one epoch, with
// the same members, and the guest must know whether it is one of them.
func (p *party) agree() (differ []string) {
	for _, r := range p.rooms {
		var first string
		in := false
		for _, m := range r.members {
			info, err := m.Room(r.uri)
			if err != nil {
				differ = append(differ, fmt.Sprintf("%s is not in %s: %v", m.name, r.name, err))
				continue
			}
			s := describe(info)
			if first == "" {
				first = s
				in = strings.Contains(s, r.guest.User()+" ")
			}
			if s != first {
				differ = append(differ, fmt.Sprintf("%s: %s sees %s; %s sees %s", r.name, r.host.name, first, m.name, s))
			}
		}
		info, err := r.guest.Room(r.uri)
		if there := err == nil && !info.Removed; there != in || there && describe(info) != first {
			differ = append(differ, fmt.Sprintf("%s: %s sees %s; the guest %s, there %v, sees %s", r.name, r.host.name, first, r.guest.name, there, describe(info)))
		}
	}
	return differ
}

func describe(info client.RoomInfo) string {
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d:", info.Epoch)
	for _, m := range info.Members {
		fmt.Fprintf(&b, " %d=%s ", m.Leaf, m.User)
	}
	return b.String()
}
