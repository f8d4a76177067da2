package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/spell"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// secretsOf are what a search looks for after three people have talked.
type secretsOf struct {
	names      []spell.Needle // users and devices
	texts      []spell.Needle
	rooms      []spell.Needle
	pseudonyms []spell.Needle
	mailboxes  map[string][]spell.Needle // by provider
}

// talked runs a conversation and leaves one member offline, so that stores hold
// undelivered entries.
func talked(t *testing.T) (*world, []*person, []string, *secretsOf) {
	t.Helper()
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	people := []*person{w.person(ctx, "alicia", "a.example"), w.person(ctx, "robert", "b.example"), w.person(ctx, "carola", "b.example")}
	for _, p := range people {
		p.online(ctx)
	}
	alice, robert, carola := people[0], people[1], people[2]
	connect(ctx, t, alice, robert)
	connect(ctx, t, alice, carola)
	s := &secretsOf{mailboxes: make(map[string][]spell.Needle)}
	var rooms []string
	for range 2 { // two rooms with the same people
		room, err := alice.CreateRoom(ctx, "hub.example")
		if err != nil {
			t.Fatal(err)
		}
		if err := alice.Add(ctx, room, robert.User(), carola.User()); err != nil {
			t.Fatal(err)
		}
		rooms = append(rooms, room)
	}
	for _, p := range []*person{robert, carola} {
		for _, room := range rooms {
			p.waitFor("join", func(e client.Event) bool { return e.Kind == client.KindJoined && e.Room == room })
		}
	}
	carola.offline()
	for i, room := range rooms {
		text := fmt.Sprintf("the quick message number %d", i)
		s.texts = append(s.texts, spell.Of([]byte(text)))
		if err := alice.Send(ctx, room, []byte(text)); err != nil {
			t.Fatal(err)
		}
		robert.waitFor(text, func(e client.Event) bool { return string(e.Data) == text })
	}
	s.collect(t, people, rooms)
	return w, people, rooms, s
}

func (s *secretsOf) collect(t *testing.T, people []*person, rooms []string) {
	t.Helper()
	for _, p := range people {
		s.names = append(s.names, spell.All(p.name)...)
		records, err := p.store.Load()
		if err != nil {
			t.Fatal(err)
		}
		var account struct {
			QueueID []byte
			Domain  string
		}
		if err := json.Unmarshal(records["account"], &account); err != nil {
			t.Fatal(err)
		}
		s.mailboxes[account.Domain] = append(s.mailboxes[account.Domain], spell.Of(account.QueueID))
	}
	for _, uri := range rooms {
		_, id, err := pseudonym.ParseRoomURI(uri)
		if err != nil {
			t.Fatal(err)
		}
		s.rooms = append(s.rooms, spell.Of(id))
		info, err := people[0].Room(uri)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range info.Members {
			s.pseudonyms = append(s.pseudonyms, spell.All(m.Pseudonym)...)
		}
	}
}

func (e entry) holds(ns []spell.Needle) bool {
	return spell.Any(ns, []byte(e.group+"\n"+e.name+"\n"+e.value))
}

// TestPrivacyStores: what a thief of each store would find, and what not.
func TestPrivacyStores(t *testing.T) {
	t.Parallel()
	w, _, _, s := talked(t)
	var mailboxes []spell.Needle
	for _, m := range s.mailboxes {
		mailboxes = append(mailboxes, m...)
	}
	for _, e := range w.hub.atRest(t) {
		for what, ns := range map[string][]spell.Needle{"a name": s.names, "a message text": s.texts, "a mailbox id": mailboxes, "a pseudonym in clear": s.pseudonyms} {
			if e.holds(ns) {
				t.Errorf("the hub's store holds %s in %s", what, e.key())
			}
		}
	}
	found := make(map[string]bool)
	for domain, r := range w.relays {
		for _, e := range r.atRest(t) {
			for what, ns := range map[string][]spell.Needle{"a message text": s.texts, "a room id": s.rooms} {
				if e.holds(ns) {
					t.Errorf("%s holds %s in %s", domain, what, e.key())
				}
			}
			if e.holds(s.names) {
				found["names in "+e.place] = true
			}
			if e.holds(s.mailboxes[domain]) {
				found["mailboxes in "+e.place] = true
			}
			for other, ns := range s.mailboxes {
				if other != domain && e.holds(ns) {
					t.Errorf("%s holds a mailbox id of %s in %s", domain, other, e.key())
				}
			}
		}
	}
	// The search must find what is there, or it proves nothing; and nothing else.
	for place := range found {
		switch place {
		case "names in accounts", "mailboxes in mailboxes", "mailboxes in queues":
		default:
			t.Errorf("a relay has %s", place)
		}
	}
	if !found["names in accounts"] || !found["mailboxes in mailboxes"] || !found["mailboxes in queues"] {
		t.Errorf("the search found only %v", found)
	}
}

// TestPrivacyTelemetry: no identifier in any log line, at debug, or metric.
func TestPrivacyTelemetry(t *testing.T) {
	t.Parallel()
	w, people, _, s := talked(t)
	all := slices.Concat(s.names, s.texts, s.rooms, s.pseudonyms)
	for _, m := range s.mailboxes {
		all = append(all, m...)
	}
	for _, p := range people {
		all = append(all, spell.All(p.User())...)
	}
	for line := range strings.Lines(w.log.String()) {
		if spell.Any(all, []byte(line)) {
			t.Errorf("log: %s", line)
		}
		if strings.Contains(line, "127.0.0.1") {
			t.Errorf("an address in the log: %s", line)
		}
	}
	if !strings.Contains(w.log.String(), `"msg":"call"`) {
		t.Error("the log was not captured")
	}
	n := 0
	for _, svc := range []*service{w.hub, w.relays["a.example"], w.relays["b.example"]} {
		fs, err := svc.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fs {
			n++
			if spell.Any(all, []byte(f.String())) || strings.Contains(f.String(), "example") {
				t.Errorf("metric %s shows who is served", f.GetName())
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d metrics gathered", n)
	}
}

// TestPrivacyRoomsShareNothing: whatever eight bytes the hub's views of two
// rooms of the same people have in common, it also has in common with a room of
// entirely different people: structure, domains, the hub's own keys, and nothing
// that belongs to anybody.
func TestPrivacyRoomsShareNothing(t *testing.T) {
	t.Parallel()
	w, people, rooms, _ := talked(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	others := []*person{w.person(ctx, "davina", "a.example"), w.person(ctx, "edward", "b.example"), w.person(ctx, "franca", "b.example")}
	for _, p := range others {
		p.online(ctx)
	}
	connect(ctx, t, others[0], others[1])
	connect(ctx, t, others[0], others[2])
	var strangers strings.Builder
	for range 2 { // twice, so that structure that varies has its chance
		room, err := others[0].CreateRoom(ctx, "hub.example")
		if err != nil {
			t.Fatal(err)
		}
		if err := others[0].Add(ctx, room, others[1].User(), others[2].User()); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if err := others[0].Send(ctx, room, fmt.Appendf(nil, "the quick message number %d", i)); err != nil {
				t.Fatal(err)
			}
		}
		strangers.WriteString(w.viewOf(t, others[0], room))
	}
	one, two := w.viewOf(t, people[0], rooms[0]), w.viewOf(t, people[0], rooms[1])
	windows, structure := grams(one, 8), grams(strangers.String(), 5)
	shared := 0
	for x := range grams(two, 8) {
		if !windows[x] {
			continue
		}
		shared++
		// A window that overlaps structure is not a value of its own: all values of
		// eight bytes and more have a window in which no piece is structure.
		constant := strings.Count(x, "\x00") >= 4 // small numbers: epochs, indices, lengths
		for piece := range grams(x, 5) {
			constant = constant || structure[piece]
		}
		if !constant {
			t.Errorf("the two rooms share %q (%x), which no stranger's room has", x, x)
		}
	}
	if shared == 0 {
		t.Error("two rooms of one hub share nothing at all: the search does not work")
	}
}

// grams are the substrings of n bytes.
func grams(s string, n int) map[string]bool {
	out := make(map[string]bool)
	for i := 0; i+n <= len(s); i++ {
		out[s[i:i+n]] = true
	}
	return out
}

// viewOf is what the hub has of a room: its records, the requests it served, and
// the roster in clear.
func (w *world) viewOf(t *testing.T, p *person, uri string) string {
	t.Helper()
	info, err := p.Room(uri)
	if err != nil {
		t.Fatal(err)
	}
	_, id, err := pseudonym.ParseRoomURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range w.hub.atRest(t) {
		if e.group == "g"+string(id) {
			b.WriteString(e.name + "\n" + e.value + "\n")
		}
	}
	for _, m := range info.Members {
		b.WriteString(m.Pseudonym + "\n")
	}
	for _, method := range w.hub.tap.served() {
		for _, r := range w.hub.tap.of(method, id) {
			b.Write(r.Body)
		}
	}
	return b.String()
}

// TestPrivacyDumpsShareNothing: no value of the hub's stores is in a relay's, so
// that nobody who has both can join them.
func TestPrivacyDumpsShareNothing(t *testing.T) {
	t.Parallel()
	w, people, rooms, _ := talked(t)
	ctx := within(t)
	people[1].offline() // so that its mailbox holds something
	if err := people[0].Send(ctx, rooms[0], []byte("for the mailbox")); err != nil {
		t.Fatal(err)
	}
	w.quiet(t)
	const n = 12
	public := "mimi://a.example/u/ mimi://b.example/u/ mimi://a.example/d/ mimi://b.example/d/ provider:a.example provider:b.example hub:hub.example"
	windows := make(map[string]bool)
	for _, e := range w.hub.atRest(t) {
		maps.Copy(windows, grams(e.group+"\n"+e.name+"\n"+e.value, n))
	}
	searched, mailbox := 0, 0
	for domain, r := range w.relays {
		for _, e := range r.atRest(t) {
			if e.name == "stat" {
				continue // how atRest prints a queue's counters
			}
			if e.place == "queues" {
				mailbox++
			}
			for x := range grams(e.group+"\n"+e.name+"\n"+e.value, n) {
				searched++
				if !windows[x] || strings.Count(x, "\x00") >= n/2 {
					continue
				}
				if strings.ContainsFunc(x, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("%s and the hub share %x, in %s", domain, x, e.key())
				} else if !strings.Contains(public, x) {
					t.Errorf("%s and the hub share %q, in %s", domain, x, e.key())
				}
			}
		}
	}
	if mailbox == 0 || searched < 10_000 || len(windows) < 10_000 {
		t.Errorf("%d mailbox entries, %d windows of relays, %d of the hub", mailbox, searched, len(windows))
	}
}
