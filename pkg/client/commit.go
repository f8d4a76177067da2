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

// plan is what a commit is to do, made anew for each epoch it is tried in.
type plan struct {
	proposals []*mls.ProposalBody
	entries   pseudonym.AddAAD   // one per Add, in order
	linkKeys  []primitive.Secret // the same
	welcome   []mls.Extension    // of the GroupInfo inside the Welcome
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
		case errors.Is(err, mmrerr.WrongEpoch), errors.Is(err, mmrerr.LeaveMissing):
			if err := c.catchUp(ctx, r); err != nil {
				return err
			}
			if r.st.Removed {
				return ErrRemoved
			}
			continue
		default:
			return err
		}
	}
	return errors.New("client: others were always first; try again")
}

// stage makes the commit with a fresh address, delivery key and D (SPEC.md
// R-51), and stores it before anything is sent.
func (c *Client) stage(ctx context.Context, r *room, p *plan) error {
	delivery, _, err := c.makeDelivery(ctx)
	if err != nil {
		return err
	}
	items := pseudonym.AAD{}
	if len(p.entries) > 0 {
		data, err := p.entries.AppendBinary(nil)
		if err != nil {
			return err
		}
		items = append(items, pseudonym.AADItem{Type: pseudonym.AADAddAAD, Data: data})
	}
	aad, err := items.AppendBinary(nil)
	if err != nil {
		return err
	}
	g, staged, err := r.g.Stage(member.CommitOptions{
		ByValue: p.proposals, AAD: aad, Now: time.Now(), Leaf: &member.LeafOptions{Extensions: []mls.Extension{delivery}},
		Welcome: member.WelcomeOptions{Extensions: p.welcome, WithoutTree: true},
	})
	if err != nil {
		return fmt.Errorf("making a commit: %w", err)
	}
	info, err := staged.GroupInfo(member.GroupInfoOptions{WithoutTree: true})
	if err != nil {
		return err
	}
	d := primitive.NewSecret()
	body, err := proto.Marshal(&hubv1.UpdateRequest{Commit: staged.Commit(), Welcome: staged.Welcome(), GroupInfo: info, DeliverySecret: d.Bytes()})
	if err != nil {
		return err
	}
	pub, err := externalPub(info)
	if err != nil {
		return err
	}
	leaf := staged.Public().Leaf(staged.OwnLeaf())
	r.st.Pending = &pendingState{
		Commit: staged.Commit(), ExternalPub: pub, Request: body, RequestID: random(16), D: slices.Clone(d.Bytes()),
		LinkKeys: make(map[uint32][]byte), LeafKey: leaf.SignatureKey,
	}
	for i, a := range staged.Event().Commit.Added {
		if i < len(p.linkKeys) {
			r.st.Pending.LinkKeys[uint32(a)] = slices.Clone(p.linkKeys[i].Bytes())
		}
	}
	r.g = g
	return c.write(r)
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
	own, err := r.own()
	if err != nil {
		return err
	}
	req := new(hubv1.UpdateRequest)
	if err := proto.Unmarshal(p.Request, req); err != nil {
		return err
	}
	var res hubv1.UpdateResponse
	err = c.do(ctx, call{
		to: hubOf(r.st.Hub), method: seal.MethodUpdate, groupID: r.st.GroupID, kind: seal.AuthLeaf, leaf: uint32(r.g.OwnLeaf()), signer: own,
		body: req, id: [16]byte(p.RequestID),
	}, &res)
	if err != nil {
		if refused(err) {
			return errors.Join(err, c.discard(r))
		}
		return err
	}
	return c.adopt(ctx, r, res.GetAccepted(), &seal.CommitEvent{Commit: p.Commit, ExternalPub: p.ExternalPub})
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
	if r.st.Pending != nil {
		err := c.sendPending(ctx, r)
		if errors.Is(err, mmrerr.WrongEpoch) {
			err = c.catchUp(ctx, r)
		}
		if err != nil && !refused(err) {
			return err
		}
	}
	if r.st.Outgoing != nil {
		return c.finishOutgoing(ctx, r)
	}
	return nil
}

// learnAll reads all link entries of a room from the hub.
func (c *Client) learnAll(ctx context.Context, r *room) error {
	own, err := r.own()
	if err != nil {
		return err
	}
	res := new(hubv1.GroupInfoResponse)
	err = c.do(ctx, call{
		to: hubOf(r.st.Hub), method: seal.MethodGroupInfo, groupID: r.st.GroupID, kind: seal.AuthLeaf, leaf: uint32(r.g.OwnLeaf()), signer: own,
		body: &hubv1.GroupInfoRequest{},
	}, res)
	if err != nil {
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
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rooms {
		if r.st.Removed || r.st.Forked || r.st.Pending == nil && r.st.Outgoing == nil {
			continue
		}
		if err := c.settle(ctx, r); err != nil {
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
