package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// CreateLink makes a link by which its holder can join a room until it expires.
// It is a secret: share it like a key (SPEC.md R-20).
func (c *Client) CreateLink(ctx context.Context, roomURI string, validity time.Duration) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return "", err
	}
	wrapper, err := primitive.ParseSecret(r.st.Wrapper)
	if err != nil {
		return "", err
	}
	link := &pseudonym.JoinLink{
		HubDomain: r.st.Hub, GroupID: r.st.GroupID, LinkID: [16]byte(random(16)), Seed: primitive.NewSecret(), WrapperKey: wrapper,
		Inviter: c.self, NotAfter: uint64(time.Now().Add(validity).Unix()),
	}
	err = c.update(ctx, r, func() (*plan, error) {
		policy, err := r.policy()
		if err != nil {
			return nil, err
		}
		now := uint64(time.Now().Unix())
		policy.Links = slices.DeleteFunc(policy.Links, func(l pseudonym.RoomLink) bool { return l.NotAfter < now })
		policy.Links = append(policy.Links, link.Room())
		slices.SortFunc(policy.Links, func(a, b pseudonym.RoomLink) int { return slices.Compare(a.ID[:], b.ID[:]) })
		change, err := r.policyChange(policy)
		if err != nil {
			return nil, err
		}
		return &plan{proposals: []*mls.ProposalBody{change}}, nil
	})
	if err != nil {
		return "", fmt.Errorf("making a link: %w", err)
	}
	return link.URI(), nil
}

// Join joins a room by a link (SPEC.md §21, A3) and returns its URI.
func (c *Client) Join(ctx context.Context, linkURI string) (string, error) {
	link, err := pseudonym.ParseJoinLink(linkURI)
	if err != nil {
		return "", fmt.Errorf("reading the link: %w", err)
	}
	if err := c.ready(ctx); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rooms[b64(link.GroupID)] != nil {
		return "", errors.New("client: already in this room")
	}
	r, err := c.enter(ctx, entry{
		hub: link.HubDomain, groupID: link.GroupID, code: link.Code(), wrapper: link.WrapperKey,
		trust: func(signer string, names map[uint32]string) bool {
			// SPEC.md R-27: the GroupInfo's signer is verified, and the inviter is in the room.
			for _, n := range names {
				if n == link.Inviter.String() {
					return true
				}
			}
			return false
		},
	})
	if err != nil {
		return "", fmt.Errorf("joining: %w", err)
	}
	return r.st.uri(), nil
}

// entry is a way into a room by external commit.
type entry struct {
	hub     string
	groupID []byte
	code    primitive.Secret
	wrapper primitive.Secret
	peer    string // of a connection room
	// trust decides, before anything is disclosed, by the verified user who signed
	// the GroupInfo and the users of all leaves (SPEC.md ).
	trust func(signer string, names map[uint32]string) bool
	// items are further items of the authenticated data, made for the joining leaf.
	items func(tbsHash [32]byte, epoch uint64) (pseudonym.AAD, error)
}

// enter joins a room by external commit (SPEC.md ). mu is held.
func (c *Client) enter(ctx context.Context, in entry) (*room, error) {
	err := c.do(ctx, call{to: hubOf(in.hub), method: seal.MethodLinkInfo, groupID: in.groupID, kind: seal.AuthNone, body: &hubv1.LinkInfoRequest{Code: in.code.Bytes()}}, new(hubv1.LinkInfoResponse))
	if err != nil {
		return nil, err
	}
	for range maxRaces {
		r, err := c.tryEnter(ctx, in)
		if errors.Is(err, mmrerr.WrongEpoch) {
			continue // somebody committed meanwhile: with the new epoch's GroupInfo again
		}
		return r, err
	}
	return nil, errors.New("client: others were always first; try again")
}

func (c *Client) tryEnter(ctx context.Context, in entry) (*room, error) {
	user, err := pseudonym.NewID(c.account.Domain, pseudonym.User)
	if err != nil {
		return nil, err
	}
	leaf, err := c.makeLeaf(ctx, Suite, user, nil)
	if err != nil {
		return nil, err
	}
	signer, err := newLeafSigner(Suite, leaf.signer)
	if err != nil {
		return nil, err
	}
	info := new(hubv1.GroupInfoResponse)
	err = c.do(ctx, call{to: hubOf(in.hub), method: seal.MethodGroupInfo, groupID: in.groupID, kind: seal.AuthNewLeaf, signer: signer, body: &hubv1.GroupInfoRequest{Code: in.code.Bytes()}}, info)
	if err != nil {
		return nil, err
	}
	if err := c.authenticateRoom(in, info); err != nil {
		return nil, err
	}
	m, err := mls.ParseMessage(info.GetGroupInfo(), nil)
	if err != nil {
		return nil, err
	}
	items := pseudonym.AAD{}
	own, err := pseudonym.AddAAD{pseudonym.WrapStatic(in.wrapper, in.groupID, leaf.tbs.Hash(), leaf.linkKey)}.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	items = append(items, pseudonym.AADItem{Type: pseudonym.AADAddAAD, Data: own})
	if in.items != nil {
		more, err := in.items(leaf.tbs.Hash(), m.GroupInfo.Context.Epoch)
		if err != nil {
			return nil, err
		}
		items = append(items, more...)
	}
	aad, err := items.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	g, staged, err := member.JoinExternal(leaf.identity, info.GetGroupInfo(), member.ExternalOptions{Options: memberOptions(), Tree: info.GetRatchetTree(), AAD: aad})
	if err != nil {
		return nil, err
	}
	return c.commitJoin(ctx, in, info, leaf, signer, g, staged)
}

// authenticateRoom checks a room before anything is disclosed to it: it is a
// room at this hub, and the member who signed the GroupInfo, all others, and
// the application's condition are what they should be.
func (c *Client) authenticateRoom(in entry, info *hubv1.GroupInfoResponse) error {
	o := memberOptions()
	g, err := mls.NewPublicGroup(info.GetGroupInfo(), info.GetRatchetTree(), &o.Options)
	if err != nil {
		return err
	}
	if string(g.GroupID()) != string(in.groupID) {
		return ErrUnverified
	}
	if _, _, err := c.checkRoom(in.hub, g); err != nil {
		return err
	}
	m, err := mls.ParseMessage(info.GetGroupInfo(), nil)
	if err != nil {
		return err
	}
	names := make(map[uint32]string)
	for _, e := range info.GetLinkEntries() {
		l := g.Leaf(mls.LeafIndex(e.GetLeafIndex()))
		if l == nil {
			continue
		}
		cred, err := credentialOf(l)
		if err != nil {
			continue
		}
		key, err := pseudonym.UnwrapStatic(in.wrapper, in.groupID, cred.Hash(), e.GetEntry())
		if err != nil {
			continue
		}
		if real, err := cred.Reveal(key, c.trust.Providers, time.Now()); err == nil {
			names[e.GetLeafIndex()] = real.User.String()
		}
	}
	signer, ok := names[uint32(m.GroupInfo.Signer)]
	if !ok || !in.trust(signer, names) {
		return ErrUnverified
	}
	return nil
}

// commitJoin stores the join, sends it, and adopts it when it was accepted.
func (c *Client) commitJoin(ctx context.Context, in entry, info *hubv1.GroupInfoResponse, leaf *newLeaf, signer leafSigner, g *member.Group, staged *member.Staged) (*room, error) {
	gi, err := staged.GroupInfo(member.GroupInfoOptions{WithoutTree: true})
	if err != nil {
		return nil, err
	}
	d := primitive.NewSecret()
	req := &hubv1.ExternalJoinRequest{Commit: staged.Commit(), GroupInfo: gi, DeliverySecret: d.Bytes(), Code: in.code.Bytes()}
	body, err := proto.Marshal(req)
	if err != nil {
		return nil, err
	}
	index := uint32(staged.OwnLeaf())
	r := &room{g: g, st: roomState{
		GroupID: in.groupID, Hub: in.hub, Suite: uint16(Suite), Peer: in.peer, Wrapper: slices.Clone(in.wrapper.Bytes()),
		Signers: map[string][]byte{b64(leaf.signer.Public()): leaf.signer.Private()}, Seen: make(map[uint32]string),
		LinkKeys: map[uint32][]byte{index: slices.Clone(leaf.linkKey.Bytes())}, Buffer: make(map[uint64][]byte), Sent: make(map[string]bool),
		Pending: &pendingState{Commit: staged.Commit(), Request: body, RequestID: random(16), D: slices.Clone(d.Bytes()), Join: true, LeafKey: leaf.signer.Public()},
	}}
	if err := c.write(r); err != nil {
		return nil, err
	}
	c.rooms[r.id()] = r
	entries := make(map[uint32][]byte)
	for _, e := range info.GetLinkEntries() {
		entries[e.GetLeafIndex()] = e.GetEntry()
	}
	err = c.sendJoin(ctx, r, signer, entries)
	if err != nil && refused(err) {
		b := make(batch)
		return nil, errors.Join(err, c.forgetRoom(r, b), c.store.Write(b))
	}
	return r, err
}

// sendJoin sends the stored external commit and enters the room when it was accepted.
func (c *Client) sendJoin(ctx context.Context, r *room, signer leafSigner, entries map[uint32][]byte) error {
	p := r.st.Pending
	req, res := new(hubv1.ExternalJoinRequest), new(hubv1.ExternalJoinResponse)
	if err := proto.Unmarshal(p.Request, req); err != nil {
		return err
	}
	err := c.do(ctx, call{
		to: hubOf(r.st.Hub), method: seal.MethodExternalJoin, groupID: r.st.GroupID, token: true, kind: seal.AuthNewLeaf, signer: signer,
		body: req, id: [16]byte(p.RequestID),
	}, res)
	if err != nil {
		return err
	}
	a := res.GetAccepted()
	if len(a.GetChain()) != 32 {
		return mmrerr.Malformed
	}
	if r.g, _, err = r.g.Confirm(); err != nil {
		return err
	}
	d, err := primitive.ParseSecret(p.D)
	if err != nil {
		return err
	}
	r.setK(seal.NewDeliveryKey(d, r.st.GroupID, r.g.Epoch(), p.LeafKey), time.Now())
	r.st.PrevK = nil
	r.st.Seq, r.st.Chain, r.st.Pending = a.GetSeq(), a.GetChain(), nil
	for i, e := range entries {
		if i != uint32(r.g.OwnLeaf()) {
			r.openEntry(i, e)
		}
	}
	b := make(batch)
	if err := r.save(b, true); err != nil {
		return err
	}
	if err := c.connected(r, b); err != nil {
		return err
	}
	c.unhold(ctx, b)
	return c.store.Write(b)
}
