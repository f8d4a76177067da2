package main

import (
	"bytes"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMutantsApply: every text that a mutant replaces is in the source, what
// comes out is Go, each of the 72 rules has as many mutants as the list says,
// and the test that is to kill it is one that the list names and that is where
// the mutant says.
func TestMutantsApply(t *testing.T) {
	engine := filepath.Join("..", "..")
	list, err := os.ReadFile(filepath.Join(engine, "..", "..", "docs", "mls-negative-list.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[int]string{}
	for line := range strings.Lines(string(list)) {
		var n int
		if _, err := fmt.Sscanf(line, "| %d |", &n); err == nil && lines[n] == "" {
			lines[n] = line
		}
	}
	have := map[int]int{}
	for _, m := range all() {
		have[m.rule]++
		changed, err := m.apply(engine)
		if err != nil {
			t.Error(err)
			continue
		}
		for file, src := range changed {
			if _, err := format.Source([]byte(src)); err != nil {
				t.Errorf("rule %d, %s: %s: %v", m.rule, m.what, file, err)
			}
		}
		if !strings.Contains(lines[m.rule], "`"+m.test+"`") {
			t.Errorf("rule %d, %s: the list does not name %s", m.rule, m.what, m.test)
		}
		if !defines(t, filepath.Join(engine, m.pkg), m.test) {
			t.Errorf("rule %d, %s: no %s in %s", m.rule, m.what, m.test, m.pkg)
		}
	}
	for n := 1; n <= 72; n++ {
		if have[n] == 0 {
			t.Errorf("rule %d has no mutant", n)
		}
		if !strings.HasSuffix(lines[n], fmt.Sprintf(" | %d |\n", have[n])) {
			t.Errorf("rule %d has %d mutants, the list says something else", n, have[n])
		}
	}
}

func defines(t *testing.T, dir, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d test files, err %v", dir, len(files), err)
	}
	function := regexp.MustCompile(`(?m)^func ` + test + `\(`)
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if function.Match(src) {
			return true
		}
	}
	return false
}

func TestOff(t *testing.T) {
	for old, want := range map[string]string{
		"if a || b {":               "if false && (a || b) {",
		"if err := f(); err == 1 {": "if err := f(); false && (err == 1) {",
	} {
		if got := off("x", old).new; got != want {
			t.Errorf("%q becomes %q", old, got)
		}
	}
	m := mutant{edits: []edit{{"mutant_test.go", "no such " + "text", ""}}}
	if _, err := m.apply("."); err == nil || !bytes.Contains([]byte(err.Error()), []byte("0 times")) {
		t.Errorf("a text that is not there: %v", err)
	}
}
