package speccov_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryCode asserts that each code of the protocol is expected by a test
// outside of the package that defines it.
func TestEveryCode(t *testing.T) {
	source, err := os.ReadFile("../../pkg/mmrerr/codes.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`(?m)^\t(\w+)\s+Code = [1-9]`).FindAllStringSubmatch(string(source), -1)
	if len(codes) < 40 {
		t.Fatalf("%d codes", len(codes))
	}
	var tests strings.Builder
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "mmrerr" || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			tests.Write(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range codes {
		if !regexp.MustCompile(`mmrerr\.` + c[1] + `\b`).MatchString(tests.String()) {
			t.Errorf("no test expects mmrerr.%s", c[1])
		}
	}
}
