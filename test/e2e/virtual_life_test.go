package e2e_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
	"github.com/mmrelay/mmrelay/pkg/token"
)

const day = 24 * time.Hour

// rows counts what can be read in all stores, by "hub: " or "relay: " and what the
// daemons' inspectors call it.
func (b *bubble) rows() map[string]int {
	b.t.Helper()
	ctx, n := context.Background(), make(map[string]int)
	inspectors := relay.Inspectors()
	inspectors["hub"] = hub.Inspector{}
	for _, kinds := range b.data {
		for kind, s := range kinds {
			who, i := "relay: ", inspectors[kind]
			if kind == "hub" {
				who = "hub: "
			}
			note := func(f store.Finding, err error) {
				if err != nil || f.Fault != "" || f.Orphan {
					b.t.Errorf("%s%s: %s, orphan %v, %v", who, f.Kind, f.Fault, f.Orphan, err)
				}
				n[who+f.Kind]++
			}
			for g, err := range s.KV.Groups(ctx, "") {
				b.must(err)
				for rec, err := range s.KV.Scan(ctx, g, "") {
					b.must(err)
					note(i.Record(ctx, s, rec))
				}
			}
			for id, err := range s.Queue.(queue.Auditor).Queues(ctx) {
				b.must(err)
				note(i.Queue(ctx, s, id))
				st, err := s.Queue.Stat(ctx, id)
				b.must(err)
				n[who+"entry"] += st.Entries
			}
			// Dedup keys are the backend's own.
			r, err := s.Audit(ctx, nil, false)
			b.must(err)
			n[who+"dedup key"] += r.Rows["dedup key"] - r.Orphans["dedup key that expired"] - r.Orphans["dedup key of a deleted queue"]
		}
	}
	return n
}

// rests asserts that backends have nothing left that expired, but for kinds that
// take their time.
func (b *bubble) rests(but ...string) {
	b.t.Helper()
	for domain, kinds := range b.data {
		for kind, s := range kinds {
			r, err := s.Audit(context.Background(), nil, false)
			b.must(err)
			for _, kind := range but {
				delete(r.Orphans, kind)
			}
			if !r.Sound() || len(r.Orphans) > 0 {
				b.t.Errorf("the store of %s at %s:\n%s", kind, domain, r)
			}
		}
	}
}

func (b *bubble) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// ask sends one request to a gateway as a relay does.
func (b *bubble) ask(ctx context.Context, as, to string, q *seal.Request, kind seal.AuthKind, leaf uint32, signer *primitive.SigningKey, body proto.Message) {
	b.t.Helper()
	cert, err := grpcserver.LoadCertificate(b.dir+"/"+as+"/tls.crt", b.dir+"/"+as+"/tls.key")
	b.must(err)
	roots, err := keys.Pool(b.dir + "/trust/operators.pem")
	b.must(err)
	conn, err := grpc.NewClient("passthrough:///"+to, grpc.WithContextDialer(b.dial), grpc.WithTransportCredentials(credentials.NewTLS(cert.ClientTLS(roots, to))))
	b.must(err)
	defer func() { b.must(conn.Close()) }()
	g := gatewayv1.NewGatewayServiceClient(conn)
	published, err := g.GetPublishedKeys(ctx, &gatewayv1.GetPublishedKeysRequest{})
	b.must(err)
	key, err := seal.ParseKeyConfig(published.GetKeys().GetGatewayKeys()[0].GetConfig())
	b.must(err)
	q.RequestID, q.Timestamp = id16(), seal.Timestamp(time.Now())
	q.Body, err = proto.Marshal(body)
	b.must(err)
	b.must(q.Sign(kind, leaf, signer))
	raw, err := q.AppendBinary(nil)
	b.must(err)
	enc, opener, err := seal.Encapsulate(key, raw)
	b.must(err)
	out, err := g.Call(ctx, &gatewayv1.CallRequest{Encapsulated: enc})
	b.must(err)
	pt, err := opener.Open(out.GetEncapsulated())
	b.must(err)
	res, err := seal.ParseResponse(pt)
	b.must(err)
	if res.Code != 0 {
		b.t.Fatalf("%s: %v", q.Method, res.Err())
	}
}

// asPerson lets helpers look into a client's store.
func (b *bubble) asPerson(c *bubbleClient) *person {
	return &person{Client: c.Client, tb: b.t, store: c.store}
}

// oneTime seals a mailbox once more.
func (b *bubble) oneTime(domain string, id []byte) (keyID uint8, sealed []byte) {
	b.t.Helper()
	ks, err := keys.Load(b.dir+"/"+domain, keys.Provider, domain)
	b.must(err)
	p, err := ks.Published(time.Now())
	b.must(err)
	c, err := seal.ParseKeyConfig(p.GetQueueKeys()[0].GetConfig())
	b.must(err)
	sealed, err = seal.SealQueue(c.Key, domain, c.ID, seal.QueueConfig{QueueID: [16]byte(id), Handle: id16(), NotAfterDay: seal.Day(time.Now()) + 30})
	b.must(err)
	return c.ID, sealed
}

// forget makes a mailbox one that was deleted more than 105 days ago: its relay
// calls it gone.
func (b *bubble) forget(domain string, id []byte) {
	b.t.Helper()
	ctx, s := context.Background(), b.data[domain]["queues"]
	b.must(s.Queue.Delete(ctx, queue.ID(id)))
	for rec, err := range s.KV.Scan(ctx, "q"+string(id), "") {
		b.must(err)
		b.must(kv.Delete(ctx, s.KV, rec.Key))
	}
}

// live makes ordinary use of everything there is, for some minutes, until everybody
// has gone.
func (b *bubble) live(ctx context.Context) {
	b.t.Helper()
	people := make(map[string]*bubbleClient)
	for _, name := range []string{"alice", "carol", "dave", "frank"} {
		people[name] = b.client(ctx, name, "a.example")
	}
	for _, name := range []string{"bob", "erin", "grace"} {
		people[name] = b.client(ctx, name, "b.example")
	}
	alice, bob := people["alice"], people["bob"]
	alice.online(ctx)
	bob.online(ctx)
	for _, name := range []string{"bob", "dave", "frank", "grace"} {
		b.must(alice.Connect(ctx, people[name].User(), "hub.example"))
		rs, err := people[name].Requests(ctx)
		b.must(err)
		b.must(people[name].Accept(ctx, rs[0].ID))
		time.Sleep(time.Minute)
	}
	b.must(people["carol"].Connect(ctx, alice.User(), "hub.example")) // never answered
	room, err := alice.CreateRoom(ctx, "hub.example")
	b.must(err)
	b.must(alice.Add(ctx, room, bob.User(), people["frank"].User(), people["grace"].User()))
	time.Sleep(time.Minute)
	b.must(people["frank"].Sync(ctx)) // and not again
	b.must(people["grace"].Sync(ctx))
	link, err := alice.CreateLink(ctx, room, time.Hour)
	b.must(err)
	_, err = people["carol"].Join(ctx, link)
	b.must(err)
	b.must(people["carol"].Block(ctx, room))
	b.must(bob.Send(ctx, room, []byte("you will regret this")))
	b.must(bob.SetPush(ctx, []byte("token")))
	time.Sleep(time.Minute)
	for _, e := range alice.messageEvents() {
		b.must(alice.Report(ctx, room, e.Evidence, "please look"))
	}
	b.must(bob.Leave(ctx, room))
	other, err := alice.CreateRoom(ctx, "hub.example")
	b.must(err)
	b.must(alice.Leave(ctx, other)) // which ends it
	b.must(bob.Disconnect(ctx, alice.User()))
	b.must(alice.Add(ctx, room, people["dave"].User())) // never comes
	time.Sleep(2 * time.Minute)
	erin := b.asPerson(people["erin"]).secrets().Account
	b.ask(ctx, "a.example", "b.example", &seal.Request{Audience: seal.ProviderAudience("b.example"), Method: seal.MethodQueueDelete}, seal.AuthQueue, 0,
		signingKey(b.t, erin.QueueKey), &relayv1.QueueDeleteRequest{QueueId: erin.QueueID})
	a := b.asPerson(alice)
	signer, leaf := a.leafKey(room)
	keyID, sealed := b.oneTime("a.example", a.secrets().Account.QueueID)
	b.ask(ctx, "a.example", "hub.example", &seal.Request{Audience: seal.HubAudience("hub.example"), Method: seal.MethodPutSeals, GroupID: a.secrets().Rooms[room].GroupID, EARKey: a.ear(room)},
		seal.AuthLeaf, leaf, signer, &hubv1.PutSealsRequest{KeyId: uint32(keyID), Seals: [][]byte{sealed}})
	b.forget("a.example", b.asPerson(people["frank"]).secrets().Account.QueueID)
	b.stop["b.example"]() // from now on its outbox fills
	b.must(alice.Send(ctx, room, []byte("is anybody there?")))
	time.Sleep(10 * time.Second)
	alice.stop()
	bob.stop()
	for _, c := range people {
		b.must(c.Close())
	}
}

// messageEvents are the events of the messages that a client has read.
func (c *bubbleClient) messageEvents() []client.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.events), func(e client.Event) bool { return e.Kind != client.KindMessage })
}

// life is how long rows of a kind live: just before its end some are there, just
// after it there are only left.
type life struct {
	kind, why     string
	before, after time.Time
	left          int
	some          bool // only some of them go then
}

// lives are the lifetimes of all rows that have one, for use between begin and end.
func lives(begin, end time.Time, rooms int) []life {
	midnight := begin.Truncate(day)
	const margin = 5 * time.Minute
	// of rows that are written all the time, of rows that end at a fixed time
	written := func(kind, why string, ttl time.Duration) life {
		return life{kind: kind, why: why, before: begin.Add(ttl - margin), after: end.Add(ttl + margin)}
	}
	fixed := func(kind, why string, at time.Time) life {
		return life{kind: kind, why: why, before: at.Add(-margin), after: at.Add(margin)}
	}
	short := func(kind, why string, ttl time.Duration) life { // of those written last
		return life{kind: kind, why: why, before: end.Add(ttl - time.Minute), after: end.Add(ttl)}
	}
	epoch := token.EpochOf(begin).Expires().Add(time.Hour)
	repeated := end.Add(lastRepeat).Truncate(day).Add(day) // the end of the day of the last first envelope
	log := written("hub: sealed row", "R-104: the log, 14 days", 14*day)
	log.some = true
	snapshots := written("hub: sealed row", "R-105: snapshots nobody fetched, 30 days", 30*day)
	snapshots.left = 3 * rooms // roster, tree, link keys
	counts := written("hub: report of abuse", "what came in a day, 48 hours", 2*day)
	counts.some = true
	return []life{
		short("hub: request that was seen", "R-65, 300 s", 5*time.Minute),
		short("relay: request that was seen", "R-65, 300 s", 5*time.Minute),
		fixed("hub: spent token", "R-82, R-84: the end of the next epoch", epoch),
		fixed("relay: spent token", "R-82, R-84: the end of the next epoch", epoch),
		short("hub: mark of a room", "R-100: nothing pending, 20 minutes", 20*time.Minute),
		{kind: "hub: first contact", why: "R-78: until the repeat after 7 days", before: end.Add(lastRepeat - time.Hour), after: end.Add(lastRepeat)},
		written("hub: index of first contacts", "R-78: 9 days", 9*day),
		written("hub: stopped lane", "R-113: 8 days, longer than the outbox", 8*day),
		fixed("hub: entry", "R-78: 7 days after the end of the day", midnight.Add(8*day)),
		written("hub: report that a lane is gone", "R-78: 30 days", 30*day),
		written("hub: one-time addresses", "R-79, R-61: 90 days", 90*day),
		{kind: "hub: dedup key", why: "R-52: 2 hours; the last ones are of a repeat", before: end.Add(time.Hour), after: end.Add(3*time.Hour + 3*margin)},
		{kind: "relay: dedup key", why: "R-52: 2 hours; the last ones are of a repeat", before: end.Add(time.Hour), after: end.Add(3*time.Hour + 3*margin)},
		counts, written("hub: report of abuse", "--report-retention, 30 days", 30*day),
		log, snapshots,
		fixed("relay: entry", "R-54: 30 days after the end of the day", repeated.Add(30*day)),
		written("relay: memory of a deleted mailbox", "R-53: 105 days", 105*day),
		written("relay: blocked handle", "R-54: 105 days", 105*day),
		written("relay: listener", "R-54: 48 hours", 2*day),
		{kind: "relay: mark of a mailbox", why: "R-66: 15 minutes", before: end.Add(4 * time.Minute), after: end.Add(15 * time.Minute)},
		fixed("relay: set of KeyPackages", "R-134: 30 days from midnight", midnight.Add(30*day)),
		written("relay: pool", "400 days without an upload", 400*day),
		written("relay: count of fetches", "R-48: 2 hours", 2*time.Hour),
		written("relay: count of tokens", "R-81: 48 hours", 2*day),
		written("relay: answer that may be repeated", "R-66, R-81: 48 hours", 2*day),
		fixed("relay: connection package", "R-30: 30 days from midnight", midnight.Add(30*day)),
		fixed("relay: index of a connection package", "R-30, R-33: as long as a request may wait", midnight.Add(60*day)),
		written("relay: connection request", "R-34: 30 days", 30*day),
	}
}

// First envelopes are sent again after an hour, a day and a week (SPEC.md R-78),
// each time counted from the one before.
const lastRepeat = time.Hour + day + 7*day

// lasting have no end of their own: their owners end them.
var lasting = []string{"relay: account", "relay: client", "relay: name of a client", "relay: mailbox", "relay: push token", "relay: queue", "hub: outbox"}

// pass lets time pass while nothing runs.
func (b *bubble) pass(until time.Time) {
	b.t.Helper()
	if b.url == "memory:" {
		time.Sleep(time.Until(until))
		return
	}
	for domain := range b.data { // an embedded store is not open meanwhile
		b.must(b.closeStores(domain))
	}
	time.Sleep(time.Until(until))
	for domain := range b.data {
		b.must(b.openStores(domain))
	}
}

// visit runs the daemons for two minutes, for their sweeps and those of stores:
// the relay that is out of the hub's reach by itself. Then embedded stores have
// nothing on disk that cannot be read.
func (b *bubble) visit() {
	b.t.Helper()
	for _, together := range [][]string{{"a.example", "hub.example"}, {"b.example"}} {
		for _, domain := range together {
			b.must(b.start[domain]())
		}
		time.Sleep(2*time.Minute + time.Second)
		for _, domain := range together {
			b.stop[domain]()
		}
	}
	if b.url != "memory:" { // which comes to what expired when it is used
		b.rests("dedup key of a deleted queue") // of two hours
	}
}

// TestVirtualLife: after ordinary use of everything there is, time passes, and the
// stores are asked. Just before its end a row is there, just after it is not, of
// each kind; what has no end is there after 14 months. In the end rooms that
// nobody has used are gone too, and on disk is nothing that cannot be read.
func TestVirtualLife(t *testing.T) {
	for _, url := range []string{"memory:", "pebble:"} {
		t.Run(strings.TrimSuffix(url, ":"), func(t *testing.T) {
			if raceEnabled {
				t.Skip("synctest bubbles of this size crash the race detector's runtime; make test runs this without it")
			}
			if testing.Short() && url != "memory:" {
				t.Skip("it takes half a minute")
			}
			synctest.Test(t, func(t *testing.T) { virtualLife(t, url) })
		})
	}
}

func virtualLife(t *testing.T, url string) {
	b := newBubbleOn(t, url)
	time.Sleep(6 * time.Hour)
	begin := time.Now()
	b.live(context.Background())
	end := time.Now()
	first := b.rows()
	for _, domain := range []string{"a.example", "hub.example"} {
		b.stop[domain]()
	}
	type step struct {
		at time.Time
		do func()
	}
	steps := []step{{end.Add(time.Hour), b.visit}, {end.Add(time.Hour + day), b.visit}}
	covered := slices.Clone(lasting)
	for _, l := range lives(begin, end, first["hub: room"]) {
		covered = append(covered, l.kind)
		var had int
		steps = append(steps, step{l.before, func() {
			if had = b.rows()[l.kind]; had <= l.left {
				t.Errorf("%s: %d rows %v after use (%s)", l.kind, had, time.Since(end), l.why)
			}
		}}, step{l.after, func() {
			b.visit()
			n := b.rows()[l.kind]
			if l.some && (n == 0 || n >= had) || !l.some && n != l.left {
				t.Errorf("%s: %d of %d rows %v after use (%s)", l.kind, n, had, time.Since(end), l.why)
			}
			t.Logf("%-38s %4d -> %4d rows  %s", l.kind, had, n, l.why)
		}})
	}
	// Once nobody has used a room for 13 months it goes; then its mark, and with the
	// daemons their leases.
	idle := begin.AddDate(0, 14, 0)
	steps = append(steps, step{idle.AddDate(0, -2, 0), func() {
		b.visit()
		if n := b.rows()["hub: room"]; n != first["hub: room"] {
			t.Errorf("%d rooms after 12 months, want %d", n, first["hub: room"])
		}
	}}, step{idle, b.visit}, step{idle.Add(time.Hour), b.visit}, step{idle.Add(26 * time.Hour), func() { time.Sleep(3 * time.Minute) }}) // stores are open
	slices.SortStableFunc(steps, func(x, y step) int { return x.at.Compare(y.at) })
	for _, s := range steps {
		b.pass(s.at)
		s.do()
	}
	if url != "memory:" {
		b.rests()
	}
	last := b.rows()
	for kind, n := range last {
		if n == 0 {
			delete(last, kind)
		}
	}
	want := make(map[string]int)
	for _, kind := range lasting {
		want[kind] = first[kind]
	}
	if d := cmp.Diff(want, last); d != "" {
		t.Errorf("after 14 months (-want +got):\n%s", d)
	}
	covered = append(covered, "hub: room", "hub: lease", "hub: time of a sweep")
	for kind := range first {
		if !slices.Contains(covered, kind) {
			t.Errorf("%s has no lifetime", kind)
		}
	}
	b.close()
}
