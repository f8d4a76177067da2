package mls_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/mmrelay/mmrelay/"

// TestDeps holds the engine to its closed list of dependencies, and the server's
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

// imports calls f for every import of every package of the engine that is not
// a test's. It asks the go command, which knows of overlays.
func imports(t *testing.T, f func(pkg, path string)) {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Skipf("SKIPPED: no go command to list imports with: %v", err)
	}
	packages := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		packages++
		for _, path := range fields[1:] {
			f(strings.TrimPrefix(fields[0], module+"pkg/mls/")+"/", path)
		}
	}
	if packages < 9 {
		t.Fatalf("looked at %d packages", packages)
	}
}

// TestNoLogging: nothing in the engine can write anywhere, read a clock's
// sleep, or draw predictable numbers. Secrets implement slog's interface to
// redact themselves.
func TestNoLogging(t *testing.T) {
	imports(t, func(pkg, path string) {
		switch path {
		case "log", "os", "net", "net/http", "math/rand", "math/rand/v2", "syscall", "unsafe":
			if !strings.HasPrefix(pkg, "mlstest/") {
				t.Errorf("%s imports %s", pkg, path)
			}
		case "log/slog":
			if !strings.HasPrefix(pkg, "mlstest/") && !strings.HasPrefix(pkg, "internal/suite/") && !strings.HasPrefix(pkg, "member/") {
				t.Errorf("%s imports %s", pkg, path)
			}
		}
	})
}

// TestConstantTime: what a Secret holds is compared by its own methods, which
// take as long for every content, and is no key of a map; tags are compared by
// VerifyMAC. A clock cannot show that, the source can.
func TestConstantTime(t *testing.T) {
	careless := regexp.MustCompile(`(bytes\.(Equal|Compare|HasPrefix)|slices\.Equal|string)\([^;]*\.Bytes\(\)|\.Bytes\(\)\) *[=!]=|\.MAC\([^;]*\) *[=!]=|bytes\.Equal\([^;]*\.MAC\(`)
	read := 0
	for _, dir := range []string{"internal/suite", "internal/secret", "member"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := os.ReadFile(name) //nolint:gosec // Our own sources.
			if err != nil {
				t.Fatal(err)
			}
			read++
			for n, line := range strings.Split(string(src), "\n") {
				if careless.MatchString(line) && !strings.Contains(line, "subtle.ConstantTimeCompare(") {
					t.Errorf("%s:%d compares a secret: %s", name, n+1, strings.TrimSpace(line))
				}
			}
		}
	}
	for _, line := range []string{"if bytes.Equal(s.Bytes(), t) {", "m[string(s.Bytes())] = 1", "bytes.Equal(s.MAC(key, b), tag)"} {
		if !careless.MatchString(line) {
			t.Errorf("%q is not noticed", line)
		}
	}
	kdf, err := os.ReadFile("internal/suite/kdf.go")
	if err != nil || !strings.Contains(string(kdf), "subtle.ConstantTimeCompare(s.MAC(") {
		t.Errorf("VerifyMAC does not compare in constant time, err %v", err)
	}
	if read < 20 {
		t.Errorf("read %d files", read)
	}
}

// TestNoProjectWords: the engine is a library of its own, and says nothing of
// the project that it is kept in.
func TestNoProjectWords(t *testing.T) {
	word := regexp.MustCompile(`(?i)\b(mmr\w*|hubs?|pseudonym\w*|spec\.md|R-[0-9]+|rooms)\b`)
	files := 0
	err := filepath.WalkDir(".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, ".go") || name == "deps_test.go" {
			return err
		}
		src, err := os.ReadFile(name) //nolint:gosec // Our own sources.
		files++
		for n, line := range strings.Split(strings.ReplaceAll(string(src), module, ""), "\n") {
			if w := word.FindString(line); w != "" {
				t.Errorf("%s:%d: %q", name, n+1, w)
			}
		}
		return err
	})
	if err != nil || files < 100 {
		t.Fatalf("read %d files: %v", files, err)
	}
}

// TestOneCryptoPackage: circl and crypto/* are used by internal/suite alone,
// but for constant-time comparison.
func TestOneCryptoPackage(t *testing.T) {
	imports(t, func(pkg, path string) {
		if strings.HasPrefix(pkg, "internal/suite/") || strings.HasPrefix(pkg, "mlstest/") {
			return
		}
		if strings.HasPrefix(path, "github.com/cloudflare/circl") || strings.HasPrefix(path, "golang.org/x/crypto") ||
			strings.HasPrefix(path, "crypto/") && path != "crypto/subtle" && path != "crypto/rand" {
			t.Errorf("%s imports %s", pkg, path)
		}
	})
}
