package kvtest

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/queue/audit"
)

// clean asserts that an audit finds no broken rule.
func clean(t *testing.T, s kv.Auditor, remove bool) *audit.Report {
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
	s, ok := opened.(kv.Auditor)
	if !ok {
		t.Fatalf("%T is no kv.Auditor", opened)
	}
	const ttl = 1500 * time.Millisecond
	for i := range 10 {
		set(t, s, key("ever", strconv.Itoa(i)), "x", 0)
		set(t, s, key("mixed", strconv.Itoa(i)), "x", time.Duration(i%2)*time.Hour)
	}
	now := time.Now()
	if _, err := kv.Acquire(t.Context(), s, key("lease", "l"), "me", now, time.Hour); err != nil {
		t.Fatal(err)
	}
	equal(t, "records", clean(t, s, false).Rows["record"], 21)
	for i := range 10 {
		set(t, s, key("mixed", fmt.Sprint("short", i)), "x", ttl)
		if first, _, err := kv.Once(t.Context(), s, key("once", strconv.Itoa(i)), []byte("x"), ttl); !first || err != nil {
			t.Fatal(first, err)
		}
	}
	clean(t, s, false)
	pass(s, ttl+time.Second)
	if _, ok := s.(Clock); ok {
		pass(s, 2*time.Minute) // sweeps go by the minute
	}
	clean(t, s, true)
	r := clean(t, s, false)
	equal(t, "records after some expired", r.Rows["record"], 21)
	equal(t, "orphans after their removal", r.Orphans, map[string]int{})
	for _, g := range []string{"ever", "mixed", "lease", "once"} {
		for rec, err := range s.Scan(t.Context(), g, "") {
			if err != nil {
				t.Fatal(err)
			}
			if err := kv.Delete(t.Context(), s, rec.Key); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, ok := s.(Clock); ok {
		pass(s, 48*time.Hour)
	}
	r = clean(t, s, true)
	delete(r.Rows, "versions") // one row that lasts
	equal(t, "rows after the last deletion", r.Rows, map[string]int{})
}
