// Package daemontest prepares what tests need that run the daemons as processes:
// the programs, key directories, and a trust directory.
package daemontest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mmrelay/mmrelay/internal/keys"
)

// programs are the daemons, by import path.
var programs = []string{"github.com/mmrelay/mmrelay/cmd/hub", "github.com/mmrelay/mmrelay/cmd/relay"}

// Set is a directory with all of it.
type Set struct{ Root string }

// Make builds the programs and makes keys for the domains, below root.
func Make(root string, roles map[string]keys.Role) (*Set, error) {
	s := &Set{Root: root}
	if err := s.Build("bin"); err != nil {
		return nil, err
	}
	var dirs []string
	for domain, role := range roles {
		if err := keys.Generate(s.Keys(domain), role, domain, nil, time.Now()); err != nil {
			return nil, err
		}
		dirs = append(dirs, s.Keys(domain))
	}
	return s, keys.MakeTrust(s.Trust(), dirs)
}

// Build builds the programs into a directory of the set, with further arguments of
// go build.
func (s *Set) Build(dir string, args ...string) error {
	args = append([]string{"build", "-o", filepath.Join(s.Root, dir) + string(filepath.Separator)}, args...)
	build := exec.Command("go", append(args, programs...)...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the daemons: %w: %s", err, out)
	}
	return nil
}

// Program is the path of the hub or the relay.
func (s *Set) Program(name string) string { return filepath.Join(s.Root, "bin", name) }

// Keys is the key directory of a domain.
func (s *Set) Keys(domain string) string { return filepath.Join(s.Root, "keys", domain) }

// Trust is the trust directory for clients, Operators the file of roots in it that
// peers read.
func (s *Set) Trust() string     { return filepath.Join(s.Root, "trust") }
func (s *Set) Operators() string { return filepath.Join(s.Trust(), "operators.pem") }
