package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// CreateRoom makes a room at a hub and returns its URI. Its members are added
// with Add, or join by a link made with CreateLink.
func (c *Client) CreateRoom(ctx context.Context, hub string, opts ...RoomOption) (string, error) {
	if err := c.ready(ctx); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.create(ctx, hub, "", func(p *pseudonym.Room, _ []byte) {
		p.JoinRule = pseudonym.JoinByLink
		for _, o := range opts {
			o.shape(p)
		}
	})
	if err != nil {
		return "", fmt.Errorf("creating a room: %w", err)
	}
	return r.st.uri(), nil
}

// create makes a room whose policy shape completes (SPEC.md §21, A1); peer is
// the user of a connection room.
func (c *Client) create(ctx context.Context, hub, peer string, shape func(p *pseudonym.Room, groupID []byte)) (*room, error) {
	senders, err := c.hubIdentity(ctx, hub)
	if err != nil {
		return nil, err
	}
	user, err := pseudonym.NewID(c.account.Domain, pseudonym.User)
	if err != nil {
		return nil, err
	}
	leaf, err := c.makeLeaf(ctx, Suite, user, nil)
	if err != nil {
		return nil, err
	}
	groupID := member.RandomGroupID()
	policy := &pseudonym.Room{
		Requirement: pseudonym.RequireAll, Scheme: pseudonym.SchemeTree, EAR: true, DefaultRole: pseudonym.Member,
		Roles: []pseudonym.RoleEntry{{User: user, Role: pseudonym.Admin}}, Limits: pseudonym.DefaultLimits(),
	}
	shape(policy, groupID)
	extensions, err := groupExtensions(policy, senders)
	if err != nil {
		return nil, err
	}
	g, err := member.Create(leaf.identity, groupID, member.CreateOptions{Options: memberOptions(), Extensions: extensions, Lifetime: lifetime(time.Now())})
	if err != nil {
		return nil, err
	}
	d := primitive.NewSecret()
	r := &room{g: g, st: roomState{
		GroupID: groupID, Hub: hub, Peer: peer, Suite: uint16(Suite),
		Signers:  map[string][]byte{b64(leaf.signer.Public()): leaf.signer.Private()},
		LinkKeys: map[uint32][]byte{0: stored(leaf.linkKey)}, Seen: make(map[uint32]string),
		Buffer: make(map[uint64][]byte), Sent: make(map[string]bool),
	}}
	signer, err := newLeafSigner(Suite, leaf.signer)
	if err != nil {
		return nil, err
	}
	req := &hubv1.CreateRoomRequest{DeliverySecret: d.Bytes()}
	if err := r.found(policy, leaf, req); err != nil {
		return nil, err
	}
	var res hubv1.CreateRoomResponse
	err = c.do(ctx, call{
		to: hubOf(hub), method: seal.MethodCreateRoom, groupID: groupID, ear: r.earKey(), token: true, kind: seal.AuthNewLeaf, signer: signer, body: req,
	}, &res)
	if err != nil {
		return nil, err
	}
	start := seal.ChainStart(groupID)
	a := res.GetAccepted()
	if string(a.GetChain()) != string(start[:]) || a.GetEpoch() != 0 || a.GetSeq() != 0 {
		return nil, mmrerr.Malformed
	}
	receipt := seal.Accepted{GroupID: groupID, Chain: start, AcceptedMS: a.GetAcceptedMs()}
	if key, err := c.hubKey(hub, g.Public()); err != nil || receipt.Verify(key, a.GetReceipt()) != nil {
		return nil, ErrUnverified
	}
	r.st.Chain = start[:]
	r.setK(seal.NewDeliveryKey(d, groupID, 0, leaf.signer.Public()), time.Now())
	r.st.PrevK = nil
	b := make(batch)
	if err := errors.Join(r.save(b, true), c.shareRoom(r, b)); err != nil {
		return nil, err
	}
	if err := c.store.Write(b); err != nil {
		return nil, err
	}
	c.rooms[r.id()] = r
	return r, nil
}

// found completes the creation with what the room's scheme needs: the creator's
// static entry, or the first state of the link key tree (SPEC.md R-120).
func (r *room) found(policy *pseudonym.Room, leaf *newLeaf, req *hubv1.CreateRoomRequest) error {
	o := member.GroupInfoOptions{}
	switch {
	case policy.Requirement == pseudonym.RequireNone:
	case policy.Scheme == pseudonym.SchemeStatic:
		wrapper := primitive.NewSecret()
		r.st.Wrapper = stored(wrapper)
		req.LinkEntry = pseudonym.WrapStatic(wrapper, r.st.GroupID, leaf.tbs.Hash(), leaf.linkKey)
	default:
		d, v, err := writeDelta(treewrap.New(r.st.GroupID), wrapWrite{
			keys: r.g, tree: r.g.Public(), known: map[uint32]primitive.Secret{0: leaf.linkKey},
		})
		if err != nil {
			return err
		}
		ext, _, err := deltaExtension(d)
		if err != nil {
			return err
		}
		if err := r.setView(v); err != nil {
			return err
		}
		o.Extensions = []mls.Extension{ext}
	}
	if policy.EAR {
		k, err := exportSecret(r.g, seal.LabelEAR)
		if err != nil {
			return err
		}
		r.st.EAR = stored(k)
	}
	var err error
	req.GroupInfo, err = r.g.GroupInfo(o)
	return err
}

// hubIdentity returns the external_senders extension that names the hub, from
// its verified certificates.
func (c *Client) hubIdentity(ctx context.Context, hub string) (mls.Extension, error) {
	k, err := c.t.published(ctx, hubOf(hub))
	if err != nil {
		return mls.Extension{}, err
	}
	return mls.ExternalSendersExtension(mls.ExternalSender{
		SignatureKey: k.identity.Bytes(), Credential: mls.X509Credential(k.raw.GetCertificates()...),
	}), nil
}

// groupExtensions are the three extensions of a room's GroupContext (SPEC.md §4.1).
func groupExtensions(policy *pseudonym.Room, senders mls.Extension) ([]mls.Extension, error) {
	data, err := policy.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	required := mls.RequiredCapabilities{
		Extensions:  convert[mls.ExtensionType](pseudonym.RequiredExtensions()),
		Credentials: []mls.CredentialType{mls.CredentialType(pseudonym.CredentialPseudonymous)},
	}
	return []mls.Extension{required.Extension(), senders, {Type: mls.ExtensionType(pseudonym.ExtensionRoom), Data: data}}, nil
}

// checkRoom refuses a group that is not a room of this profile at the hub it
// claims: there is no fallback to identifying credentials (SPEC.md §8). It
// returns the hub's key for receipts.
func (c *Client) checkRoom(hub string, g *mls.PublicGroup) (*pseudonym.Room, primitive.PublicKey, error) {
	data, ok := g.Extension(mls.ExtensionType(pseudonym.ExtensionRoom))
	if !ok {
		return nil, primitive.PublicKey{}, ErrUnverified
	}
	policy, err := pseudonym.ParseRoom(data)
	if err != nil {
		return nil, primitive.PublicKey{}, err
	}
	key, err := c.hubKey(hub, g)
	return policy, key, err
}

// hubKey returns the key of the room's external sender 0, which must be a valid
// identity of the hub now: for a room that is created or joined.
func (c *Client) hubKey(hub string, g *mls.PublicGroup) (primitive.PublicKey, error) {
	data, _ := g.Extension(mls.ExtensionExternalSenders)
	senders, err := mls.ParseExternalSenders(data, nil)
	if err != nil || len(senders) == 0 {
		return primitive.PublicKey{}, ErrUnverified
	}
	key, err := pseudonym.VerifyService(senders[0].Credential.Certificates, hub, c.trust.Operators, time.Now())
	if err != nil || string(key.Bytes()) != string(senders[0].SignatureKey) {
		return primitive.PublicKey{}, ErrUnverified
	}
	return key, nil
}

// hub returns the key of the room's external sender 0. It was the hub's when this
// client came to the room, and a room keeps it (SPEC.md R-111): that the hub's
// certificate has expired since is no fork.
func (r *room) hub() (primitive.PublicKey, error) {
	data, _ := r.g.Public().Extension(mls.ExtensionExternalSenders)
	senders, err := mls.ParseExternalSenders(data, nil)
	if err != nil || len(senders) == 0 {
		return primitive.PublicKey{}, ErrUnverified
	}
	alg, ok := primitive.SuiteAlgorithm(r.st.Suite)
	if !ok {
		return primitive.PublicKey{}, mmrerr.WireFormat
	}
	return primitive.ParsePublicKey(alg, senders[0].SignatureKey)
}
