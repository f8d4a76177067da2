package queuetest

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/audit"
)

// clean asserts that an audit finds no broken rule.
func clean(t *testing.T, s queue.Auditor, remove bool) *audit.Report {
	t.Helper()
	r, err := s.Audit(t.Context(), remove)
	if err != nil {
		t.Fatalf("Audit: %v", err)
	}
	if !r.Sound() {
		t.Fatalf("Audit:\n%v", r)
	}
	return r
}

// Audit: after use of every kind the rows agree with each other, and the audit
// counts them; of what was deleted or has expired nothing is left.
func Audit(t *testing.T, open Open) {
	opened := open(t)
	s, ok := opened.(queue.Auditor)
	if !ok {
		t.Fatalf("%T is no queue.Auditor", opened)
	}
	clock, virtual := opened.(Clock)
	var want []queue.ID
	for i := range 4 {
		id := queue.ID(fmt.Append(nil, "q", i))
		want = append(want, id)
		create(t, s, id, queue.Limits{MaxEntries: 60, MaxAge: 48 * time.Hour})
		for j := range min(20+20*i, 60) {
			add(t, s, id, entry(j), fmt.Sprint("dedup ", j))
		}
		ack(t, s, id, queue.Seq(5*i))
	}
	_ = appendAll(t, s, []queue.Append{{Queue: "q3", Entry: make([]byte, 9)}, {Queue: "q0", Entry: []byte("x"), Dedup: []byte("dedup 3")}})
	r := clean(t, s, false)
	equal(t, "queues", r.Rows["queue"], 4)
	equal(t, "entries", r.Rows["entry"], 20+40-5+60-10+60-15+1)
	if len(r.Orphans) != 0 {
		t.Errorf("orphans of queues in use: %v", r.Orphans)
	}
	got := map[queue.ID]bool{}
	for id, err := range s.Queues(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got[id] = true
	}
	equal(t, "Queues", slices.Sorted(maps.Keys(got)), want)

	if err := s.Delete(t.Context(), "q1"); err != nil {
		t.Fatal(err)
	}
	r = clean(t, s, true)
	equal(t, "queues after a deletion", r.Rows["queue"], 3)
	r = clean(t, s, false)
	equal(t, "entries after a deletion", r.Rows["entry"], 20+60-10+60-15+1)
	equal(t, "orphans after their removal", len(r.Orphans), 0)

	if !virtual {
		return
	}
	clock.Advance(25 * time.Hour) // another day
	add(t, s, "q0", "late", "late")
	clean(t, s, false)
	clock.Advance(48 * time.Hour) // the first day's entries expire, the late one not
	r = clean(t, s, false)
	if r.Orphans["entry that expired"] != 20+60-10+60-15+1 {
		t.Errorf("orphans: %v, want all entries of the first day", r.Orphans)
	}
	clean(t, s, true)
	r = clean(t, s, false)
	equal(t, "entries after the first day's expired", r.Rows["entry"], 1)
	equal(t, "orphans after the first day's expired", r.Orphans, map[string]int{})
	equal(t, "the late entry", read(t, s, "q0", 0, 10), entries{{21, "late"}})

	clock.Advance(72 * time.Hour)
	clean(t, s, true)
	for _, id := range []queue.ID{"q0", "q2", "q3"} {
		if err := s.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	r = clean(t, s, true)
	equal(t, "rows after the last deletion", r.Rows, map[string]int{})
}
