package mls_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestNegativeList holds docs/mls-negative-list.md against the tests that
// exist: 72 rules in order, each with at least one test.
func TestNegativeList(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "mls-negative-list.md"))
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path) //nolint:gosec // Our own sources.
		for _, m := range function.FindAllSubmatch(src, -1) {
			exists[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rules := 0
	name := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	for line := range strings.Lines(string(doc)) {
		if !strings.HasPrefix(line, "| "+strconv.Itoa(rules+1)+" |") {
			continue
		}
		rules++
		tests := name.FindAllStringSubmatch(line, -1)
		if len(tests) == 0 {
			t.Errorf("rule %d names no test", rules)
		}
		for _, m := range tests {
			if !exists[m[1]] {
				t.Errorf("rule %d: %s does not exist", rules, m[1])
			}
		}
	}
	if rules != 72 {
		t.Errorf("%d rules in order, want 72", rules)
	}
}
