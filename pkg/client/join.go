package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
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
	link := &pseudonym.JoinLink{
		HubDomain: r.st.Hub, GroupID: r.st.GroupID, LinkID: [16]byte(random(16)), Seed: primitive.NewSecret(),
		Inviter: c.self, NotAfter: uint64(time.Now().Add(validity).Unix()),
	}
	if len(r.st.Wrapper) > 0 {
		if link.WrapperKey, err = primitive.ParseSecret(r.st.Wrapper); err != nil {
			return "", err
		}
	}
	err = c.changePolicy(ctx, r, func(policy *pseudonym.Room) error {
		if err := c.readWrap(ctx, r); err != nil { // the link carries its key (SPEC.md R-96)
			return unread(err)
		}
		now := uint64(time.Now().Unix())
		policy.Links = slices.DeleteFunc(policy.Links, func(l pseudonym.RoomLink) bool { return l.NotAfter < now })
		policy.Links = append(policy.Links, link.Room())
		return nil
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
		hub: link.HubDomain, groupID: link.GroupID, linkID: link.LinkID, seed: link.Seed, wrapper: link.WrapperKey,
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
	linkID  [16]byte
	seed    primitive.Secret // link_seed
	wrapper primitive.Secret // static scheme
	peer    string           // of a connection room
	device  bool             // the room of this user's devices
	sibling bool             // by sibling proof
	// trust decides, before anything is disclosed, by the verified user who signed
	// the GroupInfo and the users of all leaves (SPEC.md ).
	trust func(signer string, names map[uint32]string) bool
	// items are further items of the authenticated data, made for the joining leaf.
	items func(tbsHash [32]byte, epoch uint64) (pseudonym.AAD, error)
}

// code is the join code of a link, nil for who joins by a sibling proof.
func (in *entry) code() []byte {
	if !in.seed.Present() {
		return nil
	}
	return pseudonym.JoinCode(in.seed, in.groupID).Bytes()
}

func (in *entry) key() *primitive.KEMPrivateKey { return pseudonym.JoinKey(in.seed, in.groupID) }

// enter joins a room by external commit (SPEC.md ). mu is held.
func (c *Client) enter(ctx context.Context, in entry) (*room, error) {
	ear, err := c.linkInfo(ctx, in)
	if err != nil {
		return nil, err
	}
	for range maxRaces {
		r, err := c.tryEnter(ctx, in, ear)
		switch {
		case errors.Is(err, mmrerr.WrongEpoch), errors.Is(err, mmrerr.WrapStale):
			continue // somebody committed meanwhile: with the new epoch's GroupInfo again
		case errors.Is(err, mmrerr.NoRoom) && ear.Present():
			next, linkErr := c.linkInfo(ctx, in) // perhaps the key was rotated meanwhile
			if linkErr != nil || next.Equal(ear) {
				return nil, err
			}
			ear = next
			continue
		}
		return r, err
	}
	return nil, errors.New("client: others were always first; try again")
}

// linkInfo asks for the key at rest of a link's room (SPEC.md R-125); absent
// where the hub has a key of its own.
func (c *Client) linkInfo(ctx context.Context, in entry) (primitive.Secret, error) {
	var res hubv1.LinkInfoResponse
	err := c.do(ctx, call{to: hubOf(in.hub), method: seal.MethodLinkInfo, groupID: in.groupID, kind: seal.AuthNone, body: &hubv1.LinkInfoRequest{Code: in.code()}}, &res)
	if err != nil || len(res.GetLinkBox()) == 0 {
		return primitive.Secret{}, err
	}
	k, err := seal.OpenLink(in.key(), in.groupID, res.GetLinkBox())
	return k.Secret(), err
}

func (c *Client) tryEnter(ctx context.Context, in entry, ear primitive.Secret) (*room, error) {
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
	err = c.do(ctx, call{to: hubOf(in.hub), method: seal.MethodGroupInfo, groupID: in.groupID, ear: ear, kind: seal.AuthNewLeaf, signer: signer, body: &hubv1.GroupInfoRequest{Code: in.code()}}, info)
	if err != nil {
		return nil, err
	}
	found, err := c.authenticateRoom(in, info)
	if err != nil {
		return nil, err
	}
	items := pseudonym.AAD{}
	if found.policy.Scheme == pseudonym.SchemeStatic {
		entry := pseudonym.AddAAD{nil}
		if found.policy.KeyRule(found.policy.DefaultRole) != pseudonym.KeyForbidden {
			entry[0] = pseudonym.WrapStatic(in.wrapper, in.groupID, leaf.tbs.Hash(), leaf.linkKey)
		}
		own, err := entry.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		items = append(items, pseudonym.AADItem{Type: pseudonym.AADAddAAD, Data: own})
	}
	if in.items != nil {
		more, err := in.items(leaf.tbs.Hash(), found.epoch)
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
	r := newRoom(in, ear, leaf, g, staged)
	return r, c.commitJoin(ctx, r, in, info, found, signer, staged)
}

// newRoom is the room of an external commit that was not sent yet.
func newRoom(in entry, ear primitive.Secret, leaf *newLeaf, g *member.Group, staged *member.Staged) *room {
	return &room{g: g, st: roomState{
		GroupID: in.groupID, Hub: in.hub, Suite: uint16(Suite), Peer: in.peer, Device: in.device, Wrapper: stored(in.wrapper), EAR: stored(ear),
		Signers: map[string][]byte{b64(leaf.signer.Public()): leaf.signer.Private()}, Seen: make(map[uint32]string),
		LinkKeys: map[uint32][]byte{uint32(staged.OwnLeaf()): stored(leaf.linkKey)}, Buffer: make(map[uint64][]byte), Sent: make(map[string]bool),
		Pending: &pendingState{Commit: staged.Commit(), RequestID: random(16), D: random(32), Join: true, Sibling: in.sibling, LeafKey: leaf.signer.Public()},
	}}
}

// foundRoom is a room that passed authentication and is not joined yet.
type foundRoom struct {
	policy *pseudonym.Room
	epoch  uint64
	view   *treewrap.View // of its link key tree
}

// authenticateRoom checks a room before anything is disclosed to it: it is a
// room at this hub, and the member who signed the GroupInfo, all others, and
// the application's condition are what they should be.
func (c *Client) authenticateRoom(in entry, info *hubv1.GroupInfoResponse) (*foundRoom, error) {
	o := memberOptions()
	g, err := mls.NewPublicGroup(info.GetGroupInfo(), info.GetRatchetTree(), &o.Options)
	if err != nil {
		return nil, err
	}
	if string(g.GroupID()) != string(in.groupID) {
		return nil, ErrUnverified
	}
	found := &foundRoom{epoch: g.Epoch()}
	if found.policy, _, err = c.checkRoom(in.hub, g); err != nil {
		return nil, err
	}
	m, err := mls.ParseMessage(info.GetGroupInfo(), nil)
	if err != nil {
		return nil, err
	}
	keys := make(map[uint32]primitive.Secret)
	switch {
	case found.policy.Requirement == pseudonym.RequireNone:
	case found.policy.Scheme == pseudonym.SchemeStatic:
		if !in.wrapper.Present() {
			return nil, ErrUnverified // a link for the other scheme
		}
		keys = openEntries(in, g, info.GetLinkEntries())
	default:
		if found.view, err = openLinked(in, info.GetWrapState()); err != nil {
			return nil, err
		}
		keys = found.view.Payloads()
	}
	names := c.namesOf(g, keys)
	if !in.device && isIn(names, c.self.String(), info.GetProposals()) {
		return nil, ErrMember // added meanwhile: the Welcome is on its way (SPEC.md R-4)
	}
	if found.policy.Requirement != pseudonym.RequireAll {
		return found, nil // nobody discloses who he is, or nobody must
	}
	signer, ok := names[uint32(m.GroupInfo.Signer)]
	if !ok || !in.trust(signer, names) {
		return nil, ErrUnverified
	}
	return found, nil
}

// isIn reports whether a user has a leaf that is not about to be removed by one of
// the proposals.
func isIn(names map[uint32]string, user string, proposals [][]byte) bool {
	leaving := make(map[uint32]bool)
	for _, raw := range proposals {
		m, err := mls.ParseMessage(raw, nil)
		if err != nil || m.Public == nil || m.ContentType() != mls.ContentProposal {
			continue
		}
		if p := m.Public.Content.Proposal; p != nil && p.Type == mls.ProposalRemove {
			leaving[uint32(p.Remove)] = true
		}
	}
	for i, name := range names {
		if name == user && !leaving[i] {
			return true
		}
	}
	return false
}

// openLinked reads the link key tree with the key of a link (SPEC.md R-97).
func openLinked(in entry, state []byte) (*treewrap.View, error) {
	s, err := treewrap.ParseState(state)
	if err != nil {
		return nil, err
	}
	top, err := s.OpenTop(in.groupID, in.linkID, in.key())
	if err != nil {
		return nil, ErrUnverified
	}
	v, err := treewrap.ReadTop(in.groupID, s, top)
	if errors.Is(err, treewrap.ErrSuspect) {
		return nil, ErrUnverified
	}
	return v, err
}

// openEntries opens the static entries of a room.
func openEntries(in entry, g *mls.PublicGroup, entries []*hubv1.LinkEntry) map[uint32]primitive.Secret {
	keys := make(map[uint32]primitive.Secret)
	for _, e := range entries {
		l := g.Leaf(mls.LeafIndex(e.GetLeafIndex()))
		if l == nil {
			continue
		}
		cred, err := credentialOf(l)
		if err != nil {
			continue
		}
		if key, err := pseudonym.UnwrapStatic(in.wrapper, in.groupID, cred.Hash(), e.GetEntry()); err == nil {
			keys[e.GetLeafIndex()] = key
		}
	}
	return keys
}

// namesOf are the verified users of a tree's leaves.
func (c *Client) namesOf(g *mls.PublicGroup, keys map[uint32]primitive.Secret) map[uint32]string {
	names := make(map[uint32]string)
	for i, l := range g.Members() {
		cred, err := credentialOf(l)
		if err != nil {
			continue
		}
		key, ok := keys[uint32(i)]
		if !ok {
			continue
		}
		if real, err := cred.Reveal(key, c.trust.Providers, time.Now()); err == nil {
			names[uint32(i)] = real.User.String()
		}
	}
	return names
}

// commitJoin stores the join, sends it, and adopts it when it was accepted.
func (c *Client) commitJoin(ctx context.Context, r *room, in entry, info *hubv1.GroupInfoResponse, found *foundRoom, signer leafSigner, staged *member.Staged) error {
	p := r.st.Pending
	o := member.GroupInfoOptions{WithoutTree: true}
	if found.view != nil {
		known := map[uint32]primitive.Secret{}
		if found.policy.KeyRule(found.policy.DefaultRole) != pseudonym.KeyForbidden {
			maps.Copy(known, secretsOf(r.st.LinkKeys))
		}
		d, v, err := writeDelta(found.view, wrapWrite{
			epoch: staged.Epoch(), keys: staged, tree: staged.Public(), known: known, own: uint32(staged.OwnLeaf()),
		})
		if err != nil {
			return err
		}
		ext, raw, err := deltaExtension(d)
		if err != nil {
			return err
		}
		o.Extensions, p.Delta = []mls.Extension{ext}, raw
		if p.Wrap, err = newWrapState(v); err != nil {
			return err
		}
	}
	gi, err := staged.GroupInfo(o)
	if err != nil {
		return err
	}
	if p.Request, err = proto.Marshal(&hubv1.ExternalJoinRequest{Commit: p.Commit, GroupInfo: gi, DeliverySecret: p.D, Code: in.code()}); err != nil {
		return err
	}
	if err := c.write(r); err != nil {
		return err
	}
	c.rooms[r.id()] = r
	entries := make(map[uint32][]byte)
	for _, e := range info.GetLinkEntries() {
		entries[e.GetLeafIndex()] = e.GetEntry()
	}
	err = c.sendJoin(ctx, r, signer, entries)
	if err != nil && refused(err) {
		b := make(batch)
		return errors.Join(err, c.forgetRoom(r, b), c.store.Write(b))
	}
	return err
}

// receipt checks the place that the hub gives a joiner in the room's order: it
// vouches for it like for everybody else's (SPEC.md R-74).
func (r *room) receipt(a *hubv1.Accepted) error {
	if len(a.GetChain()) != 32 {
		return mmrerr.Malformed
	}
	key, err := r.hub()
	if err != nil {
		return err
	}
	x := seal.Accepted{GroupID: r.st.GroupID, Epoch: a.GetEpoch(), Seq: a.GetSeq(), Chain: [32]byte(a.GetChain()), AcceptedMS: a.GetAcceptedMs()}
	if x.Verify(key, a.GetReceipt()) != nil {
		return ErrUnverified
	}
	return nil
}

// sendJoin sends the stored external commit and enters the room when it was accepted.
func (c *Client) sendJoin(ctx context.Context, r *room, signer leafSigner, entries map[uint32][]byte) error {
	p := r.st.Pending
	req, res := new(hubv1.ExternalJoinRequest), new(hubv1.ExternalJoinResponse)
	if err := proto.Unmarshal(p.Request, req); err != nil {
		return err
	}
	err := c.do(ctx, call{
		to: hubOf(r.st.Hub), method: seal.MethodExternalJoin, groupID: r.st.GroupID, ear: r.earKey(), token: !p.Sibling, kind: seal.AuthNewLeaf, signer: signer,
		body: req, id: [16]byte(p.RequestID),
	}, res)
	if err != nil {
		return err
	}
	a := res.GetAccepted()
	if err := r.receipt(a); err != nil {
		return err
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
	for _, raw := range res.GetHubProposals() { // SPEC.md R-114
		r.propose(raw)
	}
	if p.Wrap != nil {
		v, err := p.Wrap.view(r.st.GroupID, r.st.LinkKeys)
		if err != nil {
			return err
		}
		if err := r.setView(v); err != nil {
			return err
		}
	}
	for i, e := range entries {
		if i != uint32(r.g.OwnLeaf()) {
			r.openEntry(i, e)
		}
	}
	b := make(batch)
	if err := r.save(b, true); err != nil {
		return err
	}
	if err := errors.Join(c.connected(r, b), c.meetAll(r, b), c.shareRoom(r, b)); err != nil {
		return err
	}
	if p.Sibling {
		e := Event{Kind: KindJoined, Room: r.st.uri(), Seq: r.st.Seq, User: c.self.String(), Accepted: time.UnixMilli(int64(a.GetAcceptedMs())).UTC()}
		if err := c.emit(b, e); err != nil {
			return err
		}
		delete(c.want, r.id())
		b.del(recWant + r.id())
	}
	c.plan(r)
	c.unhold(ctx, r, b)
	return c.store.Write(b)
}
