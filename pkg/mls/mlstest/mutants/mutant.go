package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant breaks one rule of docs/mls-negative-list.md in the source of the
// engine. The test that the list names for the rule must fail with it.
type mutant struct {
	rule  int
	what  string // what is broken
	pkg   string // of the test, seen from pkg/mls
	test  string
	edits []edit
}

// edit replaces a text that occurs exactly once in a file, seen from pkg/mls.
type edit struct{ file, old, new string }

// off turns a condition into one that is never true; old is an if statement's
// head, "if cond {" or "if init; cond {".
func off(file, old string) edit {
	head := strings.TrimSuffix(strings.TrimPrefix(old, "if "), " {")
	if i := strings.LastIndex(head, "; "); i >= 0 {
		return edit{file, old, "if " + head[:i] + "; false && (" + head[i+2:] + ") {"}
	}
	return edit{file, old, "if false && (" + head + ") {"}
}

// all returns every mutant in the order of the rules.
func all() []mutant {
	ms := slices.Concat(lessons, commits, framing)
	slices.SortStableFunc(ms, func(a, b mutant) int { return a.rule - b.rule })
	return ms
}

// apply returns the changed contents of the files that a mutant edits, by their
// path below the engine's directory.
func (m *mutant) apply(engine string) (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range m.edits {
		src, ok := changed[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(engine, e.file)) //nolint:gosec // Our own sources.
			if err != nil {
				return nil, fmt.Errorf("rule %d, %s: %w", m.rule, m.what, err)
			}
			src = string(b)
		}
		if n := strings.Count(src, e.old); n != 1 {
			return nil, fmt.Errorf("rule %d, %s: text occurs %d times in %s, want once: %q", m.rule, m.what, n, e.file, e.old)
		}
		changed[e.file] = strings.Replace(src, e.old, e.new, 1)
	}
	return changed, nil
}
