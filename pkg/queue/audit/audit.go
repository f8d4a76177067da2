// Package audit is what a backend's audit of its own rows says: how many there
// are, which are wrong, and which nobody will ever read. It names kinds of rows
// and kinds of faults, never a row.
package audit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Report counts rows by what they are. All keys are constants of the program.
type Report struct {
	// Rows are all rows.
	Rows map[string]int `json:"rows"`
	// Faults are rows that break a rule of their backend: damage, or an error of the
	// program.
	Faults map[string]int `json:"faults"`
	// Orphans are rows that are in order and that nobody can reach any more, because
	// what they belong to was deleted or has expired.
	Orphans map[string]int `json:"orphans"`
	// Deleted counts the orphans that were removed.
	Deleted int `json:"deleted"`
}

// New returns an empty report.
func New() *Report {
	return &Report{Rows: make(map[string]int), Faults: make(map[string]int), Orphans: make(map[string]int)}
}

// Row counts a row.
func (r *Report) Row(kind string) { r.Rows[kind]++ }

// Fault counts a broken rule.
func (r *Report) Fault(what string) { r.Faults[what]++ }

// Orphan counts a row that nobody can reach.
func (r *Report) Orphan(what string) { r.Orphans[what]++ }

// Add adds what another report counted.
func (r *Report) Add(o *Report) {
	for _, x := range []struct{ to, from map[string]int }{{r.Rows, o.Rows}, {r.Faults, o.Faults}, {r.Orphans, o.Orphans}} {
		for k, n := range x.from {
			x.to[k] += n
		}
	}
	r.Deleted += o.Deleted
}

// Sound reports whether no rule is broken.
func (r *Report) Sound() bool { return len(r.Faults) == 0 }

// String is the report in lines.
func (r *Report) String() string {
	var b strings.Builder
	for _, x := range []struct {
		title  string
		counts map[string]int
	}{{"rows", r.Rows}, {"faults", r.Faults}, {"orphans", r.Orphans}} {
		if len(x.counts) == 0 {
			fmt.Fprintf(&b, "%-8s none\n", x.title)
		}
		for _, k := range slices.Sorted(maps.Keys(x.counts)) {
			fmt.Fprintf(&b, "%-8s %9d  %s\n", x.title, x.counts[k], k)
		}
	}
	if r.Deleted > 0 {
		fmt.Fprintf(&b, "%-8s %9d\n", "deleted", r.Deleted)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
