package hub_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestCatchUp: a leaf reads the log from its own first event on and not before,
// chain and receipts intact (SPEC.md ).
func TestCatchUp(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	for i := range 3 {
		if _, err := alice.submit(alice.message(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	bob := alice.add("b.example") // event 4
	for i := range 3 {
		if _, err := alice.submit(alice.message(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	all, err := alice.catchUp(0)
	if err != nil {
		t.Fatal(err)
	}
	chain, key := seal.ChainStart(alice.g.Public().GroupID()), w.keys.Identity().Public()
	var seqs []uint64
	for _, e := range all {
		seqs = append(seqs, e.Seq)
		core, err := e.Core()
		if err != nil {
			t.Fatal(err)
		}
		chain = seal.ChainNext(chain, e.Seq, core)
		if chain != e.Chain {
			t.Errorf("event %d breaks the chain", e.Seq)
		}
		if e.Accepted().Verify(key, e.Receipt) != nil {
			t.Errorf("the receipt of event %d is not the hub's", e.Seq)
		}
	}
	if diff := cmp.Diff([]uint64{1, 2, 3, 4, 5, 6, 7}, seqs); diff != "" {
		t.Errorf("the creator's events (-want +got):\n%s", diff)
	}
	for _, from := range []uint64{0, 1, 4, 5} {
		es, err := bob.catchUp(from)
		if err != nil || len(es) != 3 || es[0].Seq != 5 {
			t.Errorf("bob from %d: %d events, %v", from, len(es), err)
		}
	}
	es, err := bob.catchUp(8)
	if err != nil || len(es) != 0 {
		t.Errorf("from the future: %d events, %v", len(es), err)
	}
	c := bob.call(seal.MethodCatchUp)
	res, err := do(w, c, &hubv1.CatchUpRequest{FromSeq: 5, Max: 2}, new(hubv1.CatchUpResponse))
	if err != nil || len(res.GetEvents()) != 2 || res.GetLastSeq() != 7 {
		t.Errorf("two at most: %d events, last %d, %v", len(res.GetEvents()), res.GetLastSeq(), err)
	}
	_, err = do(w, c, &hubv1.CatchUpRequest{Max: 1001}, new(hubv1.CatchUpResponse))
	w.wantCode(err, mmrerr.Malformed)
}

// TestCatchUpLarge: an answer fits its bucket, and the rest comes with the next.
func TestCatchUpLarge(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	const n = 12
	for range n {
		if _, err := alice.submit(alice.message(string(make([]byte, 120_000)))); err != nil {
			t.Fatal(err)
		}
	}
	var got []uint64
	for len(got) < n {
		es, err := alice.catchUp(uint64(len(got)) + 1)
		if err != nil || len(es) == 0 {
			t.Fatalf("after %d events: %v", len(got), err)
		}
		size := 0
		for _, e := range es {
			b, err := e.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			size += len(b)
			got = append(got, e.Seq)
		}
		if size > 1<<20 {
			t.Errorf("an answer of %d bytes", size)
		}
	}
	for i, s := range got {
		if s != uint64(i)+1 {
			t.Fatalf("events %v", got)
		}
	}
}

// TestJoinState: a joiner gets the state of the epoch it was welcomed into,
// also when the room has moved on (SPEC.md R-105).
func TestJoinState(t *testing.T) {
	w := newWorld(t)
	alice := w.room()
	bob := alice.add("b.example")
	epoch := alice.g.Epoch()
	tree := alice.g.Public().TreeBytes()
	ask := func(p *party, epoch uint64) (*hubv1.JoinStateResponse, error) {
		c := p.call(seal.MethodJoinState)
		c.kind, c.leaf = seal.AuthNewLeaf, 0
		return do(w, c, &hubv1.JoinStateRequest{Epoch: epoch, SignatureKey: p.signer.Public()}, new(hubv1.JoinStateResponse))
	}
	for range 2 { // the room goes on: commits, a second Welcome
		if _, err := alice.commit(commit{}); err != nil {
			t.Fatal(err)
		}
	}
	carol := alice.add("b.example")
	for range 2 {
		res, err := ask(bob, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(res.GetRatchetTree(), tree) || res.GetSeq() != 1 || len(res.GetLinkEntries()) != 2 {
			t.Errorf("bob's snapshot: seq %d, %d entries, tree as it was: %v", res.GetSeq(), len(res.GetLinkEntries()), cmp.Equal(res.GetRatchetTree(), tree))
		}
	}
	res, err := ask(carol, alice.g.Epoch())
	if err != nil || len(res.GetLinkEntries()) != 3 || res.GetSeq() != 4 {
		t.Errorf("carol's snapshot: %d entries, seq %d, %v", len(res.GetLinkEntries()), res.GetSeq(), err)
	}
	_, err = ask(carol, epoch) // before she came
	w.wantCode(err, mmrerr.LogTruncated)
	_, err = ask(bob, 99)
	w.wantCode(err, mmrerr.LogTruncated)
	c := bob.call(seal.MethodJoinState)
	_, err = do(w, c, &hubv1.JoinStateRequest{Epoch: epoch, SignatureKey: bob.signer.Public()}, new(hubv1.JoinStateResponse))
	w.wantCode(err, mmrerr.NoRoom) // signed as a leaf
}

// TestNothingShared: two rooms of the same people have no value in common at
// the hub but domains and the month (SPEC.md §22, §20).
func TestNothingShared(t *testing.T) {
	w := newWorld(t)
	a := w.room()
	a.add("b.example")
	b := w.room()
	b.add("b.example")
	for _, p := range []*party{a, b} {
		if _, err := p.submit(p.message("the very same words in both rooms")); err != nil {
			t.Fatal(err)
		}
		w.settled(p.g.Public().GroupID())
	}
	values := func(p *party) map[string]bool {
		out := make(map[string]bool)
		for _, r := range w.records(hub.RoomGroup(p.g.Public().GroupID()), "") {
			v := string(r.Value)
			for i := 0; i+12 <= len(v); i++ {
				out[v[i:i+12]] = true
			}
		}
		return out
	}
	left := values(a)
	for v := range values(b) {
		if left[v] && !expected(v) {
			t.Errorf("both rooms have %q", v)
		}
	}
}

// expected says which 12 bytes may be in two rooms: zeros, and the records'
// frame around the month, which is eight bytes of zeros and counters.
func expected(v string) bool {
	zeros := 0
	for _, c := range []byte(v) {
		if c < 8 {
			zeros++
		}
	}
	return zeros >= 9 || strings.Contains(v, ".exam") || strings.Contains(v, "example")
}

// TestSnapshotGoes: a snapshot stays for who has not fetched it, and a day for
// lost answers when all have (SPEC.md R-105).
func TestSnapshotGoes(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	one, two := w.identity(leafSpec{user: w.id("b.example", pseudonym.User)}), w.identity(leafSpec{user: w.id("b.example", pseudonym.User)})
	k1, k2 := w.keyPackage(one, false), w.keyPackage(two, false)
	s, err := alice.commit(commit{adds: []*member.KeyPackage{k1, k2}, linkKeys: []*identity{one, two}})
	if err != nil {
		t.Fatal(err)
	}
	w.settled(alice.groupID())
	rows := hub.SnapshotKeys(alice.groupID(), alice.ear, alice.g.Epoch())
	for i, p := range []*party{alice.welcome(s, one, k1), alice.welcome(s, two, k2)} {
		left := make(map[kv.Key]time.Duration)
		w.store.fail(func(ops []kv.Op) (bool, error) {
			for _, op := range ops {
				if slices.Contains(rows, op.Key) {
					left[op.Key] = op.TTL
				}
			}
			return true, nil
		})
		c := p.call(seal.MethodJoinState)
		c.kind, c.leaf = seal.AuthNewLeaf, 0
		if _, err := do(w, c, &hubv1.JoinStateRequest{Epoch: alice.g.Epoch(), SignatureKey: p.signer.Public()}, new(hubv1.JoinStateResponse)); err != nil {
			t.Fatal(err)
		}
		w.store.fail(nil)
		for n, row := range rows {
			ttl, written := left[row]
			switch {
			case i == 0 && n > 0 && written:
				t.Errorf("row %d was written although somebody waits", n)
			case i == 0 && n == 0 && ttl < 29*24*time.Hour, i == 1 && (ttl <= 0 || ttl > 24*time.Hour):
				t.Errorf("after %d joiners row %d stays for %s", i+1, n, ttl)
			}
		}
	}
}
