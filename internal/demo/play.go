package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mmrelay/mmrelay/pkg/client"
)

// person is one of the three.
type person struct {
	*client.Client
	name, domain string
	store        *client.MemoryStore
	account      struct{ QueueID []byte }

	mu     sync.Mutex // guards events
	events []client.Event
	stop   func()
}

// truth is what really happened: the demo knows, and asks who else could.
type truth struct {
	people   []*person
	texts    []string
	room     string
	roomIDs  [][]byte // connection rooms and the room
	own      []string // pseudonyms that members placed themselves
	pooled   []string // pseudonyms from KeyPackage pools at b.example
	bobToken []byte   // opens Bob's pool for Alice
}

type sayFunc func(format string, args ...any)

// play is the main job.
func play(ctx context.Context, d *deployment, say sayFunc) (*truth, error) {
	t := new(truth)
	for _, x := range []struct{ name, domain, partner string }{{"alice", aDomain, bDomain}, {"bob", bDomain, aDomain}, {"carol", bDomain, aDomain}} {
		p := &person{name: x.name, domain: x.domain, store: client.NewMemoryStore()}
		var err error
		p.Client, err = client.Register(ctx, p.store, client.Account{
			User: x.name, Device: x.name + "-phone", Domain: x.domain, Relay: d.relays[x.domain],
			PartnerDomain: x.partner, Partner: d.relays[x.partner], Code: "demo",
		}, d.trust)
		if err != nil {
			return nil, fmt.Errorf("registering %s: %w", x.name, err)
		}
		defer func() { _ = p.Close() }() // the demo is over
		p.online(ctx)
		defer p.offline()
		t.people = append(t.people, p)
		say("%-6s registers at %s, makes a mailbox and publishes connection packages", x.name, x.domain)
	}
	alice, bob, carol := t.people[0], t.people[1], t.people[2]
	for _, p := range []*person{bob, carol} {
		if err := connect(ctx, alice, p, say); err != nil {
			return nil, err
		}
	}
	var err error
	if t.room, err = alice.CreateRoom(ctx, hubDomain); err != nil {
		return nil, err
	}
	say("alice  creates a room at %s", hubDomain)
	if err := alice.Add(ctx, t.room, bob.User(), carol.User()); err != nil {
		return nil, err
	}
	for _, p := range []*person{bob, carol} {
		if err := p.wait(ctx, "joining", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == t.room }); err != nil {
			return nil, err
		}
		say("%-6s is added by alice", p.name)
	}
	if err := t.note(); err != nil {
		return nil, err
	}
	if err := t.talk(ctx, say); err != nil {
		return nil, err
	}
	return t, t.part(ctx, say)
}

func connect(ctx context.Context, a, b *person, say sayFunc) error {
	if err := a.Connect(ctx, b.User(), hubDomain); err != nil {
		return fmt.Errorf("connecting with %s: %w", b.name, err)
	}
	say("%-6s asks %s for a connection", a.name, b.name)
	rs, err := b.Requests(ctx)
	if err != nil {
		return err
	}
	if len(rs) != 1 || rs[0].User != a.User() {
		return fmt.Errorf("%s has %d requests", b.name, len(rs))
	}
	if err := b.Accept(ctx, rs[0].ID); err != nil {
		return fmt.Errorf("accepting: %w", err)
	}
	if err := a.wait(ctx, "the answer", func(e client.Event) bool { return e.Kind == client.KindConnected && e.User == b.User() }); err != nil {
		return err
	}
	say("%-6s accepts", b.name)
	return nil
}

// talk: all three say something, and all others read it.
func (t *truth) talk(ctx context.Context, say sayFunc) error {
	for i, p := range t.people {
		text := []string{"the heron flies at nine", "umbrella weather all week", "bring the violet folder"}[i]
		t.texts = append(t.texts, text)
		if err := p.Send(ctx, t.room, []byte(text)); err != nil {
			return fmt.Errorf("%s sends: %w", p.name, err)
		}
		for _, q := range t.people {
			if q == p {
				continue
			}
			if err := q.wait(ctx, "a message", func(e client.Event) bool {
				return e.Kind == client.KindMessage && string(e.Data) == text && e.User == p.User()
			}); err != nil {
				return err
			}
		}
		say("%-6s > %s", p.name, text)
	}
	return nil
}

// part: Carol is removed, Bob is away and comes back.
func (t *truth) part(ctx context.Context, say sayFunc) error {
	alice, bob, carol := t.people[0], t.people[1], t.people[2]
	bob.offline()
	say("bob    goes offline")
	if err := alice.Remove(ctx, t.room, carol.User()); err != nil {
		return err
	}
	if err := carol.wait(ctx, "the removal", func(e client.Event) bool { return e.Kind == client.KindRemoved }); err != nil {
		return err
	}
	say("carol  is removed by alice")
	var late []string
	for i := range 5 {
		text := fmt.Sprintf("after the removal, note number %d", i+1)
		late = append(late, text)
		if err := alice.Send(ctx, t.room, []byte(text)); err != nil {
			return err
		}
		say("alice  > %s", text)
	}
	t.texts = append(t.texts, late...)
	before := len(bob.messages())
	bob.online(ctx)
	if err := bob.wait(ctx, "the last note", func(e client.Event) bool { return string(e.Data) == late[4] }); err != nil {
		return err
	}
	if err := bob.settled(ctx); err != nil {
		return err
	}
	if got := bob.messages()[before:]; !slices.Equal(got, late) {
		return fmt.Errorf("bob read %q, want %q once each in order", got, late)
	}
	say("bob    comes back and reads all %d notes, in order, each once", len(late))
	for _, m := range carol.messages() {
		if slices.Contains(late, m) {
			return fmt.Errorf("carol, who was removed, read %q", m)
		}
	}
	say("carol  received nothing after her removal")
	return nil
}

// note writes down the secrets and identifiers that nobody should be able to join.
func (t *truth) note() error {
	for _, p := range t.people {
		if err := p.record("account", &p.account); err != nil {
			return err
		}
	}
	alice, bob := t.people[0], t.people[1]
	info, err := alice.Room(t.room)
	if err != nil {
		return err
	}
	for _, m := range info.Members {
		if m.Own {
			t.own = append(t.own, m.Pseudonym)
		} else {
			t.pooled = append(t.pooled, m.Pseudonym)
		}
	}
	records, err := alice.store.Load()
	if err != nil {
		return err
	}
	for name, raw := range records {
		if strings.HasPrefix(name, "room/") {
			var r struct{ GroupID []byte }
			if err := json.Unmarshal(raw, &r); err != nil {
				return err
			}
			t.roomIDs = append(t.roomIDs, r.GroupID)
		}
	}
	var conn struct{ PeerToken []byte }
	if err := alice.record("conn/"+bob.User(), &conn); err != nil {
		return err
	}
	t.bobToken = conn.PeerToken
	return nil
}

func (p *person) record(name string, v any) error {
	records, err := p.store.Load()
	if err != nil {
		return err
	}
	return json.Unmarshal(records[name], v)
}

func (p *person) online(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Listen(ctx, func(e client.Event) error { // ends with the context
			p.mu.Lock()
			defer p.mu.Unlock()
			p.events = append(p.events, e)
			return nil
		})
	}()
	p.stop = func() { cancel(); <-done }
}

func (p *person) offline() {
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
}

func (p *person) wait(ctx context.Context, what string, match func(client.Event) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		p.mu.Lock()
		ok := slices.ContainsFunc(p.events, match)
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s waits for %s: %w", p.name, what, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// settled waits a moment in which nothing more may come.
func (p *person) settled(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(300 * time.Millisecond):
		return nil
	}
}

func (p *person) messages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, e := range p.events {
		if e.Kind == client.KindMessage {
			out = append(out, string(e.Data))
		}
	}
	return out
}
