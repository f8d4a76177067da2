package member

import (
	"bytes"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// KeyPackageOptions is what a key package has beside the identity.
type KeyPackageOptions struct {
	Extensions []mls.Extension // of the key package, not of the leaf
	Lifetime   mls.Lifetime    // seconds of Unix time
}

// KeyPackage is a key package of our own with its private keys: what is needed
// to be added to one group (RFC 9420 §10). Once a Join with it was stored, Wipe
// it, unless it is a last resort.
type KeyPackage struct {
	suite  *suite.Suite
	public *wire.KeyPackage
	init   suite.Secret
	leaf   suite.Secret
	signer Signer
}

// NewKeyPackage makes a key package with fresh keys.
func NewKeyPackage(id *Identity, o KeyPackageOptions) (*KeyPackage, error) {
	l := (*wire.Limits)(nil).WithDefaults()
	s, err := checkIdentity(id, l)
	if err != nil {
		return nil, err
	}
	if o.Lifetime.NotBefore >= o.Lifetime.NotAfter {
		return nil, wire.Refuse(wire.RuleLifetime)
	}
	if wire.DuplicateExtension(o.Extensions) {
		return nil, wire.Refuse(wire.RuleDuplicateExtension)
	}
	k := &KeyPackage{suite: s, signer: id.Signer}
	leaf := id.leaf()
	leaf.Source, leaf.Lifetime = wire.SourceKeyPackage, o.Lifetime
	if leaf.EncryptionKey, k.leaf, err = s.GenerateKeyPair(); err != nil {
		return nil, err
	}
	if leaf, err = sealLeaf(leaf, id.Signer, nil, 0, l); err != nil {
		return nil, err
	}
	p := &wire.KeyPackage{Version: wire.MLS10, Suite: s.ID(), Leaf: leaf, Extensions: o.Extensions}
	if p.InitKey, k.init, err = s.GenerateKeyPair(); err != nil {
		return nil, err
	}
	if p.Signature, err = sign(id.Signer, labelKeyPackage, p.TBS()); err != nil {
		return nil, err
	}
	if k.public, err = wire.ParseKeyPackage(p.Seal().Raw(), l); err != nil {
		return nil, err
	}
	return k, nil
}

// ImportKeyPackage puts a key package, as an MLSMessage, together with private
// keys that were made elsewhere. The keys must belong to it.
func ImportKeyPackage(message, initPrivate, leafPrivate []byte, signer Signer) (*KeyPackage, error) {
	m, err := wire.ParseMessage(message, nil)
	if err != nil {
		return nil, err
	}
	if m.KeyPackage == nil {
		return nil, wire.RefuseAs(wire.RuleWireFormat, wire.ClassDecode)
	}
	return assemble(m.KeyPackage, initPrivate, leafPrivate, signer)
}

func assemble(p *wire.KeyPackage, initPrivate, leafPrivate []byte, signer Signer) (*KeyPackage, error) {
	s, err := suiteOf(p.Suite)
	if err != nil {
		return nil, err
	}
	k := &KeyPackage{suite: s, public: p, signer: signer}
	if k.init, err = importFor(s, initPrivate, p.InitKey); err != nil {
		return nil, err
	}
	if k.leaf, err = importFor(s, leafPrivate, p.Leaf.EncryptionKey); err != nil {
		return nil, err
	}
	if signer == nil || !bytes.Equal(signer.Public(), p.Leaf.SignatureKey) {
		return nil, wire.Refuse(wire.RuleLeafKey)
	}
	return k, nil
}

// importFor imports a private key and requires that it belongs to public.
func importFor(s *suite.Suite, private, public []byte) (suite.Secret, error) {
	key, err := s.ImportPrivateKey(private)
	if err != nil {
		return suite.Secret{}, wire.Refuse(wire.RuleLeafKey)
	}
	if got, err := s.PublicKey(key); err != nil || !bytes.Equal(got, public) {
		return suite.Secret{}, wire.Refuse(wire.RuleLeafKey)
	}
	return key, nil
}

// Message returns the MLSMessage to publish.
func (k *KeyPackage) Message() []byte { return k.public.Message() }

// Raw returns a copy of the KeyPackage structure without the MLSMessage.
func (k *KeyPackage) Raw() []byte { return bytes.Clone(k.public.Raw()) }

// Ref returns the KeyPackageRef, by which a Welcome names the key package (RFC
// 9420 §5.2).
func (k *KeyPackage) Ref() []byte { return k.suite.KeyPackageRef(k.public.Raw()) }

// Public returns the public part; it must not be modified.
func (k *KeyPackage) Public() *mls.KeyPackage { return k.public }

// Wipe clears the private keys. The signer's key is not touched.
func (k *KeyPackage) Wipe() {
	k.init.Wipe()
	k.leaf.Wipe()
}

// keyPackageMagic starts a saved key package: "MLSK", format version 1.
var keyPackageMagic = []byte("MLSK\x00\x01")

// AppendBinary appends the key package with its private keys, but without the
// signer's. The caller encrypts it.
func (k *KeyPackage) AppendBinary(b []byte) ([]byte, error) {
	if !k.init.IsSet() {
		return nil, ErrWiped
	}
	b = append(b, keyPackageMagic...)
	b = codec.AppendVector(b, k.public.Raw())
	b = codec.AppendVector(b, k.init.Bytes())
	return codec.AppendVector(b, k.leaf.Bytes()), nil
}

// ParseKeyPackage reads what AppendBinary wrote. The signer must be the one
// whose key is in the leaf.
func ParseKeyPackage(b []byte, signer Signer) (*KeyPackage, error) {
	r := codec.NewReader(b)
	magic := r.Bytes(len(keyPackageMagic))
	raw, initPrivate, leafPrivate := r.Vector(codec.MaxVector), r.Vector(codec.MaxVector), r.Vector(codec.MaxVector)
	if r.Done() != nil || !bytes.Equal(magic, keyPackageMagic) {
		return nil, wire.RefuseAs(wire.RuleState, wire.ClassDecode)
	}
	p, err := wire.ParseKeyPackage(raw, (*wire.Limits)(nil).WithDefaults())
	if err != nil {
		return nil, err
	}
	return assemble(p, initPrivate, leafPrivate, signer)
}
