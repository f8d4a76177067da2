package mlstest

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// notInModule lists the vector files that the Go module of `make vectors` lacks;
// only they may be missing from .vectors when CI is set.
var notInModule = map[string]bool{"messages.json": true, "passive-client-random.json": true}

// Hex is a byte string that JSON writes in hexadecimal digits.
type Hex []byte

// UnmarshalJSON reads a JSON string of hexadecimal digits, or null as nil.
func (h *Hex) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == nil {
		*h = nil
		return nil
	}
	v, err := hex.DecodeString(*s)
	*h = v
	return err
}

// Vectors reads one file of the official test vectors, such as
// "key-schedule.json", into v. It looks in $MLS_VECTORS, then in
// ../shared/mls-vectors and .vectors seen from the project's root.
//
// A file that is nowhere skips the test and says how to get it; when CI is set
// that is a failure.
func Vectors(tb testing.TB, file string, v any) {
	tb.Helper()
	root := projectRoot(tb)
	if HasVectors(tb, file, v) {
		return
	}
	_, err := os.Stat(filepath.Join(root, ".vectors"))
	if os.Getenv("CI") != "" && (err != nil || !notInModule[file]) {
		tb.Fatalf("test vectors %s are missing: run `make vectors`", file)
	}
	tb.Skipf("SKIPPED: test vectors %s are missing: run `make vectors` or set MLS_VECTORS", file)
}

// HasVectors is Vectors for fuzz targets, which can do without: it reports
// whether the file was there.
func HasVectors(tb testing.TB, file string, v any) bool {
	tb.Helper()
	root := projectRoot(tb)
	var dirs []string
	if d := os.Getenv("MLS_VECTORS"); d != "" {
		dirs = append(dirs, d)
	}
	dirs = append(dirs, filepath.Join(root, "..", "shared", "mls-vectors"), filepath.Join(root, ".vectors"))
	for _, d := range dirs {
		if read(tb, filepath.Join(d, file), v) {
			return true
		}
	}
	return false
}

// Count fails the test unless it ran exactly want cases: a vector test that
// silently runs nothing must not pass.
func Count(tb testing.TB, what string, got, want int) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: ran %d cases, want %d", what, got, want)
	}
}

func read(tb testing.TB, path string, v any) bool {
	tb.Helper()
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return false
	}
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		tb.Fatalf("reading test vectors: %v", err)
	}
	return true
}

// projectRoot is the directory of go.mod above the test's directory.
func projectRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			tb.Fatal("no go.mod above the test's directory")
		}
		dir = up
	}
}
