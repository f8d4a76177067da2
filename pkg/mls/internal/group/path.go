package group

import (
	"bytes"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// mergePath checks the path against the tree that the proposals left and
// merges it (RFC 9420 §12.4.2, §7.5).
func (p *Provisional) mergePath() error {
	if p.Path == nil {
		// RFC 9420 §12.4: these commits must have a path.
		if p.PathRequired {
			return wire.Refuse(wire.RulePathRequired)
		}
		return nil
	}
	if err := p.checkPathLeaf(); err != nil {
		return err
	}
	p.Steps = p.Tree.FilteredPath(p.Committer)
	if len(p.Steps) != len(p.Path.Nodes) {
		return wire.Refuse(wire.RulePathShape)
	}
	for k, n := range p.Path.Nodes {
		// RFC 9420 §7.6: nothing is encrypted to leaves added now.
		if len(n.Secrets) != p.Tree.ResolutionSize(p.Steps[k].Copath, p.Added) {
			return wire.Refuse(wire.RulePathShape)
		}
	}
	keys, err := p.pathKeys()
	if err != nil {
		return err
	}
	nodes, leafHash := p.Tree.PathNodes(p.Steps, keys)
	// RFC 9420 §7.9.2: the leaf's parent hash is the recomputed one.
	if !bytes.Equal(leafHash, p.Path.Leaf.ParentHash) {
		return wire.Refuse(wire.RulePathParentHash)
	}
	p.NewTree = p.Tree.Merge(p.Committer, p.Path.Leaf.Clone(), p.Steps, nodes)
	return nil
}

// checkPathLeaf checks the committer's new leaf by itself and against the one
// it replaces.
func (p *Provisional) checkPathLeaf() error {
	s, leaf := p.Old, p.Path.Leaf
	if leaf.Source != wire.SourceCommit {
		return wire.Refuse(wire.RuleLeafSource)
	}
	if err := checkLeaf(s.suite, leaf, s.context.GroupID, p.Committer); err != nil {
		return err
	}
	if !p.External {
		return s.checkSuccessor(s.tree.Leaf(p.Committer), leaf, PlaceCommit)
	}
	removed := make(map[wire.LeafIndex]bool)
	if len(p.Removed) == 1 {
		// RFC 9420 §12.2: the removed leaf is the joiner's own former one.
		removed[p.Removed[0]] = true
		if err := s.checkSuccessor(s.tree.Leaf(p.Removed[0]), leaf, PlaceCommit); err != nil {
			return err
		}
	} else if err := credential(s.rules, leaf, PlaceCommit); err != nil {
		return err
	}
	return s.checkAbsent([]*wire.LeafNode{leaf}, removed)
}

// pathKeys returns the public keys of the path's nodes, each valid, new to the
// tree, those to be replaced included, and used once (RFC 9420 §12.4.2).
func (p *Provisional) pathKeys() ([][]byte, error) {
	fresh := map[string]bool{string(p.Path.Leaf.EncryptionKey): true}
	if p.Tree.EncryptionKeys(p.Path.Leaf.EncryptionKey) != 0 {
		return nil, wire.Refuse(wire.RulePathKey)
	}
	keys := make([][]byte, len(p.Path.Nodes))
	for k, n := range p.Path.Nodes {
		key := n.EncryptionKey
		if fresh[string(key)] || p.Tree.EncryptionKeys(key) != 0 || p.Old.suite.CheckPublicKey(key) != nil {
			return nil, wire.Refuse(wire.RulePathKey)
		}
		fresh[string(key)] = true
		keys[k] = bytes.Clone(key)
	}
	return keys, nil
}

// checkLeaves checks that the tree after the commit is valid (RFC 9420 §12.2).
// What the commit did not bring was valid before; only new leaves, and with
// new extensions everybody, need to be looked at.
func (p *Provisional) checkLeaves() error {
	next := p.next
	// RFC 9420 §12.1.7: all members of the new epoch support new extensions.
	if p.newExtensions && !p.NewTree.EveryCapabilities(func(c *wire.Capabilities) bool {
		return supports(c, p.Extensions, next.required)
	}) {
		return wire.Refuse(wire.RuleExtensionsSupport)
	}
	fresh := slices.Concat(p.Updated, p.Added)
	if p.Path != nil {
		fresh = append(fresh, p.Committer)
	}
	return next.checkFits(p.NewTree, fresh)
}
