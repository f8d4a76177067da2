package mlstest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// spy is a TB that notes how a test ended and ends it.
type spy struct {
	testing.TB
	fatal, skipped string
}

func (s *spy) Helper() {}

func (s *spy) Fatalf(format string, args ...any) {
	s.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (s *spy) Skipf(format string, args ...any) {
	s.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// TestVectorMissing: a missing file of vectors is skipped loudly, and fails the
// test in CI; of the two files that the Go module lacks only where the files
// come from elsewhere.
func TestVectorMissing(t *testing.T) {
	root := t.TempDir()
	project := filepath.Join(root, "project")
	if err := os.MkdirAll(filepath.Join(project, "pkg"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(project, "go.mod"), []byte("module x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(project, "pkg"))
	t.Setenv("MLS_VECTORS", "")
	ask := func(file string) (s spy, v []int) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			Vectors(&s, file, &v)
		}()
		<-done
		return s, v
	}
	const inModule, elsewhere = "tree-math.json", "messages.json"
	t.Setenv("CI", "")
	if s, _ := ask(inModule); !strings.Contains(s.skipped, inModule) || !strings.Contains(s.skipped, "make vectors") || s.fatal != "" {
		t.Errorf("without CI: %+v", s)
	}
	t.Setenv("CI", "true")
	for _, file := range []string{inModule, elsewhere} {
		if s, _ := ask(file); s.fatal == "" || s.skipped != "" {
			t.Errorf("%s in CI: %+v", file, s)
		}
	}
	fetched := filepath.Join(project, ".vectors")
	if err := os.Mkdir(fetched, 0o700); err != nil {
		t.Fatal(err)
	}
	if s, _ := ask(inModule); s.fatal == "" {
		t.Errorf("%s in CI beside others: %+v", inModule, s)
	}
	if s, _ := ask(elsewhere); s.skipped == "" || s.fatal != "" {
		t.Errorf("%s in CI, where the module lacks it: %+v", elsewhere, s)
	}
	if err := os.WriteFile(filepath.Join(fetched, inModule), []byte("[1]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, v := ask(inModule); s.fatal != "" || s.skipped != "" || len(v) != 1 {
		t.Errorf("a file that is there: %+v, %v", s, v)
	}
}
