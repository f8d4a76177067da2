package limits_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

const (
	overloadFor = 5 * time.Second
	overloaders = 40 // who call without a pause
	maxCalls    = 4  // of the relay and of the hub
	talkers     = 3
)

// member is a client in the room, with what it got.
type member struct {
	*client.Client
	name string

	mu  sync.Mutex // guards got
	got map[string]int
}

func (m *member) count(message string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got[message]
}

// freeAddress finds a port that nothing listens on at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// TestOverloadRecovers: callers who never pause take all that a relay and a hub can
// do at once, for some seconds. Nothing that the hub accepted from the clients
// among them is lost or comes twice; and when the load is gone every call works at
// once, with nobody's help.
func TestOverloadRecovers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	hubAddr, peerAddr := freeAddress(t), freeAddress(t)
	calls := fmt.Sprint(maxCalls)
	hub := start(t, hubDomain, "pebble:"+t.TempDir(), "--listen", hubAddr, "--peer", "provider:"+aDomain+"="+peerAddr, "--max-calls", calls, "--requests-per-minute", "100000")
	p := startProvider(t, "pebble:"+t.TempDir(), "--peer-listen", peerAddr, "--peer", "hub:"+hubDomain+"="+hubAddr, "--max-calls", calls, "--forward-per-minute", "1000000")
	members, room := p.room(ctx, t)

	accepted := make(map[string]string) // message to sender
	var mu sync.Mutex                   // guards accepted
	load, stop := context.WithTimeout(ctx, overloadFor)
	defer stop()
	var wg sync.WaitGroup
	for range overloaders {
		wg.Go(func() { p.hammer(load) })
	}
	for _, m := range members {
		wg.Go(func() {
			for i := 0; load.Err() == nil; i++ {
				message := fmt.Sprint(m.name, " ", i)
				if m.Send(ctx, room, []byte(message)) == nil {
					mu.Lock()
					accepted[message] = m.name
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for calm := 0; calm < 2*maxCalls; calm++ { // calls that were given up may still be under way
		if err := p.ask(ctx); status.Code(err) == codes.ResourceExhausted {
			calm = 0
		}
	}
	shed := func() float64 {
		return p.metric(t, "mmr_relay_calls_total", `code="ResourceExhausted"`) + hub.metric(t, "mmr_hub_calls_total", `code="ResourceExhausted"`)
	}
	before := shed()
	t.Logf("%d messages were accepted, %.0f calls refused", len(accepted), before)
	if before == 0 || len(accepted) == 0 {
		t.Error("that was no overload")
	}
	for i := range 20 { // each at the first attempt
		m := members[i%talkers]
		message := fmt.Sprint(m.name, " afterwards ", i)
		once, cancel := context.WithCancel(ctx)
		if err := m.Send(once, room, []byte(message)); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		cancel()
		accepted[message] = m.name
	}
	if now := shed(); now != before {
		t.Errorf("%.0f calls are refused without any load", now-before)
	}
	for message, sender := range accepted {
		for _, m := range members {
			if m.name == sender {
				continue
			}
			for m.count(message) == 0 {
				if time.Sleep(10 * time.Millisecond); ctx.Err() != nil {
					t.Fatalf("%s never got %q", m.name, message)
				}
			}
		}
	}
	for _, m := range members {
		m.mu.Lock()
		for message, n := range m.got {
			if n != 1 {
				t.Errorf("%s got %q %d times", m.name, message, n)
			}
		}
		m.mu.Unlock()
	}
}

// hammer asks as fast as it is answered.
func (p *provider) hammer(ctx context.Context) {
	for ctx.Err() == nil {
		_ = p.ask(ctx) // it does not care
	}
}

// ask asks about a mailbox that there is not, which costs what one costs that there is.
func (p *provider) ask(ctx context.Context) error {
	key, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		return err
	}
	return p.call(ctx, seal.MethodQueueStat, nil, key, &relayv1.QueueStatRequest{QueueId: key.Public().Bytes()[:16]}, new(relayv1.QueueStatResponse))
}

// room makes a room of clients that listen.
func (p *provider) room(ctx context.Context, t *testing.T) (members []*member, room string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	live, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		stop()
		wg.Wait()
		for _, m := range members {
			_ = m.Close() // the test is over
		}
	})
	link := ""
	for i := range talkers {
		name := fmt.Sprint("talker", i)
		c, err := client.Register(ctx, client.NewMemoryStore(), client.Account{User: name, Device: name + "-phone", Domain: aDomain, Relay: p.address(t, "addr")}, p.trust, client.WithGapWait(time.Second), client.WithRetryFor(time.Minute))
		must(err)
		m := &member{Client: c, name: name, got: make(map[string]int)}
		members = append(members, m)
		wg.Go(func() {
			_ = m.Listen(live, func(e client.Event) error {
				if e.Kind == client.KindMessage {
					m.mu.Lock()
					m.got[string(e.Data)]++
					m.mu.Unlock()
				}
				return nil
			})
		})
		if i == 0 {
			room, err = c.CreateRoom(ctx, hubDomain)
			must(err)
			link, err = c.CreateLink(ctx, room, time.Hour)
			must(err)
			continue
		}
		_, err = c.Join(ctx, link)
		must(err)
	}
	joined := func(m *member) bool {
		info, err := m.Room(room)
		return err == nil && len(info.Members) == talkers
	}
	for slices.ContainsFunc(members, func(m *member) bool { return !joined(m) }) {
		if time.Sleep(20 * time.Millisecond); ctx.Err() != nil {
			t.Fatal("not everybody is in the room")
		}
	}
	return members, room
}
