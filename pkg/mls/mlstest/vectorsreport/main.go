// Vectorsreport runs the vector tests of pkg/mls and prints how many cases of
// each official file every one of them ran, by cipher suite. The numbers come
// from the tests while they run; the program fails if a test failed or if one
// ran fewer cases than the file is known to have. Run it in the project's root.
package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// all has the cases of a file in each of the seven suites, first in suite 1
// only, none those without a suite.
type expected struct{ all, first, none int }

var files = map[string]expected{
	"crypto-basics.json":                  {all: 1},
	"deserialization.json":                {none: 14},
	"key-schedule.json":                   {all: 1},
	"message-protection.json":             {all: 1},
	"messages.json":                       {none: 300 * 17},
	"passive-client-handling-commit.json": {all: 13},
	"passive-client-random.json":          {first: 1},
	"passive-client-welcome.json":         {all: 8},
	"psk_secret.json":                     {all: 11},
	"secret-tree.json":                    {all: 3},
	"transcript-hashes.json":              {all: 1},
	"tree-math.json":                      {none: 10},
	"tree-operations.json":                {first: 5},
	"tree-validation.json":                {all: 14},
	"treekem.json":                        {all: 11},
	"welcome.json":                        {all: 1},
}

// row is what one test ran of one file in one suite.
type row struct{ file, suite, test string }

func main() {
	if err := report(); err != nil {
		fmt.Fprintln(os.Stderr, "vectors-report:", err)
		os.Exit(1)
	}
}

func report() error {
	dir, err := os.MkdirTemp("", "vectors")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "ran")
	test := exec.Command("go", "test", "-count=1", "-run", "^TestVector", "./pkg/mls/...")
	test.Env = append(os.Environ(), mlstest.ReportFile+"="+path)
	out, failed := test.CombinedOutput()
	ran, err := count(path)
	if err != nil {
		return err
	}
	missing := table(ran)
	if failed != nil {
		return fmt.Errorf("the tests: %w\n%s", failed, out)
	}
	if missing > 0 {
		return fmt.Errorf("%d rows ran fewer cases than expected", missing)
	}
	return nil
}

func count(path string) (map[row]int, error) {
	f, err := os.Open(path) //nolint:gosec // Made above.
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	ran := map[row]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if p := strings.Split(lines.Text(), "\t"); len(p) == 3 {
			ran[row{p[0], p[1], p[2]}]++
		}
	}
	return ran, nil
}

// optional files are not in what `make vectors` fetches.
var optional = map[string]bool{"messages.json": true, "passive-client-random.json": true}

// present reports whether a file is in one of the directories that have all.
func present(file string) bool {
	for _, dir := range []string{os.Getenv("MLS_VECTORS"), filepath.Join("..", "shared", "mls-vectors")} {
		if _, err := os.Stat(filepath.Join(dir, file)); dir != "" && err == nil {
			return true
		}
	}
	return false
}

// table prints all rows, those that nothing ran included, and returns how many
// fell short.
func table(ran map[row]int) (missing int) {
	want := map[row]int{}
	for file, e := range files {
		tests := map[string]bool{}
		for r := range ran {
			if r.file == file {
				tests[r.test] = true
			}
		}
		if len(tests) == 0 {
			tests["none"] = true
		}
		for t := range tests {
			for s := range 8 {
				n := e.all
				switch s {
				case 0:
					n = e.none
				case 1:
					n += e.first
				}
				if n > 0 {
					want[row{file, strconv.Itoa(s), t}] = n
				}
			}
		}
	}
	for r := range ran {
		want[r] += 0 // Cases that nobody expects are shown, too.
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "file\tsuite\ttest\trun\texpected\t")
	for _, r := range slices.SortedFunc(maps.Keys(want), func(a, b row) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.test, b.test), cmp.Compare(a.suite, b.suite))
	}) {
		mark := ""
		switch {
		case ran[r] >= want[r]:
		case optional[r.file] && !present(r.file):
			mark = "not fetched"
		default:
			missing++
			mark = "MISSING"
		}
		suite := r.suite
		if suite == "0" {
			suite = "-"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", r.file, suite, r.test, ran[r], want[r], mark)
	}
	_ = w.Flush()
	return missing
}
