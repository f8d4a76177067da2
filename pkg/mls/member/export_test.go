package member

import (
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
)

// EachSecret calls f for everything that Retire may have to wipe.
func (g *Group) EachSecret(f func(suite.Secret)) {
	g.secrets(f)
	g.trees(func(_ mls.Epoch, t *secret.Tree) { t.Secrets(f) })
}
