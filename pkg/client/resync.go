package client

import (
	"context"
	"errors"
	"fmt"
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

// stuckState is an accepted commit that this client cannot process, or a log
// that does not reach back far enough (SPEC.md ).
type stuckState struct {
	Epoch     uint64 // that the commit ended
	Hash      []byte // H of the commit; empty: the log was truncated
	Committer uint32
	Reported  bool
}

// errWaitForGroupInfo says that the hub's GroupInfo is by somebody this client
// has not verified, or by the author of the bad commit.
var errWaitForGroupInfo = errors.New("client: waiting for a GroupInfo by another member")

// stick notes that a commit cannot be processed.
func (c *Client) stick(r *room, commit []byte, seq uint64, b batch) error {
	h := primitive.Hash(commit)
	r.st.Stuck = &stuckState{Epoch: r.g.Epoch(), Hash: h[:]}
	if m, err := mls.ParseMessage(commit, nil); err == nil {
		if s, ok := m.Sender(); ok {
			r.st.Stuck.Committer = s.Index
		}
	}
	r.upkeepAt = time.Now()
	return c.emit(b, Event{Kind: KindStuck, Room: r.st.uri(), Seq: seq})
}

// recover brings a stuck room back: it reports the commit and joins again by an
// external commit, once somebody else than its author vouches for the group
// (SPEC.md ). mu is held.
func (c *Client) recover(ctx context.Context, r *room) error {
	s := r.st.Stuck
	if len(s.Hash) > 0 && !s.Reported {
		err := c.roomCall(ctx, r, seal.MethodReportCommit, &hubv1.ReportCommitRequest{Epoch: s.Epoch, CommitHash: s.Hash}, &hubv1.ReportCommitResponse{})
		if err != nil && !refused(err) {
			return err
		}
		s.Reported = true
		if err := c.write(r); err != nil {
			return err
		}
	}
	return c.resync(ctx, r)
}

// Resync joins a room again with the same identity, after this client has lost
// its place in it (SPEC.md R-141).
func (c *Client) Resync(ctx context.Context, roomURI string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.find(roomURI)
	if r == nil || r.st.Removed {
		return ErrNoRoom
	}
	if r.st.Forked {
		return ErrForked
	}
	return c.resync(ctx, r)
}

func (c *Client) resync(ctx context.Context, r *room) error {
	for range maxRaces {
		var err error
		if r.st.Rejoin != nil {
			err = c.sendRejoin(ctx, r)
		} else {
			err = c.tryResync(ctx, r)
		}
		if errors.Is(err, mmrerr.WrongEpoch) {
			continue
		}
		if err != nil {
			return fmt.Errorf("joining again: %w", err)
		}
		return nil
	}
	return errors.New("client: others were always first; try again")
}

func (c *Client) tryResync(ctx context.Context, r *room) error {
	info := new(hubv1.GroupInfoResponse)
	if err := c.roomCall(ctx, r, seal.MethodGroupInfo, &hubv1.GroupInfoRequest{}, info); err != nil {
		return err
	}
	o := memberOptions()
	g, err := mls.NewPublicGroup(info.GetGroupInfo(), info.GetRatchetTree(), &o.Options)
	if err != nil {
		return err
	}
	policy, err := c.vouched(r, g, info.GetGroupInfo())
	if err != nil {
		return err
	}
	own := r.g.Public().Leaf(r.g.OwnLeaf())
	at, err := leafOf(g, own.SignatureKey)
	if err != nil {
		return err
	}
	signer := r.signer(own.SignatureKey)
	delivery, _, err := c.makeDelivery(ctx)
	if err != nil {
		return err
	}
	suite := mls.CipherSuite(r.st.Suite)
	identity := &member.Identity{
		Suite: suite, Credential: own.Credential, Signer: signer, Capabilities: capabilities(suite), Extensions: []mls.Extension{delivery},
	}
	aad, err := r.resyncAAD(policy, g, info.GetGroupInfo())
	if err != nil {
		return err
	}
	next, staged, err := member.JoinExternal(identity, info.GetGroupInfo(), member.ExternalOptions{
		Options: memberOptions(), Tree: info.GetRatchetTree(), AAD: aad, Resync: &at,
	})
	if err != nil {
		return err
	}
	return c.commitResync(ctx, r, next, staged)
}

// vouched checks that a GroupInfo is of this room, later than where we are, and
// signed by a member whom this client verified before, other than the author of
// the commit it could not process (SPEC.md ).
func (c *Client) vouched(r *room, g *mls.PublicGroup, groupInfo []byte) (*pseudonym.Room, error) {
	if string(g.GroupID()) != string(r.st.GroupID) || g.Epoch() < r.g.Epoch() {
		return nil, ErrForked // SPEC.md R-106
	}
	policy, _, err := c.checkRoom(r.st.Hub, g)
	if err != nil {
		return nil, err
	}
	m, err := mls.ParseMessage(groupInfo, nil)
	if err != nil {
		return nil, err
	}
	signer := g.Leaf(m.GroupInfo.Signer)
	if signer == nil {
		return nil, ErrUnverified
	}
	for i, l := range c.resolve(r) {
		known := r.g.Public().Leaf(mls.LeafIndex(i))
		if known == nil || !known.Credential.Equal(signer.Credential) || string(known.SignatureKey) != string(signer.SignatureKey) {
			continue
		}
		if s := r.st.Stuck; s != nil && len(s.Hash) > 0 && i == s.Committer && g.Epoch() == s.Epoch+1 {
			break
		}
		if l.verified || policy.Requirement != pseudonym.RequireAll {
			return policy, nil
		}
	}
	return nil, errWaitForGroupInfo
}

// leafOf finds the leaf with a signature key.
func leafOf(g *mls.PublicGroup, key []byte) (mls.LeafIndex, error) {
	for i, l := range g.Members() {
		if string(l.SignatureKey) == string(key) {
			return i, nil
		}
	}
	return 0, ErrRemoved
}

// resyncAAD hands the members our link key again (SPEC.md R-97).
func (r *room) resyncAAD(policy *pseudonym.Room, g *mls.PublicGroup, groupInfo []byte) ([]byte, error) {
	own := r.g.Public().Leaf(r.g.OwnLeaf())
	cred, err := credentialOf(own)
	if err != nil {
		return nil, err
	}
	link, err := primitive.ParseSecret(r.st.LinkKeys[uint32(r.g.OwnLeaf())])
	if err != nil {
		return nil, err
	}
	items, err := linkItems(policy, cred.TBS, link, r.st.Wrapper, g, groupInfo)
	if err != nil {
		return nil, err
	}
	return items.AppendBinary(nil)
}

// linkItems hands the link key of an external joiner, whose leaf is in no delta,
// to the members: by an entry of the static scheme, or sealed to all of the epoch
// that the commit starts from (SPEC.md ).
func linkItems(policy *pseudonym.Room, leaf pseudonym.TBS, link primitive.Secret, wrapper []byte, g *mls.PublicGroup, groupInfo []byte) (pseudonym.AAD, error) {
	forbidden := policy.KeyRule(policy.RoleOf(leaf.User)) == pseudonym.KeyForbidden
	if policy.Scheme == pseudonym.SchemeStatic {
		entry := pseudonym.AddAAD{nil}
		if !forbidden {
			w, err := primitive.ParseSecret(wrapper)
			if err != nil {
				return nil, ErrUnverified // a link, or a sibling's word, for the other scheme
			}
			entry[0] = pseudonym.WrapStatic(w, g.GroupID(), leaf.Hash(), link)
		}
		data, err := entry.AppendBinary(nil)
		return pseudonym.AAD{{Type: pseudonym.AADAddAAD, Data: data}}, err
	}
	if forbidden {
		return pseudonym.AAD{}, nil
	}
	pub, err := externalPub(groupInfo)
	if err != nil {
		return nil, err
	}
	enc, ct, err := mls.EncryptWithLabel(g.Suite(), pub, treewrap.LabelJoinerLink, treewrap.JoinerLinkContext(g.GroupID(), leaf.Hash()), link.Bytes())
	if err != nil {
		return nil, err
	}
	return pseudonym.AAD{{Type: pseudonym.AADJoinerLink, Data: primitive.HPKECiphertext{KEMOutput: enc, Ciphertext: ct}.Append(nil)}}, nil
}

// rejoinState is a resync that was sent or will be, and the group after it.
type rejoinState struct {
	Public, Private []byte // the group, with the external commit pending
	Request         []byte // the body of hub.ExternalJoin
	RequestID       []byte
	D               []byte
	Healthy         bool `json:",omitempty"` // the room was not stuck before
}

// commitResync stores the external commit and sends it. Until its fate is known
// the room is stuck: the hub may have given its place to the new leaf.
func (c *Client) commitResync(ctx context.Context, r *room, next *member.Group, staged *member.Staged) error {
	gi, err := staged.GroupInfo(member.GroupInfoOptions{WithoutTree: true})
	if err != nil {
		return err
	}
	p := &rejoinState{RequestID: random(16), D: random(primitive.SecretSize), Healthy: r.st.Stuck == nil}
	if p.Request, err = proto.Marshal(&hubv1.ExternalJoinRequest{Commit: staged.Commit(), GroupInfo: gi, DeliverySecret: p.D}); err != nil {
		return err
	}
	if p.Public, err = next.AppendPublic(nil); err != nil {
		return err
	}
	if p.Private, err = next.AppendPrivate(nil); err != nil {
		return err
	}
	r.st.Rejoin = p
	if p.Healthy {
		r.st.Stuck = &stuckState{Epoch: r.g.Epoch()}
	}
	if err := c.write(r); err != nil {
		return err
	}
	return c.sendRejoin(ctx, r)
}

// sendRejoin sends the stored external commit, the same again if its answer was
// lost (SPEC.md R-66), and takes the room's new place in it.
func (c *Client) sendRejoin(ctx context.Context, r *room) error {
	p, o := r.st.Rejoin, memberOptions()
	next, err := member.ParseGroup(p.Public, p.Private, r.signer, &o)
	if err != nil {
		return err
	}
	staged, ok := next.Pending()
	if !ok {
		return mmrerr.Malformed
	}
	own := staged.Public().Leaf(staged.OwnLeaf())
	signer, err := newLeafSigner(mls.CipherSuite(r.st.Suite), r.signer(own.SignatureKey))
	if err != nil {
		return err
	}
	req, res := new(hubv1.ExternalJoinRequest), new(hubv1.ExternalJoinResponse)
	if err := proto.Unmarshal(p.Request, req); err != nil {
		return err
	}
	err = c.do(ctx, call{
		to: hubOf(r.st.Hub), method: seal.MethodExternalJoin, groupID: r.st.GroupID, ear: r.earKey(), kind: seal.AuthNewLeaf, signer: signer,
		body: req, id: [16]byte(p.RequestID),
	}, res)
	if err != nil && refused(err) {
		if r.st.Rejoin = nil; p.Healthy {
			r.st.Stuck = nil
		}
		return errors.Join(err, c.write(r))
	}
	if err != nil {
		return err
	}
	if err := r.receipt(res.GetAccepted()); err != nil {
		return err
	}
	d, err := primitive.ParseSecret(p.D)
	if err != nil {
		return err
	}
	if next, _, err = next.Confirm(); err != nil {
		return err
	}
	return c.rejoined(ctx, r, next, seal.NewDeliveryKey(d, r.st.GroupID, next.Epoch(), own.SignatureKey), res)
}

// rejoined goes on from the room's new place. A message under way stays: the hub
// says whether it was accepted.
func (c *Client) rejoined(ctx context.Context, r *room, next *member.Group, k seal.DeliveryKey, res *hubv1.ExternalJoinResponse) error {
	a := res.GetAccepted()
	old, link := r.g, r.st.LinkKeys[uint32(r.g.OwnLeaf())]
	before := old.Public()
	r.g = next
	r.dropReplaced(before)
	r.st.LinkKeys[uint32(next.OwnLeaf())] = link
	r.setK(k, time.Now())
	r.st.PrevK, r.view, r.st.Wrap = nil, nil, nil
	r.st.Seq, r.st.Chain, r.st.Buffer, r.st.GapSince = a.GetSeq(), a.GetChain(), make(map[uint64][]byte), 0
	r.st.Stuck, r.st.Rejoin, r.st.Pending, r.st.Chains, r.st.WrongPub = nil, nil, nil, nil, false
	for _, raw := range res.GetHubProposals() { // SPEC.md R-114
		r.propose(raw)
	}
	c.plan(r)
	b := make(batch)
	if err := r.save(b, true); err != nil {
		return err
	}
	if err := c.emit(b, Event{Kind: KindMembers, Room: r.st.uri(), Seq: r.st.Seq, Accepted: time.UnixMilli(int64(a.GetAcceptedMs())).UTC()}); err != nil {
		return err
	}
	c.unhold(ctx, r, b)
	if err := c.store.Write(b); err != nil {
		return err
	}
	old.Retire(next)
	return nil
}
