package member

import (
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// Signature labels of RFC 9420 §17.6.
const (
	labelLeaf       = "LeafNodeTBS"
	labelKeyPackage = "KeyPackageTBS"
	labelContent    = "FramedContentTBS"
	labelGroupInfo  = "GroupInfoTBS"
)

// Identity is what a client's new leaf is made of. The engine copies what it
// needs; every later leaf of the same member keeps credential, capabilities and
// extensions unless LeafOptions replace them.
type Identity struct {
	Suite        mls.CipherSuite
	Credential   mls.Credential
	Signer       Signer
	Capabilities mls.Capabilities // exactly as they will be in the leaf
	Extensions   []mls.Extension  // of the leaf
}

// DefaultCapabilities lists MLS 1.0, one suite, and basic and X.509
// credentials.
func DefaultCapabilities(s mls.CipherSuite) mls.Capabilities {
	return mls.Capabilities{
		Versions:    []mls.ProtocolVersion{mls.MLS10},
		Suites:      []mls.CipherSuite{s},
		Credentials: []mls.CredentialType{mls.CredentialBasic, mls.CredentialX509},
	}
}

// LeafOptions replaces parts of the own leaf in a commit or an Update. Fields
// that are nil keep what the leaf has.
type LeafOptions struct {
	Signer       Signer
	Credential   *mls.Credential
	Capabilities *mls.Capabilities
	Extensions   []mls.Extension // not nil and empty: no extensions
}

// leaf returns the identity's unsigned leaf without encryption key and source.
func (id *Identity) leaf() *wire.LeafNode {
	return &wire.LeafNode{
		SignatureKey: id.Signer.Public(),
		Credential:   id.Credential,
		Capabilities: id.Capabilities,
		Extensions:   id.Extensions,
	}
}

// successor returns the unsigned leaf that follows old, without encryption key
// and source, and its signer.
func successor(old *wire.LeafNode, signer Signer, o *LeafOptions) (*wire.LeafNode, Signer) {
	n := &wire.LeafNode{
		SignatureKey: old.SignatureKey,
		Credential:   old.Credential,
		Capabilities: old.Capabilities,
		Extensions:   old.Extensions,
	}
	if o == nil {
		return n, signer
	}
	if o.Signer != nil {
		signer = o.Signer
		n.SignatureKey = signer.Public()
	}
	if o.Credential != nil {
		n.Credential = *o.Credential
	}
	if o.Capabilities != nil {
		n.Capabilities = *o.Capabilities
	}
	if o.Extensions != nil {
		n.Extensions = o.Extensions
	}
	return n, signer
}

// sealLeaf signs a leaf and fixes its bytes. Group id and index count for
// sources update and commit (RFC 9420 §7.2). The result shares nothing with
// what the caller gave.
func sealLeaf(n *wire.LeafNode, signer Signer, groupID []byte, own wire.LeafIndex, l *wire.Limits) (*wire.LeafNode, error) {
	var err error
	if n.Signature, err = sign(signer, labelLeaf, n.TBS(groupID, own)); err != nil {
		return nil, err
	}
	return wire.ParseLeafNode(n.Seal().Raw(), l)
}

// checkIdentity refuses an identity that no group would take, before anything
// is signed (RFC 9420 §7.2, §7.3).
func checkIdentity(id *Identity, l *wire.Limits) (*suite.Suite, error) {
	s, err := suiteOf(id.Suite)
	if err != nil {
		return nil, err
	}
	c := id.Capabilities
	switch {
	case id.Signer == nil || s.CheckSignatureKey(id.Signer.Public()) != nil:
		return nil, wire.Refuse(wire.RuleLeafKey)
	case !slices.Contains(c.Versions, wire.MLS10) || !slices.Contains(c.Suites, id.Suite):
		return nil, wire.Refuse(wire.RuleLeafVersion)
	case !c.SupportsCredential(id.Credential.Type):
		return nil, wire.Refuse(wire.RuleCredentialTypes)
	case wire.DuplicateExtension(id.Extensions):
		return nil, wire.Refuse(wire.RuleDuplicateExtension)
	case len(id.Extensions) > l.Extensions:
		return nil, wire.RefuseAs(wire.RuleLimit, wire.ClassLimit)
	}
	for _, e := range id.Extensions {
		if !c.SupportsExtension(e.Type) {
			return nil, wire.Refuse(wire.RuleLeafExtensions)
		}
	}
	return s, nil
}
