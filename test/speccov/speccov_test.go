package speccov_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/test/speccov"
)

// TestTable asserts that every requirement of docs/spec.md, and of the document
// it follows where that is at hand, has a row; that there are no others; and that
// every test named exists.
func TestTable(t *testing.T) {
	rows, err := speccov.Table()
	if err != nil {
		t.Fatal(err)
	}
	has := make(map[string]bool)
	for _, r := range rows {
		if has[r.Requirement] {
			t.Errorf("%s has two rows", r.Requirement)
		}
		has[r.Requirement] = true
	}
	own, err := os.ReadFile("../../docs/spec.md")
	if err != nil {
		t.Fatal(err)
	}
	for r := range mentioned(string(own)) {
		if !has[r] {
			t.Errorf("%s of docs/spec.md has no test", r)
		}
	}
	for r := range has {
		if !mentioned(string(own))[r] {
			t.Errorf("%s is not in docs/spec.md", r)
		}
	}
	source, err := os.ReadFile("../../../shared/SPEC.md")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\*\*(R-\d+)\*\*`).FindAllStringSubmatch(string(source), -1) {
		if !has[m[1]] {
			t.Errorf("%s of the source has no test", m[1])
		}
	}
	for _, r := range rows {
		for _, test := range r.Tests {
			if !exists(t, test) {
				t.Errorf("%s: %s.%s does not exist", r.Requirement, test.Package, test.Name)
			}
		}
	}
}

var (
	one    = regexp.MustCompile(`R-(\d+)`)
	range_ = regexp.MustCompile(`R-(\d+) to R-(\d+)`)
	gaps   = map[int]bool{26: true, 28: true, 29: true, 58: true, 59: true, 87: true, 88: true, 89: true, 107: true, 108: true, 109: true, 117: true, 127: true, 128: true, 129: true, 136: true, 137: true, 138: true, 139: true}
)

// mentioned returns the requirements a text names, ranges included.
func mentioned(text string) map[string]bool {
	out := make(map[string]bool)
	for _, m := range one.FindAllStringSubmatch(text, -1) {
		out["R-"+m[1]] = true
	}
	for _, m := range range_.FindAllStringSubmatch(text, -1) {
		a, _ := strconv.Atoi(m[1])
		b, _ := strconv.Atoi(m[2])
		for n := a; n <= b; n++ {
			if !gaps[n] { // numbers that were never given
				out["R-"+strconv.Itoa(n)] = true
			}
		}
	}
	return out
}

func exists(t *testing.T, test speccov.Test) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", test.Package, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "\nfunc "+test.Name+"(t *testing.T)") {
			return true
		}
	}
	return false
}
