package relay_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// used is a relay with something of every kind of row, in ordinary use.
func used(t *testing.T) (w *world, m *mailbox, p *pool) {
	t.Helper()
	w = newWorld(t)
	p = w.pool(2) // with the account of anna
	f, _ := w.adder(p)
	w.mustAsk(f)
	req := w.connectionPackages(p.owner, 2)
	w.must(w.publish(p.owner, req))
	a, res := w.fetch(p.owner)
	w.mustAsk(a)
	w.mustAsk(w.request(w.packageRef(res.GetPackage())))
	m = w.mailbox()
	w.mustAsk(w.block(m, [16]byte{1}))
	w.mustAsk(w.setPush(m, []byte("token")))
	w.deliver(w.to(m, random(16)))
	s, err := w.listen(m, 0)
	w.must(err)
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	gone := w.mailbox()
	w.mustAsk(w.block(gone, [16]byte{1}))
	w.mustAsk(w.deleteBox(gone))
	w.issue(p.owner)
	return w, m, p
}

// audited is what tools say of the three stores together.
func (w *world) audited(remove bool) (orphans, faults map[string]int) {
	w.t.Helper()
	orphans, faults = make(map[string]int), make(map[string]int)
	for kind, s := range w.kinds() {
		r, err := s.Audit(w.t.Context(), relay.Inspectors()[kind], remove)
		w.must(err)
		for k, n := range r.Orphans {
			orphans[k] += n
		}
		for k, n := range r.Faults {
			faults[k] += n
		}
	}
	return orphans, faults
}

func (w *world) plant(s kv.Store, group, name, value string) {
	w.t.Helper()
	_, err := s.Apply(w.t.Context(), []kv.Op{{Key: kv.Key{Group: group, Name: name}, Value: []byte(value)}})
	w.must(err)
}

// TestInspectors: a store with something of everything has no fault and no orphan,
// and every kind is known.
func TestInspectors(t *testing.T) {
	w, _, _ := used(t)
	w.sound()
	have := make(map[string]int)
	for kind, s := range w.kinds() {
		w.each(kind, s, func(f store.Finding) { have[f.Kind]++ })
	}
	want := []string{
		"account", "answer that may be repeated", "blocked handle", "client", "connection package", "connection request", "count of fetches", "count of tokens",
		"index of a connection package", "listener", "mailbox", "mark of a mailbox", "memory of a deleted mailbox", "name of a client", "pool", "push token", "queue",
		"request that was seen", "set of KeyPackages", "spent token",
	}
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(have))); d != "" {
		t.Errorf("kinds (-want +got):\n%s", d)
	}
}

// each shows a store's Inspector every row.
func (w *world) each(kind string, s *store.Stores, see func(store.Finding)) {
	w.t.Helper()
	i := relay.Inspectors()[kind]
	for g, err := range s.KV.Groups(w.t.Context(), "") {
		w.must(err)
		for rec, err := range s.KV.Scan(w.t.Context(), g, "") {
			w.must(err)
			f, err := i.Record(w.t.Context(), s, rec)
			w.must(err)
			see(f)
		}
	}
	for id, err := range s.Queue.(queue.Auditor).Queues(w.t.Context()) {
		w.must(err)
		f, err := i.Queue(w.t.Context(), s, id)
		w.must(err)
		see(f)
	}
}

// TestOrphans: rows whose owner is gone are found, each by its kind, and deleted if
// that is asked for; what others have stays.
func TestOrphans(t *testing.T) {
	w, m, p := used(t)
	lost := string(random(16))
	w.must(w.queues.Create(t.Context(), queue.ID(lost), queue.Limits{}))
	group := relay.MailboxGroup([]byte(lost))
	w.plant(w.mailboxes, group, relay.NameListener, lost)
	w.plant(w.mailboxes, group, relay.NamePush, "token")
	w.plant(w.mailboxes, group, relay.PrefixBlock+lost, "x")
	w.plant(w.mailboxes, group, relay.NameGone, "\x00\x00\x4e\x20") // is none: it is remembered on purpose
	pool := relay.PoolGroup(random(32))
	for name, v := range w.records(w.packages, relay.PoolGroup(p.id), "") {
		if name != relay.NamePool {
			w.plant(w.packages, pool, name, v)
		}
	}
	for name, v := range w.records(w.accounts, relay.AccountGroup("anna"), "") {
		if name != relay.NameAccount {
			w.plant(w.accounts, relay.AccountGroup("nobody"), name, v)
		}
	}
	w.plant(w.accounts, "p"+string(random(32)), relay.NameIndex, "nobody")
	_, err := w.accounts.Apply(t.Context(), []kv.Op{{Key: kv.Key{Group: relay.AccountGroup("anna"), Name: "tokens/2001-01-01"}, Value: make([]byte, 4), TTL: time.Minute}})
	w.must(err)
	w.advance(2 * time.Minute)
	want := map[string]int{
		"queue without an owner": 1, "listener without an owner": 1, "push token without an owner": 1, "blocked handle without an owner": 1,
		"set of KeyPackages without an owner": 3, "count of fetches without an owner": 1, "answer that may be repeated without an owner": 3,
		"client without an owner": 1, "connection package without an owner": 2, "connection request without an owner": 1, "count of tokens without an owner": 1,
		"index of a connection package without an owner": 1, "record that expired": 1,
	}
	orphans, faults := w.audited(false)
	if d := cmp.Diff(want, orphans); d != "" || len(faults) > 0 {
		t.Fatalf("orphans (-want +got):\n%s\nfaults %v", d, faults)
	}
	if orphans, _ = w.audited(false); len(orphans) != len(want) {
		t.Error("looking deletes something")
	}
	w.audited(true)
	if orphans, faults = w.audited(false); len(orphans)+len(faults) > 0 {
		t.Errorf("afterwards: orphans %v, faults %v", orphans, faults)
	}
	w.has(m, 1)
	if f, _ := w.adder(p); f.send(w) != nil {
		t.Error("a pool that has its owner was touched")
	}
	w.signedInAs(p.owner)
}

// TestDamage: rows that do not decode are faults, and so is a mailbox whose queue
// is missing.
func TestDamage(t *testing.T) {
	w, m, p := used(t)
	s := w.kinds()
	damage := func(kind, group, name string) {
		t.Helper()
		_, before := w.audited(false)
		rec, _ := s[kind].KV.Get(t.Context(), kv.Key{Group: group, Name: name})
		w.plant(s[kind].KV, group, name, "damage, and long enough to be no number")
		if _, after := w.audited(false); sum(after) != sum(before)+1 {
			t.Errorf("%s: %q: faults %v", kind, name, after)
		}
		op := kv.Op{Key: kv.Key{Group: group, Name: name}, Value: rec.Value}
		if _, err := s[kind].KV.Apply(t.Context(), []kv.Op{op}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{relay.NameReadKey, relay.NameGone, relay.NameListener, "other"} {
		damage("queues", relay.MailboxGroup(m.id), name)
	}
	damage("queues", relay.UnsettledGroup, "c")
	damage("queues", "other", "x")
	for _, name := range []string{relay.NamePool, relay.PrefixSet + "x", "fetch/x", "again/x", "other"} {
		damage("packages", relay.PoolGroup(p.id), name)
	}
	damage("packages", "other", "x")
	for _, name := range []string{"tokens/x", "other"} {
		damage("accounts", relay.AccountGroup("anna"), name)
	}
	damage("accounts", "p"+fmt.Sprintf("%032d", 1), relay.NameIndex)
	damage("accounts", "other", "x")
	w.must(w.queues.Delete(t.Context(), queue.ID(m.id)))
	if _, faults := w.audited(false); faults["mailbox: has no queue"] != 1 || sum(faults) != 1 {
		t.Errorf("a mailbox without a queue: faults %v", faults)
	}
}

func sum(m map[string]int) (n int) {
	for _, x := range m {
		n += x
	}
	return n
}

// TestNoQueuesElsewhere: a queue among accounts or packages is not a relay's.
func TestNoQueuesElsewhere(t *testing.T) {
	w := newWorld(t)
	for kind, s := range w.kinds() {
		w.must(s.Queue.Create(t.Context(), "short", queue.Limits{}))
		r, err := s.Audit(t.Context(), relay.Inspectors()[kind], false)
		w.must(err)
		if r.Sound() {
			t.Errorf("%s: a queue of another kind is sound", kind)
		}
	}
}
