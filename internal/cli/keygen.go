package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mmrelay/mmrelay/internal/keys"
)

type keygenCmd struct {
	Hub    keygenHub    `cmd:"" help:"Make the key directory of a hub."`
	Relay  keygenRelay  `cmd:"" help:"Make the key directory of a relay (provider)."`
	Rotate keygenRotate `cmd:"" help:"Make successors of keys that near their end, and destroy those past it: for key directories that daemons only read."`
	Renew  keygenRenew  `cmd:"" help:"Certify listeners and identity again, before they expire."`
	Trust  keygenTrust  `cmd:"" help:"Collect the public parts of key directories into a trust directory for clients and peers."`
}

type keygenService struct {
	Domain string   `help:"Domain of the service: lower case, at least one dot." required:"" placeholder:"DOMAIN"`
	Out    string   `help:"Directory to make." required:"" type:"path" placeholder:"DIR"`
	Host   []string `help:"Further DNS name or address that the TLS certificate is good for. Repeatable." placeholder:"HOST"`
}

type (
	keygenHub   struct{ keygenService }
	keygenRelay struct{ keygenService }
)

func (k *keygenHub) Run(e *env) error   { return k.generate(e, keys.Hub) }
func (k *keygenRelay) Run(e *env) error { return k.generate(e, keys.Provider) }

func (k *keygenService) generate(e *env, role keys.Role) error {
	if err := keys.Generate(k.Out, role, k.Domain, k.Host, time.Now()); err != nil {
		return err
	}
	return e.print(map[string]string{"domain": k.Domain, "keys": k.Out, "public": filepath.Join(k.Out, "public")},
		fmt.Sprintf("keys of %s are in %s\nkeep operator.key offline; hand %s to other operators and to clients", k.Domain, k.Out, filepath.Join(k.Out, "public")))
}

type keygenTrust struct {
	Out string   `help:"Trust directory to make or extend." required:"" type:"path" placeholder:"DIR"`
	Dir []string `arg:"" help:"Key directories, or copies of their public part (a directory that holds public/)." type:"existingdir"`
}

func (k *keygenTrust) Run(e *env) error {
	if err := keys.MakeTrust(k.Out, k.Dir); err != nil {
		return err
	}
	return e.print(map[string]string{"trust": k.Out}, "trust directory: "+k.Out)
}

// keygenOld names a key directory that there is.
type keygenOld struct {
	Role   string `arg:"" help:"What the directory is for: hub or relay." enum:"hub,relay"`
	Keys   string `help:"Key directory." required:"" type:"existingdir" placeholder:"DIR"`
	Domain string `help:"Domain of the service." required:"" placeholder:"DOMAIN"`
}

func (k *keygenOld) role() keys.Role {
	if k.Role == "relay" {
		return keys.Provider
	}
	return keys.Hub
}

type keygenRenew struct {
	keygenOld
	Operator string   `help:"Directory with operator.key and operator.crt, if these are kept elsewhere." type:"existingdir" placeholder:"DIR"`
	Host     []string `help:"Further DNS name or address that the TLS certificate is good for. Repeatable." placeholder:"HOST"`
}

func (k *keygenRenew) Run(e *env) error {
	operator := k.Operator
	if operator == "" {
		operator = k.Keys
	}
	err := keys.Renew(k.Keys, operator, k.role(), k.Domain, k.Host, time.Now())
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w\nhint: --operator names the directory of operator.key and operator.crt, if they are kept elsewhere", err)
	}
	if err != nil {
		return err
	}
	return e.print(map[string]string{"keys": k.Keys},
		"certificates in "+k.Keys+" are renewed\nlisteners use theirs within seconds; restart the daemon for the identity")
}

type keygenRotate struct{ keygenOld }

func (k *keygenRotate) Run(e *env) error {
	s, err := keys.Load(k.Keys, k.role(), k.Domain)
	if err != nil {
		return err
	}
	if err := s.Rotate(time.Now()); err != nil {
		return err
	}
	return e.print(map[string]string{"keys": k.Keys}, "keys in "+k.Keys+" are current")
}
