// Package imports_test holds the import rules of docs/architecture.md.
package imports_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mmrelay/mmrelay/"

// deps returns everything a package depends on, tests excluded.
func deps(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", module+pkg).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pkg, err)
	}
	return strings.Fields(string(out))
}

func packages(t *testing.T, pattern string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", module+pattern).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pattern, err)
	}
	var ps []string
	for p := range strings.FieldsSeq(string(out)) {
		ps = append(ps, strings.TrimPrefix(p, module))
	}
	return ps
}

// TestForbidden lists what a package must not reach, and why.
func TestForbidden(t *testing.T) {
	for _, r := range []struct {
		pkg, why string
		bad      []string
	}{
		{"cmd/hub", "daemons hold no client code", []string{"pkg/client", "internal/cli", "internal/demo", "internal/lab"}},
		{"cmd/relay", "daemons hold no client code", []string{"pkg/client", "internal/cli", "internal/demo", "internal/lab"}},
		{"internal/hub", "a hub has no group secrets, and is not a relay", []string{"pkg/mls/member", "pkg/mls/internal/secret", "internal/relay", "pkg/client"}},
		{"internal/relay", "a relay has no group secrets, and is not a hub", []string{"pkg/mls/member", "pkg/mls/internal/secret", "internal/hub", "pkg/client"}},
		{"pkg/mls", "the engine is a library of its own", []string{"pkg/seal", "pkg/token", "pkg/queue", "pkg/pseudonym", "pkg/primitive", "pkg/mls/internal/secret", "pkg/mls/member"}},
		{"pkg/mls/member", "the engine is a library of its own", []string{"pkg/seal", "pkg/token", "pkg/queue", "pkg/pseudonym", "pkg/primitive"}},
		{"pkg/seal", "sealing knows nothing of groups, tokens or queues", []string{"pkg/mls", "pkg/token", "pkg/queue", "pkg/pseudonym"}},
		{"pkg/token", "tokens know nothing of groups, sealing or queues", []string{"pkg/mls", "pkg/seal", "pkg/queue", "pkg/pseudonym"}},
		{"pkg/queue", "queues know nothing of what is in them", []string{"pkg/mls", "pkg/seal", "pkg/token", "pkg/pseudonym", "pkg/primitive"}},
		{"pkg/pseudonym", "identities know nothing of tokens and queues", []string{"pkg/token", "pkg/queue"}},
	} {
		have := deps(t, r.pkg)
		for _, b := range r.bad {
			if slices.Contains(have, module+b) {
				t.Errorf("%s reaches %s: %s", r.pkg, b, r.why)
			}
		}
	}
}

// TestOneWay: pkg never reaches internal.
func TestOneWay(t *testing.T) {
	for _, p := range packages(t, "pkg/...") {
		for _, d := range deps(t, p) {
			if strings.HasPrefix(d, module+"internal/") || strings.HasPrefix(d, module+"cmd/") {
				t.Errorf("%s reaches %s", p, strings.TrimPrefix(d, module))
			}
		}
	}
}

// TestPureCode: protocol packages do no I/O and keep no clock of their own.
func TestPureCode(t *testing.T) {
	for _, p := range []string{"pkg/codec", "pkg/mmrerr", "pkg/primitive", "pkg/seal", "pkg/token", "pkg/pseudonym", "pkg/pseudonym/treewrap", "pkg/pseudonym/leafcheck", "pkg/mls", "pkg/mls/member"} {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, module+p).Output()
		if err != nil {
			t.Fatal(err)
		}
		for imp := range strings.FieldsSeq(string(out)) {
			switch imp {
			case "net", "net/http", "os", "log", "flag", "context", "math/rand", "math/rand/v2":
				t.Errorf("%s imports %s", p, imp)
			}
		}
	}
}

// TestNoTapInProduction: nothing but the tagged file has the demo's flag.
func TestNoTapInProduction(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .GoFiles " "}}`, module+"internal/daemon").Output()
	if err != nil {
		t.Fatal(err)
	}
	if files := strings.Fields(string(out)); slices.Contains(files, "tap_on.go") || !slices.Contains(files, "tap_off.go") {
		t.Errorf("the production build of internal/daemon has %v", files)
	}
}
