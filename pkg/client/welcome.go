package client

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// firstContact takes the first envelope of a room: it tries the delivery keys of
// the outstanding KeyPackages (SPEC.md R-72). What opens with none is dropped.
func (c *Client) firstContact(ctx context.Context, env []byte, b batch) error {
	for ref, p := range c.packages {
		key, err := p.deliveryKey()
		if err != nil {
			return err
		}
		rawRef, err := base64.RawURLEncoding.DecodeString(ref)
		if err != nil {
			return err
		}
		raw, err := seal.OpenFirst(key, rawRef, env)
		if err != nil {
			continue
		}
		e, err := seal.ParseEvent(raw)
		if err != nil {
			return nil //nolint:nilerr // dropped on purpose: it can never be read
		}
		w, ok := e.Body.(*seal.WelcomeEvent)
		if !ok {
			return nil
		}
		if r := c.rooms[b64(e.GroupID)]; r != nil {
			if out, err := c.outOf(ctx, r, e.Seq); !out || err != nil {
				return err
			}
		}
		return c.welcomed(ctx, ref, p, e, w, b)
	}
	return nil
}

// errStillIn reports a Welcome to a room that this client has not left yet, as far
// as it knows.
var errStillIn = errors.New("client: still in this room")

// outOf reports whether this client is out of a room into which it was welcomed by
// the event seq: who is removed and added again may be told the second before the
// first, since these come in lanes of their own (SPEC.md R-78). errStillIn means to
// ask again later. Who is in the room at seq was added a second time, and stays
// where it is.
//
// Where the removal does not come, the Welcome counts when the hub has not known
// the old leaf for long.
func (c *Client) outOf(ctx context.Context, r *room, seq uint64) (bool, error) {
	if seq <= r.st.Seq {
		return false, nil
	}
	err := c.catchUp(ctx, r)
	if c.rooms[r.id()] != r {
		return true, nil
	}
	if err == nil && seq <= r.st.Seq {
		return false, nil
	}
	if err == nil { // a room that is stuck, say, asks nothing
		_, err = c.readEvents(ctx, r)
	}
	if !r.st.Gone || r.st.Forked || !errors.Is(err, mmrerr.NoRoom) {
		return false, errors.Join(errStillIn, c.store.broken())
	}
	b := make(batch)
	if err := errors.Join(c.emit(b, Event{Kind: KindRemoved, Room: r.st.uri()}), c.forgetRoom(r, b)); err != nil {
		return false, err
	}
	return true, c.store.Write(b)
}

// welcomed joins a room by Welcome: tree and link entries from JoinState, all
// identities checked, the adder above all (SPEC.md ).
func (c *Client) welcomed(ctx context.Context, ref string, p *packageState, e *seal.Event, w *seal.WelcomeEvent, b batch) error {
	kp, err := p.key()
	if err != nil {
		return err
	}
	hub, err := c.hubOfWelcome(w.Welcome, kp, e.GroupID)
	if err != nil {
		c.opts.log.Warn("a Welcome that does not open, or names no hub, was dropped")
		return nil //nolint:nilerr // dropped on purpose: it can never be read
	}
	res, err := c.joinState(ctx, hub, kp, e, w.EARKey)
	if err != nil {
		if refused(err) {
			c.opts.log.Warn("a Welcome to a room that the hub does not show us was dropped")
			return nil
		}
		return err
	}
	g, info, err := member.Join(w.Welcome, func([]byte) *member.KeyPackage { return kp }, member.JoinOptions{Options: memberOptions(), Tree: res.GetRatchetTree()})
	if err != nil {
		c.opts.log.Warn("a Welcome was refused")
		return nil //nolint:nilerr // dropped on purpose: it can never be read
	}
	r := &room{g: g, st: roomState{
		GroupID: e.GroupID, Hub: hub, Suite: uint16(Suite), Signers: map[string][]byte{b64(kp.Public().Leaf.SignatureKey): p.SignerKey},
		LinkKeys: map[uint32][]byte{uint32(g.OwnLeaf()): p.LinkKey}, Seen: make(map[uint32]string),
		Buffer: make(map[uint64][]byte), Sent: make(map[string]bool), Seq: res.GetSeq(), Chain: res.GetChain(),
	}}
	policy, _, err := c.checkRoom(hub, g.Public())
	if err != nil || res.GetSeq() != e.Seq || string(res.GetChain()) != string(e.Chain[:]) {
		c.opts.log.Warn("a Welcome to something that is no room was dropped")
		return nil //nolint:nilerr // dropped on purpose: it can never be read
	}
	r.st.EAR = stored(w.EARKey)
	if err := r.learn(policy, info, res); err != nil {
		c.opts.log.Warn("a Welcome whose link keys do not open was dropped")
		return nil //nolint:nilerr // dropped on purpose: it can never be read
	}
	r.setK(seal.NewDeliveryKey(w.DeliverySecret, e.GroupID, g.Epoch(), kp.Public().Leaf.SignatureKey), time.Now())
	r.st.PrevK = nil
	if adder := r.names(c)[uint32(info.Signer)]; adder != p.Peer && policy.Requirement == pseudonym.RequireAll {
		// SPEC.md R-49: the pool belongs to another user than the one who used it.
		c.opts.log.Warn("a Welcome by somebody who has no connection was dropped")
		return nil
	}
	if err := c.spent(ref, b); err != nil {
		return err
	}
	c.rooms[r.id()] = r
	if err := errors.Join(r.save(b, true), c.meetAll(r, b), c.shareRoom(r, b)); err != nil {
		return err
	}
	err = c.emit(b, Event{Kind: KindJoined, Room: r.st.uri(), Seq: e.Seq, User: p.Peer, Accepted: time.UnixMilli(int64(e.AcceptedMS)).UTC()})
	if err != nil {
		return err
	}
	c.plan(r)
	c.unhold(ctx, r, b)
	return nil
}

// learn reads the link keys of the room a client was welcomed to (SPEC.md R-16,
//
func (r *room) learn(policy *pseudonym.Room, info *member.JoinInfo, res *hubv1.JoinStateResponse) error {
	switch {
	case policy.Requirement == pseudonym.RequireNone:
		return nil
	case policy.Scheme == pseudonym.SchemeTree:
		return r.readState(res.GetWrapState())
	}
	data, _ := mls.FindExtension(info.Extensions, mls.ExtensionType(pseudonym.ExtensionIdentityLinkWrapper))
	wrapper, err := pseudonym.ParseWrapperKey(data)
	if err != nil {
		return err
	}
	r.st.Wrapper = stored(wrapper)
	for _, entry := range res.GetLinkEntries() {
		if entry.GetLeafIndex() != uint32(r.g.OwnLeaf()) {
			r.openEntry(entry.GetLeafIndex(), entry.GetEntry())
		}
	}
	return nil
}

// hubOfWelcome reads from a Welcome at which hub its room is: the domain of the
// external sender's certificate, which checkRoom verifies later.
func (c *Client) hubOfWelcome(welcome []byte, kp *member.KeyPackage, groupID []byte) (string, error) {
	ctx, err := member.Peek(welcome, func([]byte) *member.KeyPackage { return kp }, memberOptions())
	if err != nil {
		return "", err
	}
	data, _ := ctx.Extension(mls.ExtensionExternalSenders)
	senders, err := mls.ParseExternalSenders(data, nil)
	if err != nil || len(senders) == 0 || len(senders[0].Credential.Certificates) == 0 || string(ctx.GroupID) != string(groupID) {
		return "", ErrUnverified
	}
	cert, err := x509.ParseCertificate(senders[0].Credential.Certificates[0])
	if err != nil || len(cert.DNSNames) != 1 {
		return "", ErrUnverified
	}
	return cert.DNSNames[0], nil
}

// joinState asks for the snapshot of the epoch a client was welcomed into
// (SPEC.md R-105).
func (c *Client) joinState(ctx context.Context, hub string, kp *member.KeyPackage, e *seal.Event, ear primitive.Secret) (*hubv1.JoinStateResponse, error) {
	ls, err := newLeafSigner(Suite, kp.Signer())
	if err != nil {
		return nil, err
	}
	res := new(hubv1.JoinStateResponse)
	return res, c.do(ctx, call{
		to: hubOf(hub), method: seal.MethodJoinState, groupID: e.GroupID, ear: ear, kind: seal.AuthNewLeaf, signer: ls,
		body: &hubv1.JoinStateRequest{Epoch: e.Epoch, SignatureKey: ls.public.Bytes()},
	}, res)
}
