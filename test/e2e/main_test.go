package e2e_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mmrelay/mmrelay/internal/keys"
)

// roles are the deployments of every world.
var roles = map[string]keys.Role{"hub.example": keys.Hub, "a.example": keys.Provider, "b.example": keys.Provider}

// keyDirs makes the key directories of all worlds, once: RSA keys are slow to
// make, and nothing in them changes during a test.
var keyDirs = sync.OnceValues(func() (string, error) {
	root, err := os.MkdirTemp("", "mmre2e")
	if err != nil {
		return "", err
	}
	madeKeys = root
	var dirs []string
	for domain, role := range roles {
		dir := filepath.Join(root, domain)
		if err := keys.Generate(dir, role, domain, nil, time.Now()); err != nil {
			return "", err
		}
		dirs = append(dirs, dir)
	}
	return root, keys.MakeTrust(filepath.Join(root, "trust"), dirs)
})

var madeKeys string // written by keyDirs, read when the tests are over

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if madeKeys != "" {
			_ = os.RemoveAll(madeKeys) // of the tests, whose results are known
		}
		os.Exit(code)
	}))
}
