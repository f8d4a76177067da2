package e2e_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/client"
)

// count counts the events that match.
func (m *mortal) count(match func(client.Event) bool) int {
	return len(slices.DeleteFunc(slices.Clone(m.events), func(e client.Event) bool { return !match(e) }))
}

// govern is a life that founds a room, gives roles and links, takes its place
// again, bans, leaves, and ends its connection.
func govern(t *testing.T, w *world, bob friend, name string, failAt int, persist bool) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	m := w.mortal(t, name, "a.example", failAt, persist)
	connected := func() bool { return slices.Contains(m.Connections(), bob.User()) }
	m.do("connect", connected, func(ctx context.Context) error { return m.Connect(ctx, bob.User(), "hub.example") })
	if err := bob.acceptAll(ctx); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil && !connected() {
		m.pull(ctx)
		time.Sleep(20 * time.Millisecond)
	}
	var room string
	m.do("create", never, func(ctx context.Context) (err error) { room, err = m.CreateRoom(ctx, "hub.example"); return err })
	m.do("add", func() bool { return m.member(room, bob.User()) }, func(ctx context.Context) error { return m.Add(ctx, room, bob.User()) })
	bob.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == room })
	m.do("role", func() bool {
		info, err := m.Room(room)
		return err == nil && slices.ContainsFunc(info.Members, func(x client.MemberInfo) bool { return x.User == bob.User() && x.Role == "moderator" })
	}, func(ctx context.Context) error { return m.SetRole(ctx, room, bob.User(), "moderator") })
	m.do("link", never, func(ctx context.Context) error { _, err := m.CreateLink(ctx, room, time.Hour); return err })
	m.do("resync", never, func(ctx context.Context) error { return m.Resync(ctx, room) })
	m.do("read and refresh link keys", never, func(ctx context.Context) error { return m.Sync(ctx) })
	text := name + " is back"
	tried := false
	m.do("send", func() bool { return tried }, func(ctx context.Context) error {
		tried = true
		return m.Send(ctx, room, []byte(text))
	})
	if m.crashed && !hears(bob, text) { // killed before it was stored
		m.do("send again", never, func(ctx context.Context) error { return m.Send(ctx, room, []byte(text)) })
	}
	bob.waitFor("the message", func(e client.Event) bool { return string(e.Data) == text })
	m.do("maintain", never, func(ctx context.Context) error { return m.Maintain(ctx) })
	m.do("ban", func() bool { return !m.member(room, bob.User()) }, func(ctx context.Context) error { return m.Ban(ctx, room, bob.User()) })
	bob.waitFor("removal", func(e client.Event) bool { return e.Kind == client.KindRemoved && e.Room == room })
	gone := func() bool { _, err := m.Room(room); return err != nil }
	m.do("leave", gone, func(ctx context.Context) error { return m.Leave(ctx, room) })
	m.do("disconnect", func() bool { return !connected() }, func(ctx context.Context) error { return m.Disconnect(ctx, bob.User()) })
	m.pull(ctx)
	if n := m.count(func(e client.Event) bool { return e.Kind == client.KindLeft && e.Room == room }); n != 1 || !gone() || connected() {
		t.Errorf("told %d times of the leave; gone %v, connected %v", n, gone(), connected())
	}
	bob.mu.Lock()
	defer bob.mu.Unlock()
	if d := twice(texts(bob.events, room)); len(d) > 0 {
		t.Errorf("twice at the other side: %q", d)
	}
	if failAt > 0 && !m.crashed {
		return 0
	}
	return m.store.writes
}

// own is a life with a second device, which is lost in the end. The device that
// dies is the first.
func own(t *testing.T, w *world, _ friend, name string, failAt int, persist bool) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	m := w.mortal(t, name, "a.example", failAt, persist)
	var room string
	m.do("create", never, func(ctx context.Context) (err error) { room, err = m.CreateRoom(ctx, "hub.example"); return err })
	laptop := &person{tb: t, name: name + "-laptop", store: client.NewMemoryStore(), trust: w.trust}
	request, err := client.BeginDevice(laptop.store, laptop.name)
	if err != nil {
		t.Fatal(err)
	}
	var response string
	m.do("add device", never, func(ctx context.Context) (err error) {
		response, err = m.AddDevice(ctx, request, "hub.example")
		return err
	})
	if laptop.Client, err = client.JoinDevice(ctx, laptop.store, response, w.trust, quick...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		laptop.offline()
		_ = laptop.Close()
	})
	laptop.online(context.WithoutCancel(ctx))
	saw := func(kind client.Kind) int {
		laptop.mu.Lock()
		defer laptop.mu.Unlock()
		return len(slices.DeleteFunc(slices.Clone(laptop.events), func(e client.Event) bool { return e.Kind != kind || e.Room != room }))
	}
	for ctx.Err() == nil && saw(client.KindJoined) == 0 {
		m.pull(ctx)
		time.Sleep(20 * time.Millisecond)
	}
	if err := laptop.Send(ctx, room, []byte("from the laptop")); err != nil {
		t.Fatal(err)
	}
	m.until("the laptop's message", func(e client.Event) bool { return string(e.Data) == "from the laptop" })
	m.do("remove device", never, func(ctx context.Context) error { return m.RemoveDevice(ctx, laptop.name) })
	m.Hurry()
	for ctx.Err() == nil && saw(client.KindRemoved) == 0 {
		m.do("oust", never, func(ctx context.Context) error { return m.Maintain(ctx) })
		time.Sleep(20 * time.Millisecond)
	}
	if saw(client.KindJoined) != 1 || saw(client.KindRemoved) != 1 || len(m.Devices()) != 1 {
		t.Errorf("the laptop joined %d times and was removed %d times; devices %v", saw(client.KindJoined), saw(client.KindRemoved), m.Devices())
	}
	if d := twice(texts(m.events, room)); len(d) > 0 {
		t.Errorf("twice: %q", d)
	}
	if failAt > 0 && !m.crashed {
		return 0
	}
	return m.store.writes
}
