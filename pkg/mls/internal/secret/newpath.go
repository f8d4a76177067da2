package secret

import (
	"runtime"
	"sync"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// NewPath is an update path in the making: fresh keys for the committer's leaf
// and for the nodes above it (RFC 9420 §7.4).
type NewPath struct {
	LeafKey []byte   // public key of the new leaf
	Publics [][]byte // public keys of the filtered direct path

	steps   []tree.PathStep
	secrets []suite.Secret // path secrets, one per step
	keys    *Keys
	commit  suite.Secret
}

// GeneratePath draws the keys of an update path of a leaf, in the tree with all
// proposals applied. The steps must be its FilteredPath.
func GeneratePath(s *suite.Suite, own wire.LeafIndex, steps []tree.PathStep) (*NewPath, error) {
	public, private, err := s.GenerateKeyPair()
	if err != nil {
		return nil, err
	}
	p := &NewPath{LeafKey: public, steps: steps, keys: (*Keys)(nil).With(tree.Leaf(own), public, private)}
	path := newChain(s)
	for _, step := range steps {
		p.secrets = append(p.secrets, path.Secret())
		public, private, err := path.Node()
		if err != nil {
			p.Wipe()
			return nil, err
		}
		p.Publics = append(p.Publics, public)
		p.keys = p.keys.With(step.Node, public, private)
	}
	p.commit = path.Commit()
	return p, nil
}

// Keys returns the committer's private keys after the commit.
func (p *NewPath) Keys() *Keys { return p.keys }

// Commit returns the commit_secret.
func (p *NewPath) Commit() suite.Secret { return p.commit }

// For returns a copy of the path secret that a member added by the commit gets
// in its Welcome: that of the lowest node above both (RFC 9420 §12.4.3.1).
func (p *NewPath) For(leaf wire.LeafIndex) (suite.Secret, bool) {
	for i, step := range p.steps {
		if tree.Contains(step.Copath, leaf) {
			return p.secrets[i].Clone(), true
		}
	}
	return suite.Secret{}, false
}

// Encrypt encrypts the path secrets to the resolutions of the copath, without
// the leaves that the commit added; context is the provisional GroupContext.
func (p *NewPath) Encrypt(t *tree.Tree, added []wire.LeafIndex, context []byte) ([]wire.UpdatePathNode, error) {
	s := t.Suite()
	type job struct {
		secret suite.Secret
		public []byte
		out    *wire.HPKECiphertext
	}
	var jobs []job
	nodes := make([]wire.UpdatePathNode, len(p.steps))
	for i, step := range p.steps {
		resolution := t.Resolution(step.Copath, added)
		nodes[i] = wire.UpdatePathNode{EncryptionKey: p.Publics[i], Secrets: make([]wire.HPKECiphertext, len(resolution))}
		for j, x := range resolution {
			jobs = append(jobs, job{p.secrets[i], t.Key(x), &nodes[i].Secrets[j]})
		}
	}
	err := Parallel(len(jobs), func(i int) (err error) {
		out := jobs[i].out
		out.KEMOutput, out.Ciphertext, err = s.EncryptWithLabel(jobs[i].public, labelPath, context, jobs[i].secret.Bytes())
		return err
	})
	if err != nil {
		return nil, err
	}
	return nodes, nil
}

// WipePathSecrets clears what is not needed once the commit and its Welcome
// are made; the keys stay.
func (p *NewPath) WipePathSecrets() {
	for _, s := range p.secrets {
		s.Wipe()
	}
	p.commit.Wipe()
}

// Wipe clears everything, the keys too.
func (p *NewPath) Wipe() {
	p.WipePathSecrets()
	p.keys.Secrets(suite.Secret.Wipe)
}

// Parallel calls f for 0 to n-1 on up to GOMAXPROCS goroutines and returns
// after the last call, with the error of the lowest failing index.
func Parallel(n int, f func(i int) error) error {
	workers := min(runtime.GOMAXPROCS(0), n)
	if n < 4 || workers < 2 {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, n)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				errs[i] = f(i)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
