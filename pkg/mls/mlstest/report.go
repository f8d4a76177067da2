package mlstest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// ReportFile is the environment variable that names the file to which vector
// tests add a line for every case that they ran.
const ReportFile = "MLS_VECTORS_REPORT"

// Ran notes that a test has run one case of a vector file to its end, suite
// being 0 where the file has none. A test that has failed by then notes
// nothing.
func Ran[T ~uint16](tb testing.TB, file string, suite T) {
	tb.Helper()
	path := os.Getenv(ReportFile)
	if path == "" || tb.Failed() {
		return
	}
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // The developer's file.
	if err != nil {
		tb.Fatal(err)
	}
	// One write is one line, also when packages are tested side by side.
	if _, err := fmt.Fprintf(f, "%s\t%d\t%s.%s\n", file, suite, filepath.Base(dir), tb.Name()); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
}
