package client

import (
	"context"
	"slices"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// lastResortSets is how many last-resort sets each pool has (SPEC.md R-47).
const lastResortSets = 2

func secretOf(b []byte) (primitive.Secret, error) { return primitive.ParseSecret(b) }

// newConnection draws the keys of a connection and makes its pool (SPEC.md
// mu is held.
func (c *Client) newConnection(ctx context.Context, peer string) (*connectionState, batch, error) {
	upload, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		return nil, nil, err
	}
	s := &connectionState{
		Peer: peer, OwnKey: random(32), OwnToken: random(32), UploadKey: slices.Clone(upload.Raw().Bytes()), PoolSeed: random(32), Slots: map[string][]byte{c.account.Device: c.account.SlotID},
	}
	token, err := secretOf(s.OwnToken)
	if err != nil {
		return nil, nil, err
	}
	id := pseudonym.PoolID(token)
	err = c.do(ctx, call{
		to: providerOf(c.account.Domain), method: seal.MethodPoolCreate, token: true, kind: seal.AuthPool, signer: upload,
		body: &relayv1.PoolCreateRequest{PoolId: id[:], UploadKey: upload.Public().Bytes(), Slots: [][]byte{c.account.SlotID}},
	}, &relayv1.PoolCreateResponse{})
	if err != nil {
		return nil, nil, err
	}
	b := make(batch)
	return s, b, c.uploadSets(ctx, s, nil, c.opts.poolSets, lastResortSets, b)
}

// makeSet makes this device's KeyPackage of a set with that user pseudonym.
func (c *Client) makeSet(ctx context.Context, s *connectionState, user pseudonym.ID, lastResort bool, b batch) (*relayv1.PoolSet, error) {
	key, err := secretOf(s.OwnKey)
	if err != nil {
		return nil, err
	}
	leaf, err := c.makeLeaf(ctx, Suite, user, func(t pseudonym.TBS) primitive.Secret { return pseudonym.DeriveLinkKey(key, t) })
	if err != nil {
		return nil, err
	}
	o := member.KeyPackageOptions{Lifetime: lifetime(time.Now())}
	if lastResort {
		o.Extensions = []mls.Extension{{Type: mls.ExtensionType(pseudonym.ExtensionLastResort), Data: []byte{}}}
	}
	kp, err := member.NewKeyPackage(leaf.identity, o)
	if err != nil {
		return nil, err
	}
	raw, err := kp.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	p := &packageState{
		KeyPackage: raw, SignerKey: leaf.signer.Private(), DeliveryKey: slices.Clone(leaf.delivery.Raw().Bytes()),
		LinkKey: slices.Clone(leaf.linkKey.Bytes()), Peer: s.Peer, LastResort: lastResort, NotAfter: o.Lifetime.NotAfter,
	}
	ref := b64(kp.Ref())
	c.packages[ref] = p
	if err := b.put(recPackage+ref, p); err != nil {
		return nil, err
	}
	return &relayv1.PoolSet{
		UserPseudonym: user.String(), LastResort: lastResort,
		Packages: []*relayv1.PoolPackage{{Slot: c.account.SlotID, KeyPackage: kp.Message()}},
	}, nil
}

// key returns a package with its private keys.
func (p *packageState) key() (*member.KeyPackage, error) {
	signer, err := member.NewSigner(Suite, p.SignerKey)
	if err != nil {
		return nil, err
	}
	return member.ParseKeyPackage(p.KeyPackage, signer)
}

func (p *packageState) deliveryKey() (*primitive.KEMPrivateKey, error) {
	raw, err := secretOf(p.DeliveryKey)
	if err != nil {
		return nil, err
	}
	return primitive.ParseKEMKey(primitive.X25519, raw)
}

// spent removes a package that was used, or notes the use of a last-resort one.
func (c *Client) spent(ref string, b batch) error {
	p := c.packages[ref]
	if p == nil {
		return nil
	}
	p.Used++
	if p.LastResort {
		return b.put(recPackage+ref, p)
	}
	delete(c.packages, ref)
	b.del(recPackage + ref)
	return nil
}
