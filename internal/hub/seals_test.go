package hub_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

func (w *world) moreSeals(n int) [][]byte {
	w.t.Helper()
	var out [][]byte
	for i := range n {
		s, err := seal.SealQueue(w.queue.Public(), "b.example", 1, seal.QueueConfig{QueueID: [16]byte{1}, Handle: [16]byte{byte(i), byte(i >> 8), 9}, NotAfterDay: seal.Day(time.Now()) + 30})
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

func (p *party) putSeals(id uint32, ss [][]byte) (uint32, error) {
	p.w.t.Helper()
	res, err := do(p.w, p.call(seal.MethodPutSeals), &hubv1.PutSealsRequest{KeyId: id, Seals: ss}, new(hubv1.PutSealsResponse))
	return res.GetStored(), err
}

// TestPutSeals: one-time addresses are kept, each is used once, and then the
// leaf's own address is (SPEC.md R-79).
func TestPutSeals(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	bob := alice.add("b.example")
	own := w.sentTo("b.example", 1)[0].Sealed
	ss := w.moreSeals(5)
	before := w.dump()
	for name, c := range map[string]struct {
		id   uint32
		ss   [][]byte
		want mmrerr.Code
	}{
		"none":           {1, nil, mmrerr.Malformed},
		"too many":       {1, make([][]byte, 257), mmrerr.Malformed},
		"key id":         {256, ss, mmrerr.Malformed},
		"nobody's key":   {7, ss, mmrerr.QueueDomain},
		"garbage":        {1, [][]byte{{1, 2, 3}}, mmrerr.QueueMissing},
		"trailing":       {1, [][]byte{append(slices.Clone(ss[0]), 0)}, mmrerr.QueueMissing},
		"twice the same": {1, [][]byte{ss[0], ss[0]}, mmrerr.PseudonymReused},
		"the leaf's own": {1, [][]byte{own}, mmrerr.PseudonymReused},
	} {
		_, err := bob.putSeals(c.id, c.ss)
		if got, _ := mmrerr.Of(err); got != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	w.unchanged(before)
	for range 2 { // an answer may be lost
		if n, err := bob.putSeals(1, ss); err != nil || n != 5 {
			t.Fatalf("%d stored, %v", n, err)
		}
	}
	if _, err := bob.putSeals(1, w.moreSeals(252)); err == nil {
		t.Error("more than 256 are stored")
	}
	for i := range 7 {
		if _, err := alice.submit(alice.message(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	rows := w.sentTo("b.example", 8)
	if n := len(rows); n != 8 {
		t.Fatalf("%d rows", n)
	}
	used, err := w.h.Addresses(context.Background(), "b.example")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for _, u := range used {
		seen[string(u)]++
	}
	if seen[string(own)] != 3 || len(seen) != 6 {
		t.Errorf("%d deliveries to the own address, %d addresses", seen[string(own)], len(seen))
	}
	for _, s := range ss {
		if seen[string(s)] != 1 {
			t.Errorf("a one-time address was used %d times", seen[string(s)])
		}
	}
	if n, err := bob.putSeals(1, ss); err != nil || n != 0 {
		t.Errorf("a late repeat: %d stored, %v", n, err)
	}
	// Who leaves, leaves no addresses.
	if _, err := bob.putSeals(1, w.moreSeals(3)); err != nil {
		t.Fatal(err)
	}
	if err := bob.leave(); err != nil {
		t.Fatal(err)
	}
	if n := len(w.records("seals", "")); n != 0 {
		t.Errorf("%d records of addresses stay", n)
	}
}

// TestSealsInRandomOrder: the order of use is not that of the request.
func TestSealsInRandomOrder(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	bob := alice.add("b.example")
	ss := w.moreSeals(30)
	if _, err := bob.putSeals(1, ss); err != nil {
		t.Fatal(err)
	}
	for i := range 29 {
		if _, err := alice.submit(alice.message(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	w.sentTo("b.example", 30)
	used, err := w.h.Addresses(context.Background(), "b.example")
	if err != nil {
		t.Fatal(err)
	}
	if slices.EqualFunc(used, ss, func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Error("they are used in the order of the request")
	}
}

// TestSealsRefused: a relay that does not take a one-time address says nothing
// about the leaf's own, and the row is sent there.
func TestSealsRefused(t *testing.T) {
	w := newWorld(t)
	alice := w.room(sealed)
	bob := alice.add("b.example")
	row := w.sentTo("b.example", 1)[0]
	if _, err := bob.putSeals(1, w.moreSeals(4)); err != nil {
		t.Fatal(err)
	}
	answer := func(status byte) [][]byte {
		t.Helper()
		sent, err := w.h.Answered(context.Background(), "b.example", status)
		if err != nil {
			t.Fatal(err)
		}
		return sent
	}
	if sent := answer(2); len(sent) != 1 || string(sent[0]) == string(row.Sealed) {
		t.Fatalf("%d rows, to the own address: %v", len(sent), string(sent[0]) == string(row.Sealed))
	}
	if n := len(w.records("seals", "")) + len(w.records("gone", "")); n != 0 {
		t.Errorf("%d records of addresses or of a gone lane", n)
	}
	if sent := answer(2); len(sent) != 1 || string(sent[0]) != string(row.Sealed) {
		t.Errorf("%d rows, not to the own address", len(sent))
	}
	if n := len(w.records("gone", "")); n != 1 {
		t.Errorf("%d reports of a gone lane", n)
	}
	// Another address of the leaf is another lane: the rest goes.
	if _, err := bob.putSeals(1, w.moreSeals(4)); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.commit(commit{}); err != nil {
		t.Fatal(err)
	}
	if n := len(w.records("seals", "")); n != 0 {
		t.Errorf("%d records of addresses after the leaf has another", n)
	}
}
