package secret

import (
	"bytes"
	"errors"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// ErrPath: a path secret cannot be decrypted, or the keys it gives are not
// those that were sent (RFC 9420 §7.5).
var ErrPath = errors.New("secret: path secret does not fit")

// labelPath is the label of encrypted path secrets (RFC 9420 §7.6).
const labelPath = "UpdatePathNode"

// Keys holds a member's private keys: of its leaf, and of those nodes above it
// that it was told (RFC 9420 §4.2). It is immutable.
type Keys struct{ nodes []nodeKey }

type nodeKey struct {
	node    tree.NodeIndex
	public  []byte
	private suite.Secret
}

// With returns the keys with one more, in place of the node's former one.
func (k *Keys) With(x tree.NodeIndex, public []byte, private suite.Secret) *Keys {
	n := &Keys{nodes: make([]nodeKey, 0, k.len()+1)}
	for _, old := range k.all() {
		if old.node != x {
			n.nodes = append(n.nodes, old)
		}
	}
	n.nodes = append(n.nodes, nodeKey{x, public, private})
	return n
}

// In returns the keys that still belong to a node of the tree: blanked and
// replaced nodes drop out.
func (k *Keys) In(t *tree.Tree) *Keys {
	n := &Keys{nodes: make([]nodeKey, 0, k.len())}
	for _, old := range k.all() {
		if bytes.Equal(t.Key(old.node), old.public) {
			n.nodes = append(n.nodes, old)
		}
	}
	return n
}

// Private returns the private key of a node, if it is known and belongs to the
// public key given.
func (k *Keys) Private(x tree.NodeIndex, public []byte) (suite.Secret, bool) {
	for _, n := range k.all() {
		if n.node == x && bytes.Equal(n.public, public) {
			return n.private, true
		}
	}
	return suite.Secret{}, false
}

// Secrets calls f for every private key.
func (k *Keys) Secrets(f func(suite.Secret)) {
	for _, n := range k.all() {
		f(n.private)
	}
}

func (k *Keys) all() []nodeKey {
	if k == nil {
		return nil
	}
	return k.nodes
}

func (k *Keys) len() int { return len(k.all()) }

// OpenPath decrypts the path secret that an update path holds for the owner of
// the leaf own and returns the keys after the commit and the commit_secret
// (RFC 9420 §7.5). The keys must be those In(t); t is the new tree, with the
// path merged in; added are the leaves that the same commit added; context is
// the provisional GroupContext. All failures are ErrPath.
func (k *Keys) OpenPath(t *tree.Tree, sender, own wire.LeafIndex, nodes []wire.UpdatePathNode, added []wire.LeafIndex, context []byte) (*Keys, suite.Secret, error) {
	s := t.Suite()
	steps := t.FilteredPath(sender)
	if len(steps) != len(nodes) || sender == own {
		return nil, suite.Secret{}, ErrPath
	}
	for i, step := range steps {
		if !tree.Contains(step.Copath, own) {
			continue
		}
		pathSecret, err := k.decrypt(t, t.Resolution(step.Copath, added), nodes[i].Secrets, context)
		if err != nil {
			return nil, suite.Secret{}, err
		}
		publics := make([][]byte, 0, len(nodes))
		for _, n := range nodes[i:] {
			publics = append(publics, n.EncryptionKey)
		}
		return k.climb(s, pathSecret, steps[i:], publics)
	}
	return nil, suite.Secret{}, ErrPath
}

// decrypt opens the ciphertext for the first node of a resolution whose private
// key is known.
func (k *Keys) decrypt(t *tree.Tree, resolution []tree.NodeIndex, secrets []wire.HPKECiphertext, context []byte) (suite.Secret, error) {
	s := t.Suite()
	if len(resolution) != len(secrets) {
		return suite.Secret{}, ErrPath
	}
	for j, x := range resolution {
		private, ok := k.Private(x, t.Key(x))
		if !ok {
			continue
		}
		pathSecret, err := s.DecryptWithLabel(private, labelPath, context, secrets[j].KEMOutput, secrets[j].Ciphertext)
		if err != nil || pathSecret.Len() != s.HashSize() {
			pathSecret.Wipe()
			return suite.Secret{}, ErrPath
		}
		return pathSecret, nil
	}
	return suite.Secret{}, ErrPath
}

// Join adds the keys that the path secret of a Welcome gives: from the lowest
// node above both the own leaf and the committer's, up to the root (RFC 9420
// §12.4.3.1).
func (k *Keys) Join(t *tree.Tree, committer, own wire.LeafIndex, pathSecret suite.Secret) (*Keys, error) {
	s := t.Suite()
	steps := t.FilteredPath(committer)
	for i, step := range steps {
		if tree.Contains(step.Copath, own) && pathSecret.Len() == s.HashSize() {
			publics := make([][]byte, 0, len(steps))
			for _, above := range steps[i:] {
				publics = append(publics, t.Key(above.Node))
			}
			keys, commit, err := k.climb(s, pathSecret.Clone(), steps[i:], publics)
			commit.Wipe()
			return keys, err
		}
	}
	return nil, ErrPath
}

// climb derives the key pairs of the steps from a path secret, which it takes
// over, and compares the public keys with those expected.
func (k *Keys) climb(s *suite.Suite, pathSecret suite.Secret, steps []tree.PathStep, publics [][]byte) (*Keys, suite.Secret, error) {
	path := ResumePath(s, pathSecret)
	next := k
	for i, step := range steps {
		public, private, err := path.Node()
		if err != nil || !bytes.Equal(public, publics[i]) {
			private.Wipe()
			path.Wipe()
			return nil, suite.Secret{}, ErrPath
		}
		next = next.With(step.Node, public, private)
	}
	return next, path.Commit(), nil
}

// AppendBinary appends the keys' state.
func (k *Keys) AppendBinary(b []byte) []byte {
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, n := range k.all() {
			b = append(b, byte(n.node>>24), byte(n.node>>16), byte(n.node>>8), byte(n.node))
			b = AppendSecret(b, n.private)
		}
		return b
	})
}

// ReadKeys reads what AppendBinary wrote, for the tree that the keys belong to;
// each private key must be that of its node.
func ReadKeys(r *codec.Reader, t *tree.Tree) *Keys {
	s, k := t.Suite(), &Keys{}
	sub := r.Sub(codec.MaxVector)
	for !sub.Empty() {
		x := tree.NodeIndex(sub.Uint32())
		private := suite.NewSecret(sub.Vector(codec.MaxVector))
		public, err := s.PublicKey(private)
		if sub.Err() == nil && (err != nil || !bytes.Equal(t.Key(x), public) || k.has(x)) {
			sub.Fail(codec.ErrMalformed)
		}
		k.nodes = append(k.nodes, nodeKey{x, public, private})
	}
	r.Join(sub)
	return k
}

func (k *Keys) has(x tree.NodeIndex) bool {
	for _, n := range k.nodes {
		if n.node == x {
			return true
		}
	}
	return false
}
