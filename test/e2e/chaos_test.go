package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mmrelay/mmrelay/internal/redact"
	"github.com/mmrelay/mmrelay/internal/spell"
	"github.com/mmrelay/mmrelay/pkg/client"
)

// chaos is people who do random things at once, and what the test remembers of
// it: the invariants are checked when all is done.
type chaos struct {
	*world
	people []*person

	mu     sync.Mutex // guards all below
	rooms  []string
	links  []string
	moves  map[place][]move // that are no events of the person's client
	sent   []chaosMessage
	counts map[string]int // by action and outcome
}

func (c *chaos) count(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.counts[what]++
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		c.counts[what+": interrupted"]++
	default:
		c.counts[what+": "+err.Error()]++
		if code := status.Code(err); code == codes.Internal || code == codes.Unknown && strings.Contains(err.Error(), "rpc error") {
			c.tb.Errorf("%s: %v", what, err)
		}
	}
}

func pick[T any](rnd *rand.Rand, xs []T) (x T, ok bool) {
	if len(xs) == 0 {
		return x, false
	}
	return xs[rnd.IntN(len(xs))], true
}

// step does one random thing.
func (c *chaos) step(ctx context.Context, rnd *rand.Rand, p *person, n int) {
	own := slices.DeleteFunc(p.Rooms(), func(i client.RoomInfo) bool { return i.Removed })
	room, inRoom := pick(rnd, own)
	other, _ := pick(rnd, c.people)
	switch do := rnd.IntN(100); {
	case do < 3:
		c.mu.Lock()
		full := len(c.rooms) >= 6
		c.mu.Unlock()
		if full {
			return
		}
		opts := [][]client.RoomOption{nil, {client.WithHubKey()}, {client.WithStaticLinks()}}[rnd.IntN(3)]
		uri, err := p.CreateRoom(ctx, "hub.example", opts...)
		c.count("create", err)
		if err == nil {
			c.came(p, uri)
			c.mu.Lock()
			c.rooms = append(c.rooms, uri)
			c.mu.Unlock()
		}
	case do < 8:
		if other != p && !slices.Contains(p.Connections(), other.User()) {
			c.count("connect", p.Connect(ctx, other.User(), "hub.example"))
		}
	case do < 14:
		rs, err := p.Requests(ctx)
		c.count("requests", err)
		for _, r := range rs {
			if rnd.IntN(8) == 0 {
				c.count("reject", p.Reject(ctx, r.ID))
			} else {
				c.count("accept", p.Accept(ctx, r.ID))
			}
		}
	case do < 16:
		p.offline()
		c.count("offline", nil)
	case do < 18:
		c.count("maintain", p.Maintain(ctx))
	case !inRoom:
	case do < 26:
		c.count("add", p.Add(ctx, room.Room, other.User()))
	case do < 29:
		if other != p {
			c.count("remove", p.Remove(ctx, room.Room, other.User()))
		}
	case do < 31:
		c.lostPlace(p, room.Room) // deliveries under way end with it
		err := p.Leave(ctx, room.Room)
		c.count("leave", err)
		if err != nil {
			c.came(p, room.Room)
		}
	case do < 35:
		role := []string{"admin", "admin", "moderator", "member", "observer"}[rnd.IntN(5)]
		c.count("role", p.SetRole(ctx, room.Room, other.User(), role))
	case do < 39:
		link, err := p.CreateLink(ctx, room.Room, time.Hour)
		c.count("link", err)
		if err == nil {
			c.mu.Lock()
			c.links = append(c.links, link)
			c.mu.Unlock()
		}
	case do < 44:
		c.mu.Lock()
		link, ok := pick(rnd, c.links)
		c.mu.Unlock()
		if !ok {
			return
		}
		uri, err := p.Join(ctx, link)
		c.count("join", err)
		if err == nil {
			c.came(p, uri)
		}
	case do < 45:
		c.count("revoke links", p.RevokeLinks(ctx, room.Room))
	case do < 52:
		c.count("refresh", p.Refresh(ctx, room.Room))
	case do < 54:
		c.lostPlace(p, room.Room)
		err := p.Resync(ctx, room.Room)
		c.count("resync", err)
		if err == nil {
			c.came(p, room.Room)
		}
	default:
		c.send(ctx, p, room, fmt.Sprintf("chaotic text %d of %s", n, p.name))
	}
}

// chaosTime is how long people do random things: CHAOS_TIME, or ten seconds.
func chaosTime(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("CHAOS_TIME")
	if s == "" {
		return 10 * time.Second
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("CHAOS_TIME: %v", err)
	}
	return d
}

func chaosSeed(t *testing.T) uint64 {
	t.Helper()
	s := os.Getenv("CHAOS_SEED")
	if s == "" {
		return rand.Uint64()
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("CHAOS_SEED: %v", err)
	}
	return n
}

// TestChaos: whatever people do at once, in the end the members of a room see
// one list of members and one history, and everybody got what was accepted
// while they were in.
func TestChaos(t *testing.T) {
	if os.Getenv("CHAOS_TIME") == "" {
		t.Skip("random behaviour: run make chaos")
	}
	long, seed := chaosTime(t), chaosSeed(t)
	t.Logf("CHAOS_SEED=%d CHAOS_TIME=%s (what happens at once differs all the same)", seed, long)
	c := &chaos{world: newWorld(t), moves: make(map[place][]move), counts: make(map[string]int)}
	ctx, cancel := context.WithTimeout(context.Background(), long+6*time.Minute)
	defer cancel()
	for i, name := range []string{"alexandra", "bartholomew", "clementine", "desdemona", "evangeline", "ferdinand"} {
		domain := []string{"a.example", "b.example"}[i%2]
		p := c.person(ctx, name, domain, quick...)
		p.online(context.WithoutCancel(ctx))
		c.people = append(c.people, p)
	}
	first := c.people[0]
	for _, p := range c.people[1:4] {
		connect(ctx, t, first, p)
	}
	laptop := (&trio{world: c.world}).secondDevice(ctx, t, first, "alexandra-laptop")
	room, err := first.CreateRoom(ctx, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range c.people[1:4] {
		if err := first.Add(ctx, room, p.User()); err != nil {
			t.Fatal(err)
		}
	}
	c.rooms = append(c.rooms, room)
	c.came(first, room)

	until := time.Now().Add(long)
	var wg sync.WaitGroup
	for i, p := range c.people {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for n := 0; time.Now().Before(until) && ctx.Err() == nil; n++ {
				c.step(ctx, rnd, p, n)
				if p.cancel == nil && rnd.IntN(3) == 0 {
					p.online(context.WithoutCancel(ctx))
				}
			}
			if p.cancel == nil {
				p.online(context.WithoutCancel(ctx))
			}
		})
	}
	wg.Wait()
	everybody := append(slices.Clone(c.people), laptop)
	for _, p := range everybody {
		if err := p.Maintain(ctx); err != nil {
			t.Errorf("%s maintains: %v", p.name, err)
		}
		p.Hurry()
	}
	c.report(t)
	for _, r := range c.allRooms(everybody) {
		c.converge(ctx, t, r, everybody)
	}
	for _, p := range everybody {
		c.history(t, p)
	}
	c.oneOrder(t, everybody)
	c.complete(t, everybody)
	c.telemetry(t, everybody)
}

func (c *chaos) report(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(c.counts)) {
		t.Logf("%5d %s", c.counts[k], k)
	}
	if len(c.sent) < 5 {
		t.Errorf("only %d messages were accepted", len(c.sent))
	}
}

// allRooms are the rooms that anybody is in.
func (c *chaos) allRooms(people []*person) []string {
	found := make(map[string]bool)
	for _, p := range people {
		for _, i := range p.Rooms() {
			if !i.Removed {
				found[i.Room] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// view is what two members must agree on: pseudonyms, roles and leaves; not names,
// which somebody who resynced learns with the next refresh only (SPEC.md R-97).
func view(i client.RoomInfo) string {
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d", i.Epoch)
	for _, m := range i.Members {
		fmt.Fprintf(&b, "\n%d %s %s", m.Leaf, m.Pseudonym, m.Role)
	}
	return b.String()
}

// converge waits until all members of a room see the same: themselves, each once,
// and nobody else. Then everybody who may send does so, and everybody reads it.
func (c *chaos) converge(ctx context.Context, t *testing.T, room string, people []*person) {
	t.Helper()
	var members []client.RoomInfo
	var who []*person
	agree := func() bool {
		members, who = nil, nil
		views := make(map[string]bool)
		owned, owners := make(map[uint32]bool), 0
		for _, p := range people {
			i, err := p.Room(room)
			if err != nil || i.Removed {
				continue
			}
			members, who = append(members, i), append(who, p)
			views[view(i)] = true
			for _, m := range i.Members {
				if m.Own {
					owned[m.Leaf] = true
					owners++
				}
			}
		}
		return len(views) <= 1 && len(owned) == len(members) && owners == len(members) && (len(members) == 0 || len(members[0].Members) == len(members))
	}
	deadline, steady := time.Now().Add(chaosSettle), 0
	for time.Now().Before(deadline) && steady < 5 {
		steady++
		if !agree() {
			steady = 0
		}
		time.Sleep(50 * time.Millisecond)
	}
	if steady < 5 { // else they agreed, whatever a periodic commit has begun since
		for _, p := range people {
			i, err := p.Room(room)
			t.Logf("%s is in: %v; %s", p.name, err == nil && !i.Removed, p.lastOf(room))
		}
		for i := range who {
			t.Errorf("%s sees in %d: %s (stuck %v, suspect %v, forked %v, locked %v)", who[i].name, slices.Index(c.rooms, room), view(members[i]), members[i].Stuck, members[i].Suspect, members[i].Forked, members[i].Locked)
		}
		return
	}
	for i, p := range who {
		if members[i].Stuck || members[i].Suspect || members[i].Forked || members[i].Locked {
			t.Errorf("%s: stuck %v, suspect %v, forked %v, locked %v", p.name, members[i].Stuck, members[i].Suspect, members[i].Forked, members[i].Locked)
		}
		text := fmt.Sprintf("chaotic text last of %s", p.name)
		if err := c.send(ctx, p, members[i], text); err != nil {
			if slices.ContainsFunc(members[i].Members, func(m client.MemberInfo) bool { return m.Own && m.Role == "observer" }) {
				continue
			}
			t.Errorf("%s sends when all is quiet: %v", p.name, err)
			continue
		}
		for _, q := range who {
			if q != p {
				q.waitFor(text, func(e client.Event) bool { return e.Room == room && string(e.Data) == text })
			}
		}
	}
}

// chaosSettle bounds the wait for agreement. It is generous: nothing is asserted
// about time.
const chaosSettle = 3 * time.Minute

// lastOf tells what a person last saw of a room, for the report of a failure.
func (p *person) lastOf(room string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var kinds []string
	for _, e := range p.events {
		if e.Room == room && e.Kind != client.KindMessage {
			kinds = append(kinds, fmt.Sprintf("%s at %d", e.Kind, e.Seq))
		}
	}
	return strings.Join(kinds, ", ")
}

// history checks one person's events of every room: numbers rise, nothing comes
// twice, and nobody cheated.
func (c *chaos) history(t *testing.T, p *person) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	at := make(map[string]uint64)
	texts := make(map[string]bool)
	for _, e := range p.events {
		switch e.Kind {
		case client.KindForked, client.KindLocked, client.KindSuspect, client.KindStuck, client.KindGone:
			t.Errorf("%s: %s at %d", p.name, e.Kind, e.Seq)
		case client.KindMessage:
			if e.Seq <= at[e.Room] {
				t.Errorf("%s reads message %d of a room after %d", p.name, e.Seq, at[e.Room])
			}
			at[e.Room] = e.Seq
			if k := e.Room + string(e.Data); texts[k] {
				t.Errorf("%s reads %q twice", p.name, e.Data)
			} else {
				texts[k] = true
			}
		}
	}
}

// oneOrder: a number in a room is one message, for everybody.
func (c *chaos) oneOrder(t *testing.T, people []*person) {
	t.Helper()
	type place struct {
		room string
		seq  uint64
	}
	seen := make(map[place]string)
	shared := 0
	for _, p := range people {
		p.mu.Lock()
		for _, e := range p.events {
			if e.Kind != client.KindMessage {
				continue
			}
			k, text := place{e.Room, e.Seq}, string(e.Data)
			if other, ok := seen[k]; ok && other != text {
				t.Errorf("message %d of a room is %q for %s and %q for somebody else", e.Seq, text, p.name, other)
			} else if ok {
				shared++
			}
			seen[k] = text
		}
		p.mu.Unlock()
	}
	if shared == 0 {
		t.Error("no message was read by two people")
	}
}

// telemetry: nothing but the closed list in the log, no identifier, no panic, no
// internal error.
func (c *chaos) telemetry(t *testing.T, people []*person) {
	t.Helper()
	needles := spell.All("chaotic text")
	for _, p := range people {
		needles = append(needles, spell.All(p.name, p.User())...)
		for _, i := range p.Rooms() {
			for _, m := range i.Members {
				needles = append(needles, spell.All(m.Pseudonym)...)
			}
		}
	}
	allowed := append(slices.Clone(redact.Keys), "time", "level", "msg")
	lines := 0
	for line := range strings.Lines(c.log.String()) {
		lines++
		var attrs map[string]any
		if err := json.Unmarshal([]byte(line), &attrs); err != nil {
			t.Fatalf("log: %s", line)
		}
		for k := range attrs {
			if !slices.Contains(allowed, k) {
				t.Errorf("key %q in the log", k)
			}
		}
		if attrs["level"] == "ERROR" || strings.Contains(line, "127.0.0.1") || spell.Any(needles, []byte(line)) {
			t.Errorf("log: %s", line)
		}
	}
	if lines == 0 {
		t.Error("the log was not captured")
	}
}
