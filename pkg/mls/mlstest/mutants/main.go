// Mutants breaks the rules of docs/mls-negative-list.md one at a time and runs
// the test that the list names for each: a test that passes without its rule
// proves nothing.
//
//	go run ./pkg/mls/mlstest/mutants              every mutant, a Markdown table
//	go run ./pkg/mls/mlstest/mutants -rules 31,45 those of two rules
//
// The source tree is never changed: the go command gets the edited files as an
// overlay. A mutant is killed if its test fails; it is an error if it does not
// compile or if its text is not in the source any more, which TestMutantsApply
// notices too. The program exits with 1 if a mutant survives.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

func main() {
	rules := flag.String("rules", "", "numbers of rules, separated by commas; none: all")
	flag.Parse()
	if err := run(os.Stdout, *rules); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, rules string) error {
	engine, err := engineDir()
	if err != nil {
		return err
	}
	var only []int
	for field := range strings.FieldsFuncSeq(rules, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(field)
		if err != nil {
			return fmt.Errorf("reading -rules: %w", err)
		}
		only = append(only, n)
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	say("| rule | broken | test | result |\n| --- | --- | --- | --- |")
	tried, killed := 0, 0
	for _, m := range all() {
		if len(only) > 0 && !slices.Contains(only, m.rule) {
			continue
		}
		tried++
		dead, err := m.run(engine)
		result := "**survived**"
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, "error:", err)
			result = "**error**"
		case dead:
			killed++
			result = "killed"
		}
		say("| %d | %s | `%s` in %s | %s |", m.rule, m.what, m.test, m.pkg, result)
	}
	say("\n%d of %d mutants killed", killed, tried)
	if killed != tried {
		return errors.New("a test passes without its rule, or a mutant is none")
	}
	return nil
}

// engineDir returns pkg/mls, whatever the working directory.
func engineDir() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "pkg", "mls"), nil
}

// run reports whether the mutant's test fails.
func (m *mutant) run(engine string) (killed bool, err error) {
	changed, err := m.apply(engine)
	if err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return false, fmt.Errorf("making an overlay: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	replace := map[string]string{}
	for file, src := range changed {
		to := filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(to, []byte(src), 0o600); err != nil {
			return false, fmt.Errorf("making an overlay: %w", err)
		}
		replace[filepath.Join(engine, file)] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return false, fmt.Errorf("making an overlay: %w", err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o600); err != nil {
		return false, fmt.Errorf("making an overlay: %w", err)
	}
	cmd := exec.Command("go", "test", "-short", "-count=1", "-vet=off", "-timeout=3m", "-run=^"+m.test+"$", "./"+m.pkg) //nolint:gosec // Our own table.
	cmd.Dir = engine
	// In the environment, so that a test that asks the go command sees it too.
	cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+overlay, "GOMAXPROCS="+strconv.Itoa(runtime.GOMAXPROCS(0)))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil && bytes.Contains(out, []byte("no tests to run")):
		return false, fmt.Errorf("rule %d, %s: no %s in %s", m.rule, m.what, m.test, m.pkg)
	case err == nil:
		return false, nil
	case errors.As(err, &exit) && !bytes.Contains(out, []byte("[build failed]")) && !bytes.Contains(out, []byte("[setup failed]")):
		return true, nil
	}
	return false, fmt.Errorf("rule %d, %s: %w\n%s", m.rule, m.what, err, out)
}
