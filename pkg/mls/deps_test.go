package mls_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/mmrelay/mmrelay/"

// TestDeps holds the engine to its closed list of dependencies, and the hub's
// half away from the secrets of the members' half.
func TestDeps(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./...").Output()
	if err != nil {
		t.Skipf("SKIPPED: no go command to list dependencies with: %v", err)
	}
	for p := range strings.FieldsSeq(string(out)) {
		switch {
		case strings.HasPrefix(p, module+"pkg/mls"), p == module+"pkg/codec",
			strings.HasPrefix(p, "github.com/cloudflare/circl/"),
			strings.HasPrefix(p, "golang.org/x/crypto/"), strings.HasPrefix(p, "golang.org/x/sys/cpu"):
		default:
			t.Errorf("the engine depends on %s", p)
		}
	}
	out, err = exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for p := range strings.FieldsSeq(string(out)) {
		if strings.HasSuffix(p, "pkg/mls/member") || strings.HasSuffix(p, "pkg/mls/internal/secret") {
			t.Errorf("pkg/mls depends on %s", p)
		}
	}
}

// imports calls f for every import of every file of the engine that is not a
// test.
func imports(t *testing.T, f func(file, path string)) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		for _, i := range parsed.Imports {
			f(filepath.ToSlash(name), strings.Trim(i.Path.Value, `"`))
		}
		return nil
	})
	if err != nil || files < 40 {
		t.Fatalf("read %d files: %v", files, err)
	}
}

// TestNoLogging: nothing in the engine can write anywhere, read a clock's
// sleep, or draw predictable numbers. Secrets implement slog's interface to
// redact themselves.
func TestNoLogging(t *testing.T) {
	imports(t, func(file, path string) {
		switch path {
		case "log", "os", "net", "net/http", "math/rand", "math/rand/v2", "syscall", "unsafe":
			if !strings.HasPrefix(file, "mlstest/") {
				t.Errorf("%s imports %s", file, path)
			}
		case "log/slog":
			if !strings.HasPrefix(file, "mlstest/") && !strings.HasPrefix(file, "internal/suite/") && !strings.HasPrefix(file, "member/") {
				t.Errorf("%s imports %s", file, path)
			}
		}
	})
}

// TestOneCryptoPackage: circl and crypto/* are used by internal/suite alone,
// but for constant-time comparison.
func TestOneCryptoPackage(t *testing.T) {
	imports(t, func(file, path string) {
		if strings.HasPrefix(file, "internal/suite/") || strings.HasPrefix(file, "mlstest/") {
			return
		}
		if strings.HasPrefix(path, "github.com/cloudflare/circl") || strings.HasPrefix(path, "golang.org/x/crypto") ||
			strings.HasPrefix(path, "crypto/") && path != "crypto/subtle" && path != "crypto/rand" {
			t.Errorf("%s imports %s", file, path)
		}
	})
}
