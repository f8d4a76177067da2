package pebbledb_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"go.uber.org/goleak"

	"github.com/mmrelay/mmrelay/internal/pebbledb"
)

// Pebble leaves one goroutine when Open fails because the database is in use.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/cockroachdb/pebble/v2/vfs.(*diskHealthCheckingFS).startTickerLocked.func1"))
}

func TestOpenReopens(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	db, err := pebbledb.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte("k"), []byte("v"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if _, err := pebbledb.Open(dir); err == nil {
		t.Error("a second process could open the database")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = pebbledb.Open(dir); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	v, closer, err := db.Get([]byte("k"))
	if err != nil || string(v) != "v" {
		t.Fatalf("Get = %q, %v", v, err)
	}
	_ = closer.Close()
	st, err := os.Stat(dir)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v, want mode 0700", st.Mode(), err)
	}
}

func TestOpenRefusesNewer(t *testing.T) {
	for name, version := range map[string][]byte{
		"next": {0, 0, 0, pebbledb.Version + 1}, "far": {1, 0, 0, 0}, "short": {1}, "long": {0, 0, 0, 0, 1}, "empty": {},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db, err := pebbledb.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Set([]byte{0}, version, pebble.Sync), db.Close()); err != nil {
				t.Fatal(err)
			}
			if _, err := pebbledb.Open(dir); !errors.Is(err, pebbledb.ErrNewer) {
				t.Errorf("Open: %v, want ErrNewer", err)
			}
		})
	}
}
