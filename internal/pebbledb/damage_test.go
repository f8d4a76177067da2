package pebbledb_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/mmrelay/mmrelay/internal/pebbledb"
)

// TestFirstLogIsChecked asserts that damage in the first log that a database ever
// had is an error, not the end of the log: Pebble alone would take it for that.
func TestFirstLogIsChecked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "db")
	db, err := pebbledb.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := db.Set(fmt.Appendf(nil, "key %3d", i), make([]byte, 1000), pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil { // as a crash would: nothing is flushed
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	b, err := os.ReadFile(logs[0])
	if err != nil || len(b) < 100_000 {
		t.Fatal(len(b), err)
	}
	b[500] ^= 0x41
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if db, err = pebbledb.Open(dir); err == nil {
		_, _, err = db.Get([]byte("key  99"))
		t.Fatalf("a damaged log was taken for a short one; its last key: %v", err)
	}
}

// TestCloseFlushes asserts that nothing is left to a log after Close: the logs can
// be destroyed.
func TestCloseFlushes(t *testing.T) {
	dir := t.TempDir()
	db, err := pebbledb.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Set([]byte("k"), make([]byte, 5000), pebble.Sync), pebbledb.Close(db)); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, l := range logs {
		if err := os.WriteFile(l, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if db, err = pebbledb.Open(dir); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	v, closer, err := db.Get([]byte("k"))
	if err != nil || len(v) != 5000 {
		t.Fatalf("%d bytes, %v", len(v), err)
	}
	closer.Close()
}

// TestFailStopChild is not a test: it is the process of TestFailStop.
func TestFailStopChild(t *testing.T) {
	if os.Getenv("MMR_TEST_FAIL_STOP") == "" {
		t.Skip("run by TestFailStop")
	}
	defer func() {
		_ = recover() // as a server's recovery does
		_, _ = os.Stdout.WriteString("survived\n")
	}()
	pebbledb.Fail()
}

// TestFailStop asserts that a database that cannot go on ends the process, even
// where a panic would be recovered from.
func TestFailStop(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestFailStopChild$")
	cmd.Env = append(os.Environ(), "MMR_TEST_FAIL_STOP=1")
	out, err := cmd.CombinedOutput()
	if err == nil || strings.Contains(string(out), "survived") || !strings.Contains(string(out), "the database cannot go on") {
		t.Errorf("%v:\n%s", err, out)
	}
}
