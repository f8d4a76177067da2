package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Add adds users that this client is connected with to a room (SPEC.md §21, A2).
// Who is in it already is not added a second time, also if others were faster: a
// fresh pseudonym would make two participants of one person.
func (c *Client) Add(ctx context.Context, roomURI string, users ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return err
	}
	if err := r.without(c, users); err != nil { // before their packages are used up
		return err
	}
	var fetched []*arrival
	for _, u := range users {
		a, err := c.fetchPackages(ctx, u)
		if err != nil {
			return fmt.Errorf("fetching key packages: %w", err)
		}
		fetched = append(fetched, a...)
	}
	return c.update(ctx, r, func() (*plan, error) {
		if err := c.readWrap(ctx, r); err != nil { // who is in it
			return nil, unread(err)
		}
		if err := r.without(c, users); err != nil {
			return nil, err
		}
		p := &plan{added: fetched}
		for _, a := range fetched {
			p.proposals = append(p.proposals, mls.AddProposal(a.kp))
		}
		return p, nil
	})
}

// without makes sure that users are not in the room, or leave it with the next
// commit.
func (r *room) without(c *Client, users []string) error {
	leaving := r.leaving()
	for i, name := range r.names(c) {
		if slices.Contains(users, name) && !leaving[mls.LeafIndex(i)] {
			return ErrMember
		}
	}
	return nil
}

// arrival is a client about to be added.
type arrival struct {
	kp      *mls.KeyPackage
	user    pseudonym.ID
	tbsHash [32]byte
	linkKey primitive.Secret
}

// fetchPackages takes one set of a user's KeyPackages with the connection's
// token, and makes sure that they are that user's before they are used (SPEC.md
//
func (c *Client) fetchPackages(ctx context.Context, user string) ([]*arrival, error) {
	conn := c.conns[user]
	if conn == nil || !conn.Complete {
		return nil, ErrNoConnection
	}
	key, err := secretOf(conn.PeerKey)
	if err != nil {
		return nil, err
	}
	var res relayv1.FetchKeyPackagesResponse
	err = c.do(ctx, call{
		to: providerOf(conn.PeerProvider), method: seal.MethodFetchKeyPackages, token: true, kind: seal.AuthNone,
		body: &relayv1.FetchKeyPackagesRequest{
			ConnectionToken: conn.PeerToken, CipherSuite: uint32(Suite), CredentialTypes: []uint32{uint32(pseudonym.CredentialPseudonymous)},
		},
	}, &res)
	if err != nil {
		return nil, err
	}
	var out []*arrival
	now := time.Now()
	for _, raw := range res.GetKeyPackages() {
		kp, err := mls.ParseKeyPackage(raw, nil)
		if err != nil {
			return nil, mmrerr.PackageInvalid
		}
		if err := mls.VerifyKeyPackage(kp, now, nil); err != nil {
			return nil, mmrerr.PackageInvalid
		}
		cred, err := credentialOf(kp.Leaf)
		if err != nil {
			return nil, mmrerr.PackageInvalid
		}
		linkKey := pseudonym.DeriveLinkKey(key, cred.TBS)
		real, err := cred.Reveal(linkKey, c.trust.Providers, now)
		if err != nil || real.User.String() != user {
			return nil, ErrUnverified
		}
		out = append(out, &arrival{kp, cred.User, cred.Hash(), linkKey})
	}
	if len(out) == 0 {
		return nil, mmrerr.NoConsent
	}
	return out, nil
}

// Remove removes all devices of a user from a room, with its role (SPEC.md §21, A8).
func (c *Client) Remove(ctx context.Context, roomURI, user string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return err
	}
	return c.update(ctx, r, func() (*plan, error) { return c.removal(r, user) })
}

// Ban removes a user and tells when it is in the room again: a banned person can
// come back under a fresh pseudonym, which the hub cannot know (SPEC.md R-112).
func (c *Client) Ban(ctx context.Context, roomURI, user string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return err
	}
	if !slices.Contains(r.st.Banned, user) { // before the removal, whose answer may get lost
		r.st.Banned = append(r.st.Banned, user)
		if err := c.write(r); err != nil {
			return err
		}
	}
	err = c.update(ctx, r, func() (*plan, error) { return c.removal(r, user) })
	if err != nil && (refused(err) || errors.Is(err, errNoMember)) && slices.Contains(slices.Collect(maps.Values(r.names(c))), user) {
		r.st.Banned = slices.DeleteFunc(r.st.Banned, func(u string) bool { return u == user })
		return errors.Join(err, c.write(r))
	}
	return err
}

func (c *Client) removal(r *room, user string) (*plan, error) {
	p := new(plan)
	var gone pseudonym.ID
	names := r.names(c)
	for i, l := range r.g.Public().Members() {
		cred, err := credentialOf(l)
		if err != nil || names[uint32(i)] != user {
			continue
		}
		if i == r.g.OwnLeaf() {
			return nil, errors.New("client: cannot remove oneself; leave the room instead")
		}
		gone = cred.User
		p.proposals = append(p.proposals, mls.RemoveProposal(i))
	}
	if len(p.proposals) == 0 {
		return nil, errNoMember
	}
	policy, err := r.policy()
	if err != nil {
		return nil, err
	}
	n := len(policy.Roles)
	if _, listed := policy.Entry(gone); listed {
		r.dropDeparted(policy)
	}
	policy.Roles = slices.DeleteFunc(policy.Roles, func(e pseudonym.RoleEntry) bool { return e.User == gone })
	if len(policy.Roles) != n {
		change, err := r.policyChange(policy)
		if err != nil {
			return nil, err
		}
		p.proposals = append(p.proposals, change)
	}
	return p, nil
}

// policyChange proposes a new policy: the GroupContext's extensions with
// mmr_room replaced.
func (r *room) policyChange(policy *pseudonym.Room) (*mls.ProposalBody, error) {
	data, err := policy.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	es := slices.Clone(r.g.Public().Context().Extensions)
	for i := range es {
		if es[i].Type == mls.ExtensionType(pseudonym.ExtensionRoom) {
			es[i].Data = data
		}
	}
	return mls.ExtensionsProposal(es), nil
}

// Refresh replaces this client's keys, address and credential in a room by an
// empty commit (SPEC.md ). Listen does it by itself: a welcomed client
// within a day, everybody monthly.
func (c *Client) Refresh(ctx context.Context, roomURI string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return err
	}
	return c.update(ctx, r, func() (*plan, error) { return &plan{rekey: true}, nil })
}

// Send sends an application message to a room and returns when the hub has
// accepted it. If the hub is out of reach for longer than WithRetryFor says, the
// message stays in the state and goes out before the room's next step.
func (c *Client) Send(ctx context.Context, roomURI string, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return err
	}
	if err := c.settle(ctx, r); err != nil {
		return err
	}
	return c.sendContent(ctx, r, contentText, data)
}

// sendContent encrypts and sends a message, in a later epoch again if the one it
// was made in has passed.
func (c *Client) sendContent(ctx context.Context, r *room, kind contentKind, data []byte) error {
	for range maxRaces {
		if err := r.usable(); err != nil {
			return err
		}
		content, aad, err := r.newContent(kind, data)
		if err != nil {
			return err
		}
		g, msg, err := r.g.Send(content, member.SendOptions{AAD: aad, Padding: member.PadToBucket})
		if errors.Is(err, member.ErrCommitFirst) {
			if err := c.update(ctx, r, func() (*plan, error) { return new(plan), nil }); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		r.g = g
		r.st.Outgoing = &outgoingState{Kind: kind, Data: data, Message: msg, RequestID: random(16)}
		r.st.Sent[messageHash(msg)] = true
		b := make(batch)
		if err := r.save(b, false); err != nil {
			return err
		}
		if err := c.store.Write(b); err != nil {
			return err
		}
		err = c.sendOutgoing(ctx, r)
		if !passed(err) {
			return err
		}
		if err := c.catchUp(ctx, r); err != nil {
			return err
		}
	}
	return errors.New("client: the room's epoch changed all the time; try again")
}

// passed reports whether a message was refused because of its epoch.
func passed(err error) bool {
	return errors.Is(err, mmrerr.WrongEpoch) || errors.Is(err, mmrerr.EpochTooOld)
}

// finishOutgoing sends a stored message whose fate is unknown. If it was not
// accepted while its epoch lasted, it is made again. Another refusal is not the
// fault of what comes next.
func (c *Client) finishOutgoing(ctx context.Context, r *room) error {
	kind, data := r.st.Outgoing.Kind, r.st.Outgoing.Data
	err := c.sendOutgoing(ctx, r)
	if passed(err) {
		if err := c.catchUp(ctx, r); err != nil {
			return err
		}
		err = c.sendContent(ctx, r, kind, data)
	}
	if err != nil && refused(err) {
		c.opts.log.Warn("a message from before a restart was refused")
		return nil
	}
	return err
}

// sendOutgoing sends the stored message. It is forgotten when its fate is known.
func (c *Client) sendOutgoing(ctx context.Context, r *room) error {
	o := r.st.Outgoing
	var res hubv1.SubmitResponse
	err := c.roomRequest(ctx, r, seal.MethodSubmit, [16]byte(o.RequestID), &hubv1.SubmitRequest{Message: o.Message}, &res)
	if errors.Is(err, mmrerr.EARStale) {
		// A commit has rotated the key. If the message was accepted before it, the
		// log says so, and it must not be sent again.
		if err := c.catchUp(ctx, r); err != nil {
			return err
		}
		if r.st.Outgoing != o {
			return nil
		}
		err = mmrerr.EpochTooOld
	}
	if err != nil {
		if !refused(err) {
			return err
		}
		r.st.Outgoing = nil
		delete(r.st.Sent, messageHash(o.Message))
		return errors.Join(err, c.write(r))
	}
	e := &seal.MessageEvent{Message: o.Message}
	if len(res.GetFrank()) > 0 {
		if e.Frank, err = seal.ParseFrank(res.GetFrank()); err != nil {
			return err
		}
	}
	if err := c.adopt(ctx, r, res.GetAccepted(), e); err != nil || r.st.Outgoing != o || r.st.Seq < res.GetAccepted().GetSeq() {
		return err
	}
	// Accepted before the place at which this client joined again.
	r.st.Outgoing = nil
	delete(r.st.Sent, messageHash(o.Message))
	return c.write(r)
}
