package secret

import (
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
)

// Path is the chain of path secrets of an UpdatePath from some node of the
// filtered direct path up to the root (RFC 9420 §7.4).
type Path struct {
	s    *suite.Suite
	next suite.Secret
}

// newChain starts a fresh chain for the first node of a filtered direct path.
func newChain(s *suite.Suite) *Path { return &Path{s, suite.RandomSecret(s.HashSize())} }

// ResumePath continues a chain from a received path secret, which it takes
// over.
func ResumePath(s *suite.Suite, pathSecret suite.Secret) *Path { return &Path{s, pathSecret} }

// Secret returns the path secret of the node the chain is at, as a copy.
func (p *Path) Secret() suite.Secret { return p.next.Clone() }

// Node returns the key pair of the node the chain is at and goes one node up.
func (p *Path) Node() (public []byte, private suite.Secret, err error) {
	node := p.s.DeriveSecret(p.next, "node")
	defer node.Wipe()
	p.up()
	return p.s.DeriveKeyPair(node)
}

// Commit ends the chain: after the root's Node, it returns the commit_secret.
func (p *Path) Commit() suite.Secret { return p.next }

// Wipe clears the chain.
func (p *Path) Wipe() { p.next.Wipe() }

func (p *Path) up() {
	next := p.s.DeriveSecret(p.next, "path")
	p.next.Wipe()
	p.next = next
}
