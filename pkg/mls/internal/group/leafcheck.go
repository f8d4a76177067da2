package group

import (
	"bytes"
	"slices"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// checkLeaf checks what a leaf says about itself (RFC 9420 §7.2, §7.3), not
// how it fits its group.
func checkLeaf(s *suite.Suite, leaf *wire.LeafNode, groupID []byte, i wire.LeafIndex) error {
	caps := &leaf.Capabilities
	// RFC 9420 §7.2: own version, suite and credential type are listed.
	if !slices.Contains(caps.Versions, wire.MLS10) || !slices.Contains(caps.Suites, s.ID()) {
		return wire.Refuse(wire.RuleLeafVersion)
	}
	if !caps.SupportsCredential(leaf.Credential.Type) {
		return wire.Refuse(wire.RuleCredentialTypes)
	}
	if wire.DuplicateExtension(leaf.Extensions) {
		return wire.Refuse(wire.RuleDuplicateExtension)
	}
	for _, e := range leaf.Extensions {
		if !caps.SupportsExtension(e.Type) {
			return wire.Refuse(wire.RuleLeafExtensions)
		}
	}
	if s.CheckSignatureKey(leaf.SignatureKey) != nil || s.CheckPublicKey(leaf.EncryptionKey) != nil {
		return wire.Refuse(wire.RuleLeafKey)
	}
	if !s.VerifyWithLabel(leaf.SignatureKey, "LeafNodeTBS", leaf.TBS(groupID, i), leaf.Signature) {
		return wire.Refuse(wire.RuleLeafSignature)
	}
	return nil
}

// credential asks the application about a leaf's credential.
func credential(r Rules, leaf *wire.LeafNode, at Place) error {
	if err := r.Credential(leaf.Credential, leaf.SignatureKey, at); err != nil {
		return wire.RefusePolicy(wire.RuleCredential, err)
	}
	return nil
}

// CheckKeyPackage checks a key package for a group of suite s (RFC 9420
// §10.1). now bounds its lifetime unless it is zero.
func CheckKeyPackage(s *suite.Suite, p *wire.KeyPackage, now time.Time, l *wire.Limits) error {
	if p.Version != wire.MLS10 || p.Suite != s.ID() {
		return wire.Refuse(wire.RuleKeyPackageSuite)
	}
	if p.Leaf.Source != wire.SourceKeyPackage {
		return wire.Refuse(wire.RuleLeafSource)
	}
	if err := checkLifetime(p.Leaf.Lifetime, now, l); err != nil {
		return err
	}
	if s.CheckPublicKey(p.InitKey) != nil || bytes.Equal(p.InitKey, p.Leaf.EncryptionKey) {
		return wire.Refuse(wire.RuleKeyPackageInitKey)
	}
	if wire.DuplicateExtension(p.Extensions) {
		return wire.Refuse(wire.RuleDuplicateExtension)
	}
	if err := checkLeaf(s, p.Leaf, nil, 0); err != nil {
		return err
	}
	if !s.VerifyWithLabel(p.Leaf.SignatureKey, "KeyPackageTBS", p.TBS(), p.Signature) {
		return wire.Refuse(wire.RuleKeyPackageSignature)
	}
	return nil
}

// checkLifetime checks that now is within the lifetime and that its span is
// acceptable (RFC 9420 §7.2); a zero now checks nothing.
func checkLifetime(v wire.Lifetime, now time.Time, l *wire.Limits) error {
	if now.IsZero() {
		return nil
	}
	t := uint64(max(now.Unix(), 0))
	if t < v.NotBefore || t > v.NotAfter {
		return wire.Refuse(wire.RuleLifetime)
	}
	if l.MaxLifetime >= 0 && v.NotAfter-v.NotBefore > uint64(l.MaxLifetime) {
		return wire.Refuse(wire.RuleLifetime)
	}
	return nil
}

// checkUpdateLeaf checks the leaf of an Update by member i (RFC 9420 §12.1.2).
func (s *State) checkUpdateLeaf(i wire.LeafIndex, leaf *wire.LeafNode) error {
	if leaf.Source != wire.SourceUpdate {
		return wire.Refuse(wire.RuleLeafSource)
	}
	if err := checkLeaf(s.suite, leaf, s.context.GroupID, i); err != nil {
		return err
	}
	return s.checkSuccessor(s.tree.Leaf(i), leaf, PlaceUpdate)
}

// checkSuccessor checks that a leaf may replace another one (RFC 9420 §7.3,
// §12.2).
func (s *State) checkSuccessor(old, next *wire.LeafNode, at Place) error {
	if bytes.Equal(old.EncryptionKey, next.EncryptionKey) {
		return wire.Refuse(wire.RuleLeafKeyReused)
	}
	if err := credential(s.rules, next, at); err != nil {
		return err
	}
	if err := s.rules.Successor(old, next); err != nil {
		return wire.RefusePolicy(wire.RuleSuccessor, err)
	}
	return nil
}

// supports reports whether capabilities satisfy the group's extensions and
// requirements (RFC 9420 §11.1, §13.4). No list of known types takes part.
func supports(c *wire.Capabilities, es []wire.Extension, required *wire.RequiredCapabilities) bool {
	for _, e := range es {
		if !c.SupportsExtension(e.Type) {
			return false
		}
	}
	return required == nil || c.Satisfies(required)
}

// checkFits checks that leaves which the tree holds fit the group: the group's
// parameters, the other members' credential types, and unique keys (RFC 9420
// §7.3).
func (s *State) checkFits(t *tree.Tree, leaves []wire.LeafIndex) error {
	types := make(map[wire.CredentialType]bool)
	for _, i := range leaves {
		leaf := t.Leaf(i)
		if !supports(&leaf.Capabilities, s.context.Extensions, s.required) {
			return wire.Refuse(wire.RuleLeafCapabilities)
		}
		if !t.SupportsCredentials(leaf) {
			return wire.Refuse(wire.RuleCredentialTypes)
		}
		// Asked once per type: a commit can bring many leaves.
		if c := leaf.Credential.Type; !types[c] {
			types[c] = true
			if !t.EveryCapabilities(func(caps *wire.Capabilities) bool { return caps.SupportsCredential(c) }) {
				return wire.Refuse(wire.RuleCredentialTypes)
			}
		}
		if t.EncryptionKeys(leaf.EncryptionKey) != 1 {
			return wire.Refuse(wire.RuleDuplicateEncryption)
		}
		if t.SignatureKeys(leaf.SignatureKey) != 1 {
			return wire.Refuse(wire.RuleDuplicateSignatureKey)
		}
	}
	return nil
}
