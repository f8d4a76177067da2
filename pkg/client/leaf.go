package client

import (
	"context"
	"errors"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// newLeaf is a leaf in the making: a fresh pseudonym, key, address and
// delivery key, used in one room only (SPEC.md ).
type newLeaf struct {
	identity *member.Identity
	tbs      pseudonym.TBS
	signer   *member.SigningKey
	linkKey  primitive.Secret
	delivery *primitive.KEMPrivateKey
}

// makeLeaf makes a leaf for a user pseudonym. linkKey derives the link key of
// its credential from the TBS, or is nil for a random one (SPEC.md R-8).
func (c *Client) makeLeaf(ctx context.Context, suite mls.CipherSuite, user pseudonym.ID, linkKey func(pseudonym.TBS) primitive.Secret) (*newLeaf, error) {
	l := new(newLeaf)
	var err error
	if l.signer, err = member.GenerateSigner(suite); err != nil {
		return nil, err
	}
	id, err := pseudonym.NewID(c.account.Domain, pseudonym.Client)
	if err != nil {
		return nil, err
	}
	l.tbs = pseudonym.TBS{Client: id, User: user, Key: l.signer.Public()}
	l.linkKey = primitive.NewSecret()
	if linkKey != nil {
		l.linkKey = linkKey(l.tbs)
	}
	cred, err := pseudonym.NewCredential(l.tbs, l.linkKey, c.real)
	if err != nil {
		return nil, err
	}
	body, err := cred.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	ext, key, err := c.makeDelivery(ctx)
	if err != nil {
		return nil, err
	}
	l.delivery = key
	l.identity = identityOf(suite, body, l.signer, ext)
	return l, nil
}

// storedLeaf is a leaf in the making as it is stored.
type storedLeaf struct {
	Public, Signer, LinkKey []byte
	Credential, Delivery    []byte
}

func (l *newLeaf) stored() *storedLeaf {
	return &storedLeaf{
		Public: l.signer.Public(), Signer: l.signer.Private(), LinkKey: stored(l.linkKey),
		Credential: l.identity.Credential.Body, Delivery: l.identity.Extensions[0].Data,
	}
}

func (s *storedLeaf) leaf() (*newLeaf, error) {
	signer, err := member.NewSigner(Suite, s.Signer)
	if err != nil {
		return nil, err
	}
	link, err := secretOf(s.LinkKey)
	if err != nil {
		return nil, err
	}
	cred, err := pseudonym.ParseCredential(pseudonym.CredentialPseudonymous, s.Credential)
	if err != nil {
		return nil, err
	}
	return &newLeaf{tbs: cred.TBS, signer: signer, linkKey: link, identity: identityOf(Suite, s.Credential, signer, mls.Extension{Type: mls.ExtensionType(pseudonym.ExtensionDelivery), Data: s.Delivery})}, nil
}

func identityOf(suite mls.CipherSuite, credential []byte, signer *member.SigningKey, delivery mls.Extension) *member.Identity {
	return &member.Identity{
		Suite: suite, Credential: mls.CustomCredential(mls.CredentialType(pseudonym.CredentialPseudonymous), credential), Signer: signer,
		Capabilities: capabilities(suite), Extensions: []mls.Extension{delivery},
	}
}

// makeDelivery seals the mailbox freshly, with a new handle and delivery key.
func (c *Client) makeDelivery(ctx context.Context) (mls.Extension, *primitive.KEMPrivateKey, error) {
	keys, err := c.t.published(ctx, providerOf(c.account.Domain))
	if err != nil {
		return mls.Extension{}, nil, err
	}
	now := time.Now()
	best, ok := newest(keys.queue, now)
	if !ok {
		return mls.Extension{}, nil, errors.New("client: the provider publishes no queue key")
	}
	key, err := primitive.GenerateKEMKey(primitive.X25519)
	if err != nil {
		return mls.Extension{}, nil, err
	}
	q := seal.QueueConfig{NotAfterDay: seal.Day(time.Unix(int64(best.NotAfter), 0))}
	copy(q.QueueID[:], c.account.QueueID)
	if q.Handle, err = c.handle(key.Public()); err != nil {
		return mls.Extension{}, nil, err
	}
	d, err := seal.NewDelivery(best.Key, c.account.Domain, best.ID, q, key.Public())
	if err != nil {
		return mls.Extension{}, nil, err
	}
	data, err := d.AppendBinary(nil)
	return mls.Extension{Type: mls.ExtensionType(pseudonym.ExtensionDelivery), Data: data}, key, err
}

// handle is the name by which the relay can block one address of the mailbox
// (SPEC.md R-54): random to others, and found again from the leaf's delivery key.
func (c *Client) handle(delivery primitive.KEMPublicKey) ([16]byte, error) {
	key, err := secretOf(c.account.QueueKey)
	if err != nil {
		return [16]byte{}, err
	}
	return [16]byte(primitive.ExpandWithLabel(key, "mmr handle", delivery.Bytes(), 16)), nil
}

// newest returns the valid configuration that began last: everybody seals to the
// same one.
func newest(cs []seal.KeyConfig, now time.Time) (best seal.KeyConfig, ok bool) {
	for _, c := range cs {
		if c.ValidAt(now) && (!ok || c.NotBefore > best.NotBefore) {
			best, ok = c, true
		}
	}
	return best, ok
}

// capabilities are those of every pseudonymous leaf (SPEC.md R-134).
func capabilities(suite mls.CipherSuite) mls.Capabilities {
	u := pseudonym.UniformLeaf(uint16(suite))
	return mls.Capabilities{
		Versions: convert[mls.ProtocolVersion](u.Versions), Suites: convert[mls.CipherSuite](u.CipherSuites),
		Extensions: convert[mls.ExtensionType](u.Extensions), Credentials: convert[mls.CredentialType](u.Credentials),
	}
}

func convert[T ~uint16](xs []uint16) []T {
	out := make([]T, len(xs))
	for i, x := range xs {
		out[i] = T(x)
	}
	return out
}

func lifetime(now time.Time) mls.Lifetime {
	nb, na := pseudonym.Lifetime(now)
	return mls.Lifetime{NotBefore: nb, NotAfter: na}
}
