package member

import (
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/group"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/tree"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// CreateOptions configures a new group.
type CreateOptions struct {
	Options
	Extensions []mls.Extension // of the GroupContext
	Lifetime   mls.Lifetime    // of the creator's first leaf, seconds of Unix time
}

// RandomGroupID returns 32 random bytes.
func RandomGroupID() []byte { return suite.RandomSecret(32).Bytes() }

// Create founds a group with one member in epoch 0 (RFC 9420 §11). Its secrets
// come from a random epoch_secret, so that nobody can derive them from what is
// published. The Group can be used at once: GroupInfo, Export, Stage.
func Create(id *Identity, groupID []byte, o CreateOptions) (*Group, error) {
	l := o.Limits.WithDefaults()
	s, err := checkIdentity(id, l)
	if err != nil {
		return nil, err
	}
	if o.Lifetime.NotBefore >= o.Lifetime.NotAfter {
		return nil, wire.Refuse(wire.RuleLifetime)
	}
	leaf := id.leaf()
	leaf.Source, leaf.Lifetime = wire.SourceKeyPackage, o.Lifetime
	var private suite.Secret
	if leaf.EncryptionKey, private, err = s.GenerateKeyPair(); err != nil {
		return nil, err
	}
	if leaf, err = sealLeaf(leaf, id.Signer, nil, 0, l); err != nil {
		return nil, err
	}
	state, err := group.Found(leaf, groupID, o.Extensions, id.Suite, &o.Options.Options)
	if err != nil {
		return nil, err
	}
	secrets := secret.RandomEpoch(s)
	// RFC 9420 §11: the tag is over the empty confirmed transcript hash.
	tag := s.MAC(secrets.Confirmation, state.Context().ConfirmedTranscriptHash)
	e := &epoch{
		pub:    state.Tagged(tag),
		signer: id.Signer,
		keys:   (*secret.Keys)(nil).With(tree.Leaf(wire.LeafIndex(0)), leaf.EncryptionKey, private),
	}
	e.begin(s, secrets, 1, l)
	return newGroup(&o.Options, e), nil
}
