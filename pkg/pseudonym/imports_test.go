package pseudonym_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestImports holds what the crypto packages may import outside the standard
// library, and that none of them does I/O, logs or reads a clock: every
// dependency is argued for, and the arrows point one way.
func TestImports(t *testing.T) {
	const module = "github.com/mmrelay/mmrelay/pkg/"
	for dir, allowed := range map[string][]string{
		"mmrerr":    {},
		"primitive": {module + "codec", "github.com/cloudflare/circl/hpke", "github.com/cloudflare/circl/kem", "golang.org/x/crypto/hkdf"},
		"seal":      {module + "codec", module + "mmrerr", module + "primitive", "golang.org/x/crypto/hkdf"},
		"token":     {module + "codec", module + "mmrerr", module + "primitive", "github.com/cloudflare/circl/blindsign/blindrsa"},
		"pseudonym": {
			module + "codec", module + "mmrerr", module + "primitive", module + "seal",
			"golang.org/x/crypto/cryptobyte", "golang.org/x/crypto/cryptobyte/asn1",
		},
		"pseudonym/treewrap": {module + "codec", module + "mmrerr", module + "primitive", module + "pseudonym"},
	} {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range f.Imports {
				path, _ := strconv.Unquote(spec.Path.Value)
				standard := !strings.Contains(strings.SplitN(path, "/", 2)[0], ".")
				if !standard && !slices.Contains(allowed, path) {
					t.Errorf("%s imports %s", name, path)
				}
				switch path {
				case "net", "net/http", "os", "log", "context", "flag", "math/rand", "math/rand/v2", "unsafe":
					t.Errorf("%s imports %s: these packages are bytes in, bytes out", name, path)
				}
			}
		}
	}
}
