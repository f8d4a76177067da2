package group

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Found returns the state of a group of one member in epoch 0 (RFC 9420 §11).
// The confirmation tag is the member's to compute from the context, with
// Tagged.
func Found(leaf *wire.LeafNode, groupID []byte, es []wire.Extension, id wire.CipherSuite, o *Options) (*State, error) {
	s := &State{suite: suite.Get(id)}
	if s.suite == nil {
		return nil, wire.RefuseAs(wire.RuleUnsupportedSuite, wire.ClassUnsupported)
	}
	var err error
	if s.rules, s.limits, err = o.prepare(); err != nil {
		return nil, err
	}
	s.tree = tree.New(s.suite, leaf, s.limits)
	c := (&wire.GroupContext{
		Suite: id, GroupID: bytes.Clone(groupID), TreeHash: s.tree.Hash(), Extensions: cloneExtensions(es),
	}).Seal()
	if len(groupID) > s.limits.GroupID {
		return nil, wire.RefuseAs(wire.RuleLimit, wire.ClassLimit)
	}
	if err := s.setContext(c); err != nil {
		return nil, err
	}
	for _, e := range s.senders {
		if err := s.rules.Credential(e.Credential, e.SignatureKey, PlaceNewExternalSender); err != nil {
			return nil, wire.RefusePolicy(wire.RuleCredential, err)
		}
	}
	if err := checkLeaf(s.suite, leaf, groupID, 0); err != nil {
		return nil, err
	}
	if err := credential(s.rules, leaf, PlaceOwn); err != nil {
		return nil, err
	}
	if err := s.checkFits(s.tree, []wire.LeafIndex{0}); err != nil {
		return nil, err
	}
	return s, nil
}

// Tagged returns a founded state with its confirmation tag.
func (s *State) Tagged(tag []byte) *State {
	n := *s
	n.tag = bytes.Clone(tag)
	n.interim = interimHash(&n)
	return &n
}

// FromGroupInfo returns the state that a GroupInfo describes, after every check
// of RFC 9420 §12.4.3 and §12.4.3.1 that takes no secret. treeBytes is the
// ratchet tree if the GroupInfo does not hold it, else nil or the same bytes.
// The GroupInfo is kept for external joiners if it has an external_pub.
func FromGroupInfo(g *wire.GroupInfo, treeBytes []byte, o *Options) (*State, error) {
	rules, limits, err := o.prepare()
	if err != nil {
		return nil, err
	}
	s := &State{suite: suite.Get(g.Context.Suite), rules: rules, limits: limits, tag: bytes.Clone(g.ConfirmationTag)}
	if s.suite == nil {
		return nil, wire.RefuseAs(wire.RuleUnsupportedSuite, wire.ClassUnsupported)
	}
	inside, ok := g.Extension(wire.ExtensionRatchetTree)
	switch {
	case ok && treeBytes != nil && !bytes.Equal(inside, treeBytes):
		return nil, wire.Refuse(wire.RuleTreeContradicted)
	case ok:
		treeBytes = inside
	case treeBytes == nil:
		return nil, wire.Refuse(wire.RuleTreeMissing)
	}
	if s.tree, err = tree.Parse(s.suite, treeBytes, limits); err != nil {
		return nil, err
	}
	if !bytes.Equal(s.tree.Hash(), g.Context.TreeHash) {
		return nil, wire.Refuse(wire.RuleTreeHash)
	}
	// Its own copy: the context outlives the GroupInfo.
	context, err := wire.ParseGroupContext(g.Context.Raw(), limits)
	if err != nil {
		return nil, err
	}
	if err := s.setContext(context); err != nil {
		return nil, err
	}
	s.interim = interimHash(s)
	if err := s.checkInfo(g); err != nil {
		return nil, err
	}
	if err := s.tree.Validate(); err != nil {
		return nil, err
	}
	if err := s.checkTreeLeaves(); err != nil {
		return nil, err
	}
	if _, err := s.externalPub(g); err == nil {
		s.info = g
	}
	return s, nil
}

// checkInfo checks the signer and the signature of a GroupInfo (§12.4.3).
func (s *State) checkInfo(g *wire.GroupInfo) error {
	if wire.DuplicateExtension(g.Extensions) {
		return wire.Refuse(wire.RuleDuplicateExtension)
	}
	signer := s.tree.Leaf(g.Signer)
	if signer == nil {
		return wire.Refuse(wire.RuleGroupInfoSigner)
	}
	if !s.suite.VerifyWithLabel(signer.SignatureKey, "GroupInfoTBS", g.TBS(), g.Signature) {
		return wire.Refuse(wire.RuleGroupInfoSignature)
	}
	return nil
}

// externalPub returns the external_pub of a GroupInfo.
func (s *State) externalPub(g *wire.GroupInfo) ([]byte, error) {
	if data, ok := g.Extension(wire.ExtensionExternalPub); ok {
		if key, err := wire.ParseExternalPub(data, s.limits); err == nil && s.suite.CheckPublicKey(key) == nil {
			return key, nil
		}
	}
	return nil, wire.Refuse(wire.RuleExternalPub)
}

// ExternalPub returns the public key for joining by external commit that a
// GroupInfo of this group announces.
func (s *State) ExternalPub(g *wire.GroupInfo) ([]byte, error) { return s.externalPub(g) }

// checkTreeLeaves validates every leaf of a tree that somebody sent (§7.3). It
// spreads the signatures over the processors.
func (s *State) checkTreeLeaves() error {
	for _, e := range s.senders {
		if err := s.rules.Credential(e.Credential, e.SignatureKey, PlaceTree); err != nil {
			return wire.RefusePolicy(wire.RuleCredential, err)
		}
	}
	type entry struct {
		i    wire.LeafIndex
		leaf *wire.LeafNode
	}
	var leaves []entry
	types := make(map[wire.CredentialType]bool)
	for i, leaf := range s.tree.Leaves() {
		leaves = append(leaves, entry{i, leaf})
		types[leaf.Credential.Type] = true
	}
	// RFC 9420 §7.3, §11.1, §13.4, asked once per distinct capabilities.
	var err error
	s.tree.EveryCapabilities(func(c *wire.Capabilities) bool {
		if !supports(c, s.context.Extensions, s.required) {
			err = wire.Refuse(wire.RuleLeafCapabilities)
			return false
		}
		for t := range types {
			if !c.SupportsCredential(t) {
				err = wire.Refuse(wire.RuleCredentialTypes)
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	var next atomic.Int64
	var failed atomic.Bool
	errs := make([]error, len(leaves))
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 1+len(leaves)/8) {
		workers.Go(func() {
			for !failed.Load() {
				k := int(next.Add(1)) - 1
				if k >= len(leaves) {
					return
				}
				e := leaves[k]
				if errs[k] = s.checkTreeLeaf(e.i, e.leaf); errs[k] != nil {
					failed.Store(true)
				}
			}
		})
	}
	workers.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *State) checkTreeLeaf(i wire.LeafIndex, leaf *wire.LeafNode) error {
	if err := checkLeaf(s.suite, leaf, s.context.GroupID, i); err != nil {
		return err
	}
	return credential(s.rules, leaf, PlaceTree)
}

// WithGroupInfo returns the state with a member's GroupInfo for external
// joiners. It must describe exactly this state: the same context bytes, the
// same confirmation tag, the same tree if it holds one, signed by a member,
// with an external_pub. Whether that key is right only members can tell.
func (s *State) WithGroupInfo(g *wire.GroupInfo) (*State, error) {
	if !bytes.Equal(g.Context.Raw(), s.context.Raw()) {
		return nil, wire.Refuse(wire.RuleGroupInfoContext)
	}
	if !bytes.Equal(g.ConfirmationTag, s.tag) {
		return nil, wire.Refuse(wire.RuleGroupInfoTag)
	}
	if err := s.checkInfo(g); err != nil {
		return nil, err
	}
	if _, err := s.externalPub(g); err != nil {
		return nil, err
	}
	if inside, ok := g.Extension(wire.ExtensionRatchetTree); ok && !bytes.Equal(inside, s.tree.AppendTo(nil)) {
		return nil, wire.Refuse(wire.RuleTreeHash)
	}
	n := *s
	n.info = g
	return &n, nil
}
