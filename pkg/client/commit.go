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
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// plan is what a commit is to do, made anew for each epoch it is tried in.
type plan struct {
	proposals []*mls.ProposalBody
	added     []*arrival // whom the Adds among them bring, in order
	rekey     bool       // replace the own credential (SPEC.md R-9)
}

// maxRaces is how often a commit is rebuilt after others were first.
const maxRaces = 8

// update commits what build plans, on the state that is current when it is
// tried, and returns when the hub has accepted it and it is adopted. mu is held.
func (c *Client) update(ctx context.Context, r *room, build func() (*plan, error)) error {
	if err := c.settle(ctx, r); err != nil {
		return err
	}
	for range maxRaces {
		if err := r.usable(); err != nil {
			return err
		}
		p, err := build()
		if err != nil {
			return err
		}
		if err := c.stage(ctx, r, p); err != nil {
			return err
		}
		err = c.sendPending(ctx, r)
		switch {
		case err == nil:
			return nil
		case raced(err):
			if caught := c.catchUp(ctx, r); caught != nil {
				return caught
			}
			if usable := r.usable(); usable != nil {
				return usable
			}
			if told := r.told(err); told != nil {
				return told
			}
			continue
		default:
			return err
		}
	}
	return errors.New("client: others were always first; try again")
}

// raced reports whether a commit was refused because of what others did
// meanwhile: after catching up it can be made anew (SPEC.md §19).
func raced(err error) bool {
	for _, code := range []mmrerr.Code{mmrerr.WrongEpoch, mmrerr.LeaveMissing, mmrerr.WrapStale, mmrerr.EARStale} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// told takes the proposals that come with mmr/leave-missing, which a joiner may
// not have as events.
func (r *room) told(refusal error) error {
	var e *mmrerr.Error
	if errors.As(refusal, &e) && e.Code == mmrerr.LeaveMissing {
		d := codec.NewReader(e.Detail)
		for !d.Empty() {
			r.propose(d.Vector(len(e.Detail)))
		}
		return d.Done()
	}
	return nil
}

// propose stores a stand-alone proposal of somebody else for the next commit.
func (r *room) propose(raw []byte) {
	if g, _, err := r.process(raw, mls.ContentProposal); err == nil {
		r.g = g
	}
}

// process opens an MLS message that the hub says is of that kind. What is of
// another kind would take a way around the checks of its own: a commit among
// proposals would not be audited (SPEC.md R-118), and a message among commits
// has no commit to look at.
func (r *room) process(raw []byte, kind mls.ContentType) (*member.Group, *mls.Event, error) {
	g, ev, err := r.g.Process(raw)
	if err != nil {
		return nil, nil, err
	}
	if ev.Kind != kind {
		return nil, nil, mmrerr.WireFormat
	}
	return g, ev, nil
}

// stage makes the commit with a fresh address, delivery key and D (SPEC.md
// R-51), and stores it before anything is sent.
func (c *Client) stage(ctx context.Context, r *room, p *plan) error {
	policy, err := r.policy()
	if err != nil {
		return err
	}
	if err := c.readWrap(ctx, r); err != nil && (len(p.added) > 0 || c.store.broken() != nil) {
		return unread(err)
	}
	o := member.CommitOptions{ByValue: p.proposals, Now: time.Now(), Welcome: member.WelcomeOptions{WithoutTree: true}}
	leafKeys := p.added // whose link keys the commit carries
	var renewed *newLeaf
	if p.rekey && r.mayRekey(policy) {
		if renewed, err = c.renewLeaf(ctx, r); err != nil {
			return err
		}
		o.Leaf = &member.LeafOptions{Signer: renewed.signer, Credential: &renewed.identity.Credential, Extensions: renewed.identity.Extensions}
		leafKeys = append(slices.Clone(leafKeys), &arrival{user: renewed.tbs.User, tbsHash: renewed.tbs.Hash(), linkKey: renewed.linkKey})
	} else {
		delivery, _, err := c.makeDelivery(ctx)
		if err != nil {
			return err
		}
		o.Leaf = &member.LeafOptions{Extensions: []mls.Extension{delivery}}
	}
	if o.AAD, err = r.staticEntries(policy, leafKeys, &o.Welcome); err != nil {
		return err
	}
	g, staged, err := r.g.Stage(o)
	if err != nil {
		return fmt.Errorf("making a commit: %w", err)
	}
	d := primitive.NewSecret()
	leaf := staged.Public().Leaf(staged.OwnLeaf())
	pending := &pendingState{
		Commit: staged.Commit(), RequestID: random(16), D: stored(d), LinkKeys: make(map[uint32][]byte), LeafKey: leaf.SignatureKey,
	}
	view := staged.Event().Commit
	for i, a := range view.Added {
		if i < len(p.added) {
			pending.LinkKeys[uint32(a)] = stored(p.added[i].linkKey)
		}
	}
	if renewed != nil {
		pending.LinkKeys[uint32(staged.OwnLeaf())] = stored(renewed.linkKey)
		r.st.Signers[b64(renewed.signer.Public())] = renewed.signer.Private()
	}
	req := &hubv1.UpdateRequest{Commit: pending.Commit, Welcome: staged.Welcome(), DeliverySecret: pending.D}
	info := member.GroupInfoOptions{WithoutTree: true}
	if wraps(policy) && r.view != nil && !r.view.Suspect() {
		if err := r.stageDelta(staged, pending, &info); err != nil {
			return err
		}
	}
	if policy.EAR && len(view.Removed) > 0 { // SPEC.md R-102
		k, err := exportSecret(staged, seal.LabelEAR)
		if err != nil {
			return err
		}
		pending.EAR = stored(k)
		req.NextEarKey = pending.EAR
	}
	if req.GroupInfo, err = staged.GroupInfo(info); err != nil {
		return err
	}
	if pending.ExternalPub, err = externalPub(req.GetGroupInfo()); err != nil {
		return err
	}
	if pending.Request, err = proto.Marshal(req); err != nil {
		return err
	}
	r.g, r.st.Pending = g, pending
	return c.write(r)
}

// mayRekey reports whether the own credential can be replaced now: the link key
// of the new one must come with the commit.
func (r *room) mayRekey(policy *pseudonym.Room) bool {
	user, err := r.user()
	if err != nil || policy.KeyRule(policy.RoleOf(user)) == pseudonym.KeyForbidden {
		return false
	}
	return !wraps(policy) || r.view != nil && !r.view.Suspect()
}

// renewLeaf makes a leaf with a new credential for the own user pseudonym.
func (c *Client) renewLeaf(ctx context.Context, r *room) (*newLeaf, error) {
	user, err := r.user()
	if err != nil {
		return nil, err
	}
	return c.makeLeaf(ctx, mls.CipherSuite(r.st.Suite), user, nil)
}

// staticEntries returns the authenticated data of a commit: in the static scheme
// one entry per Add (SPEC.md R-13), and the wrapper key for the Welcome.
func (r *room) staticEntries(policy *pseudonym.Room, added []*arrival, welcome *member.WelcomeOptions) ([]byte, error) {
	items := pseudonym.AAD{}
	if policy.Scheme == pseudonym.SchemeStatic && len(added) > 0 {
		var entries pseudonym.AddAAD
		for _, a := range added {
			if policy.KeyRule(policy.RoleOf(a.user)) == pseudonym.KeyForbidden {
				entries = append(entries, nil)
				continue
			}
			wrapper, err := primitive.ParseSecret(r.st.Wrapper)
			if err != nil {
				return nil, err
			}
			entries = append(entries, pseudonym.WrapStatic(wrapper, r.st.GroupID, a.tbsHash, a.linkKey))
			welcome.Extensions = []mls.Extension{{
				Type: mls.ExtensionType(pseudonym.ExtensionIdentityLinkWrapper), Data: pseudonym.AppendWrapperKey(nil, wrapper),
			}}
		}
		data, err := entries.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		items = append(items, pseudonym.AADItem{Type: pseudonym.AADAddAAD, Data: data})
	}
	return items.AppendBinary(nil)
}

// stageDelta writes the link key tree of the staged epoch.
func (r *room) stageDelta(staged *member.Staged, pending *pendingState, info *member.GroupInfoOptions) error {
	v := staged.Event().Commit
	known := secretsOf(r.st.LinkKeys)
	for _, i := range v.Removed {
		delete(known, uint32(i))
	}
	maps.Copy(known, secretsOf(pending.LinkKeys))
	d, next, err := writeDelta(r.view, wrapWrite{
		epoch: staged.Epoch(), keys: staged, tree: staged.Public(), added: v.Added, known: known, own: uint32(staged.OwnLeaf()),
	})
	if err != nil {
		return err
	}
	ext, raw, err := deltaExtension(d)
	if err != nil {
		return err
	}
	info.Extensions = []mls.Extension{ext}
	pending.Delta = raw
	pending.Wrap, err = newWrapState(next)
	return err
}

// externalPub reads the external_pub of a GroupInfo, which the hub repeats in
// the commit's event.
func externalPub(groupInfo []byte) ([]byte, error) {
	m, err := mls.ParseMessage(groupInfo, nil)
	if err != nil || m.GroupInfo == nil {
		return nil, mmrerr.GroupInfo
	}
	data, ok := mls.FindExtension(m.GroupInfo.Extensions, mls.ExtensionExternalPub)
	if !ok {
		return nil, mmrerr.GroupInfo
	}
	return mls.ParseExternalPub(data, nil)
}

func (c *Client) write(r *room) error {
	b := make(batch)
	if err := r.save(b, true); err != nil {
		return err
	}
	return c.store.Write(b)
}

// sendPending sends the staged commit and adopts it when it was accepted. A
// refusal drops it; if the answer stays unknown, it stays pending.
func (c *Client) sendPending(ctx context.Context, r *room) error {
	p := r.st.Pending
	req := new(hubv1.UpdateRequest)
	if err := proto.Unmarshal(p.Request, req); err != nil {
		return err
	}
	var res hubv1.UpdateResponse
	err := c.roomRequest(ctx, r, seal.MethodUpdate, [16]byte(p.RequestID), req, &res)
	switch {
	case errors.Is(err, mmrerr.EARStale):
		// A commit has rotated the key, perhaps this very one: its event tells.
		if err := c.catchUp(ctx, r); err != nil {
			return err
		}
		if r.confirmed == messageHash(p.Commit) {
			return nil
		}
		return errors.Join(mmrerr.WrongEpoch, c.discardPending(r, p))
	case errors.Is(err, mmrerr.NoRoom):
		// Perhaps it was accepted, and this client removed since: the event of that
		// comes under the new K. The mailbox says which.
		return err
	case err != nil && refused(err):
		return errors.Join(err, c.discard(r))
	case err != nil:
		return err
	}
	e := &seal.CommitEvent{Commit: p.Commit, ExternalPub: p.ExternalPub, Delta: p.Delta}
	if len(p.EAR) > 0 {
		k, err := primitive.ParseSecret(p.EAR)
		if err != nil {
			return err
		}
		id := seal.NewEARKey(k, r.st.GroupID).ID()
		e.EARID = id[:]
	}
	return c.adopt(ctx, r, res.GetAccepted(), e)
}

// discardPending drops the staged commit if it is still that one.
func (c *Client) discardPending(r *room, p *pendingState) error {
	if r.st.Pending != p {
		return nil
	}
	return c.discard(r)
}

// refused reports whether the service said no, as opposed to not answering.
func refused(err error) bool {
	code, ok := mmrerr.Of(err)
	return ok && code != mmrerr.Unavailable && code != mmrerr.RateLimited && code != mmrerr.Stale
}

func (c *Client) discard(r *room) error {
	g, err := r.g.Discard()
	if err != nil {
		return err
	}
	r.g, r.st.Pending = g, nil
	return c.write(r)
}

// adopt puts an event of our own, as the hub accepted it, into the room's order,
// after reading what came before it.
func (c *Client) adopt(ctx context.Context, r *room, a *hubv1.Accepted, body seal.EventBody) error {
	if len(a.GetChain()) != 32 {
		return mmrerr.Malformed
	}
	e := &seal.Event{
		GroupID: r.st.GroupID, Epoch: a.GetEpoch(), Seq: a.GetSeq(), Chain: [32]byte(a.GetChain()), AcceptedMS: a.GetAcceptedMs(),
		Receipt: a.GetReceipt(), Body: body,
	}
	b := make(batch)
	if err := c.arrived(ctx, r, e, b); err != nil {
		return err
	}
	if err := c.store.Write(b); err != nil {
		return err
	}
	if r.st.Seq < e.Seq {
		if err := c.catchUp(ctx, r); err != nil {
			return err
		}
	}
	switch {
	case r.st.Forked:
		return ErrForked
	case r.st.Locked:
		return ErrLocked
	case r.st.Removed:
		return ErrRemoved
	}
	return nil
}

// settle finds out what became of a commit, a join or a message whose answer
// was lost: the same request is sent again and answered from the hub's log
// (SPEC.md R-66).
func (c *Client) settle(ctx context.Context, r *room) error {
	if p := r.st.Pending; p != nil && p.Join {
		signer, err := newLeafSigner(mls.CipherSuite(r.st.Suite), r.signer(p.LeafKey))
		if err != nil {
			return err
		}
		err = c.sendJoin(ctx, r, signer, nil)
		if err != nil && refused(err) {
			b := make(batch)
			return errors.Join(c.forgetRoom(r, b), c.store.Write(b))
		}
		if err != nil {
			return err
		}
		return c.learnAll(ctx, r)
	}
	if r.st.Pending == nil && r.st.Leaving == nil && r.st.Outgoing == nil {
		return nil
	}
	if err := r.usable(); err != nil {
		return err
	}
	if r.st.Pending != nil {
		err := c.sendPending(ctx, r)
		if errors.Is(err, mmrerr.WrongEpoch) {
			err = c.catchUp(ctx, r)
		}
		if err != nil && (!refused(err) || r.st.Pending != nil) {
			return err
		}
	}
	if r.st.Leaving != nil {
		if err := c.finishLeave(ctx, r); err != nil {
			return err
		}
		return ErrNoRoom
	}
	if r.st.Outgoing != nil {
		return c.finishOutgoing(ctx, r)
	}
	return nil
}

// learnAll reads all link keys of a room from the hub.
func (c *Client) learnAll(ctx context.Context, r *room) error {
	if len(r.st.Wrapper) == 0 {
		return c.readWrap(ctx, r)
	}
	res := new(hubv1.GroupInfoResponse)
	if err := c.roomCall(ctx, r, seal.MethodGroupInfo, &hubv1.GroupInfoRequest{}, res); err != nil {
		return err
	}
	for _, e := range res.GetLinkEntries() {
		if e.GetLeafIndex() != uint32(r.g.OwnLeaf()) {
			r.openEntry(e.GetLeafIndex(), e.GetEntry())
		}
	}
	return c.write(r)
}

// resume settles what an earlier process left open. Its error is one of the
// store or of an account that could not be completed.
func (c *Client) resume(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	ctx = impatient(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rooms {
		if r.g.Status() == member.Active {
			c.plan(r)
		}
		if err := c.settle(ctx, r); err != nil && c.store.broken() == nil {
			c.opts.log.Warn("what was sent before a restart is not settled yet")
		}
	}
	if err := c.tidy(ctx); err != nil {
		c.opts.log.Warn("a connection room is not tidied yet")
	}
	if err := c.retryFirst(ctx); err != nil {
		return err
	}
	return c.store.broken()
}
