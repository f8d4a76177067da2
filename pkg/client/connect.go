package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Validity of what connections need.
const (
	connectionPackages = 8
	packageValidity    = 30 * 24 * time.Hour // SPEC.md R-30
	connectionLinkFor  = 30 * 24 * time.Hour
)

// publishPackages publishes one-time connection packages and a last-resort one
// (SPEC.md R-30). mu is held.
func (c *Client) publishPackages(ctx context.Context) error {
	now := time.Now()
	b := make(batch)
	req := new(relayv1.PublishConnectionPackagesRequest)
	for i := range connectionPackages + 1 {
		last := i == connectionPackages
		key, err := primitive.GenerateKEMKey(primitive.X25519)
		if err != nil {
			return err
		}
		from := now.UTC().Truncate(24 * time.Hour)
		p, err := pseudonym.NewConnectionPackage(key.Public(), uint64(from.Unix()), uint64(from.Add(packageValidity).Unix()), last, c.real)
		if err != nil {
			return err
		}
		raw, err := p.AppendBinary(nil)
		if err != nil {
			return err
		}
		h := p.Hash()
		s := &connKeyState{Key: slices.Clone(key.Raw().Bytes()), NotAfter: p.NotAfter, LastResort: last}
		c.connKeys[b64(h[:])] = s
		if err := b.put(recConnKey+b64(h[:]), s); err != nil {
			return err
		}
		if last {
			req.LastResort = raw
		} else {
			req.Packages = append(req.Packages, raw)
		}
	}
	if err := c.store.Write(b); err != nil {
		return err
	}
	_, err := retry(ctx, c.opts.retryFor, func() (*relayv1.PublishConnectionPackagesResponse, error) {
		return relayv1.NewAccountServiceClient(c.t.session).PublishConnectionPackages(ctx, req)
	})
	if err != nil {
		return err
	}
	c.account.Published = true
	b = make(batch)
	if err := b.put(recAccount, c.account); err != nil {
		return err
	}
	return c.store.Write(b)
}

// Connect asks a user for a connection, through a connection room at hub
// (SPEC.md §14). It returns when the request is on its way; KindConnected tells
// when it was accepted. Refusal is silence.
func (c *Client) Connect(ctx context.Context, user, hub string) error {
	target, err := pseudonym.ParseHandle(user)
	if err != nil || target.Kind() != pseudonym.User {
		return errors.New("client: not a user identifier of the form mimi://domain/u/name")
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.conns[user]; conn != nil && conn.Complete {
		return errors.New("client: already connected with this user")
	}
	var fetched relayv1.FetchConnectionPackageResponse
	err = c.do(ctx, call{
		to: providerOf(target.Domain()), method: seal.MethodFetchConnectionPackage, token: true, kind: seal.AuthNone,
		body: &relayv1.FetchConnectionPackageRequest{User: user},
	}, &fetched)
	if err != nil {
		return fmt.Errorf("fetching a connection package: %w", err)
	}
	p, err := pseudonym.ParseConnectionPackage(fetched.GetPackage())
	if err != nil {
		return err
	}
	if _, err := p.Verify(target, c.trust.Providers, time.Now()); err != nil {
		return ErrUnverified
	}
	conn, b, err := c.newConnection(ctx, user)
	if err != nil {
		return fmt.Errorf("making the connection's pool: %w", err)
	}
	seed := primitive.NewSecret()
	linkID := [16]byte(random(16))
	r, err := c.create(ctx, hub, user, func(policy *pseudonym.Room, groupID []byte) {
		policy.JoinRule = pseudonym.JoinByConnection
		policy.Links = []pseudonym.RoomLink{pseudonym.NewRoomLink(linkID, seed, groupID, uint64(time.Now().Add(connectionLinkFor).Unix()))}
	})
	if err != nil {
		return fmt.Errorf("creating the connection room: %w", err)
	}
	sealed, err := c.request(conn, r, p, target, linkID, seed)
	if err != nil {
		return err
	}
	conn.Room, conn.LinkID = r.st.GroupID, linkID[:]
	if err := errors.Join(b.put(recConn+user, conn), r.save(b, false)); err != nil {
		return err
	}
	if err := c.store.Write(b); err != nil {
		return err
	}
	c.conns[user] = conn
	h := p.Hash()
	err = c.do(ctx, call{
		to: providerOf(target.Domain()), method: seal.MethodSendConnectionRequest, token: true, kind: seal.AuthNone,
		body: &relayv1.SendConnectionRequestRequest{PackageRef: h[:], Sealed: sealed},
	}, &relayv1.SendConnectionRequestResponse{})
	if err != nil {
		return fmt.Errorf("sending the request: %w", err)
	}
	return nil
}

// request makes the signed and sealed request, and notes what the answer must
// match.
func (c *Client) request(conn *connectionState, r *room, p *pseudonym.ConnectionPackage, target pseudonym.Handle, linkID [16]byte, seed primitive.Secret) ([]byte, error) {
	response, err := primitive.GenerateKEMKey(primitive.X25519)
	if err != nil {
		return nil, err
	}
	own, err := secretOf(conn.OwnKey)
	if err != nil {
		return nil, err
	}
	token, err := secretOf(conn.OwnToken)
	if err != nil {
		return nil, err
	}
	var wrapper primitive.Secret // of the static scheme
	if len(r.st.Wrapper) > 0 {
		if wrapper, err = secretOf(r.st.Wrapper); err != nil {
			return nil, err
		}
	}
	q, err := pseudonym.ConnectionRequest{
		Chain: c.real.Chain, RoomID: r.st.GroupID, WrapperKey: wrapper, ConnectionKey: own, ResponseKey: response.Public(),
		Token: token, KPProvider: c.account.Domain, HubDomain: r.st.Hub, LinkID: linkID, LinkSeed: seed,
	}.Sign(target, p.Hash(), c.real.Key)
	if err != nil {
		return nil, err
	}
	hash, err := q.Hash()
	if err != nil {
		return nil, err
	}
	conn.ResponseKey, conn.RequestHash = slices.Clone(response.Raw().Bytes()), hash[:]
	return q.Seal(p)
}

// Request is somebody's request for a connection.
type Request struct {
	// ID names the request for Accept and Reject.
	ID string `json:"id"`
	// User is who asks, verified.
	User string `json:"user"`

	raw *pseudonym.SignedRequest
}

// Requests returns the waiting connection requests. What does not open or is
// not genuine is deleted. Nothing is disclosed to anybody (SPEC.md R-35).
func (c *Client) Requests(ctx context.Context) ([]Request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.requests(ctx)
}

func (c *Client) requests(ctx context.Context) ([]Request, error) {
	res, err := retry(ctx, c.opts.retryFor, func() (*relayv1.ListConnectionRequestsResponse, error) {
		return relayv1.NewAccountServiceClient(c.t.session).ListConnectionRequests(ctx, &relayv1.ListConnectionRequestsRequest{Max: 64})
	})
	if err != nil {
		return nil, err
	}
	var out []Request
	var bad [][]byte
	for _, e := range res.GetRequests() {
		q, user, ok := c.openRequest(e)
		if !ok {
			bad = append(bad, e.GetId())
			continue
		}
		out = append(out, Request{ID: b64(e.GetId()), User: user, raw: q})
	}
	if len(bad) > 0 {
		if err := c.deleteRequests(ctx, bad); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *Client) openRequest(e *relayv1.ConnectionRequestEntry) (*pseudonym.SignedRequest, string, bool) {
	k := c.connKeys[b64(e.GetPackageRef())]
	if k == nil || len(e.GetPackageRef()) != 32 {
		return nil, "", false
	}
	raw, err := secretOf(k.Key)
	if err != nil {
		return nil, "", false
	}
	key, err := primitive.ParseKEMKey(primitive.X25519, raw)
	if err != nil {
		return nil, "", false
	}
	hash := [32]byte(e.GetPackageRef())
	q, err := pseudonym.OpenRequest(key, hash, e.GetSealed())
	if err != nil {
		return nil, "", false
	}
	real, err := q.Verify(c.self, hash, c.trust.Providers, time.Now())
	if err != nil {
		return nil, "", false
	}
	return q, real.User.String(), true
}

func (c *Client) deleteRequests(ctx context.Context, ids [][]byte) error {
	_, err := retry(ctx, c.opts.retryFor, func() (*relayv1.DeleteConnectionRequestsResponse, error) {
		return relayv1.NewAccountServiceClient(c.t.session).DeleteConnectionRequests(ctx, &relayv1.DeleteConnectionRequestsRequest{Ids: ids})
	})
	return err
}

func (c *Client) findRequest(ctx context.Context, id string) (Request, []byte, error) {
	qs, err := c.requests(ctx)
	if err != nil {
		return Request{}, nil, err
	}
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		return Request{}, nil, errors.New("client: not a request id")
	}
	for _, q := range qs {
		if q.ID == id {
			return q, raw, nil
		}
	}
	return Request{}, nil, errors.New("client: no such request")
}

// Reject deletes a request. The other side is not told (SPEC.md R-35).
func (c *Client) Reject(ctx context.Context, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, raw, err := c.findRequest(ctx, id)
	if err != nil {
		return err
	}
	return c.deleteRequests(ctx, [][]byte{raw})
}

// Accept accepts a request: it joins the connection room with the response in
// the authenticated data (SPEC.md R-36), after making sure that everybody in it
// is the user who asks.
func (c *Client) Accept(ctx context.Context, id string) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	q, raw, err := c.findRequest(ctx, id)
	if err != nil {
		return err
	}
	if old := c.conns[q.User]; old != nil && bytes.Equal(old.Room, q.raw.RoomID) {
		// Accepted before, by a process that did not come to the end.
		done, err := c.accepted(ctx, old)
		if err != nil {
			return fmt.Errorf("joining the connection room: %w", err)
		}
		if done {
			return c.deleteRequests(ctx, [][]byte{raw})
		}
	}
	conn, b, err := c.newConnection(ctx, q.User)
	if err != nil {
		return fmt.Errorf("making the connection's pool: %w", err)
	}
	hash, err := q.raw.Hash()
	if err != nil {
		return err
	}
	conn.PeerKey, conn.PeerToken = slices.Clone(q.raw.ConnectionKey.Bytes()), slices.Clone(q.raw.Token.Bytes())
	conn.PeerProvider, conn.Room, conn.Joining = q.raw.KPProvider, q.raw.RoomID, true
	// Before the join: whoever is in the connection room has its keys.
	if err := b.put(recConn+q.User, conn); err != nil {
		return err
	}
	if err := c.store.Write(b); err != nil {
		return err
	}
	c.conns[q.User] = conn
	_, err = c.enter(ctx, entry{
		hub: q.raw.HubDomain, groupID: q.raw.RoomID, linkID: q.raw.LinkID, seed: q.raw.LinkSeed, wrapper: q.raw.WrapperKey, peer: q.User,
		trust: func(_ string, names map[uint32]string) bool {
			for _, n := range names {
				if n != q.User {
					return false
				}
			}
			return len(names) > 0
		},
		items: func(tbsHash [32]byte, epoch uint64) (pseudonym.AAD, error) {
			return c.response(conn, q.raw, hash, tbsHash, epoch)
		},
	})
	if err != nil {
		if refused(err) {
			err = errors.Join(err, c.forgetConnection(conn))
		}
		return fmt.Errorf("joining the connection room: %w", err)
	}
	return c.deleteRequests(ctx, [][]byte{raw})
}

// accepted finds out whether an earlier Accept was accepted by the hub.
func (c *Client) accepted(ctx context.Context, conn *connectionState) (bool, error) {
	if r := c.rooms[b64(conn.Room)]; r != nil && r.st.Pending != nil {
		if err := c.settle(ctx, r); err != nil {
			return false, err
		}
	}
	return conn.Complete, nil
}

func (c *Client) forgetConnection(conn *connectionState) error {
	delete(c.conns, conn.Peer)
	b := make(batch)
	b.del(recConn + conn.Peer)
	return c.store.Write(b)
}

// connected completes a connection whose room was joined.
func (c *Client) connected(r *room, b batch) error {
	conn := c.conns[r.st.Peer]
	if conn == nil || !conn.Joining || !bytes.Equal(conn.Room, r.st.GroupID) {
		return nil
	}
	conn.Joining, conn.Complete = false, true
	if err := errors.Join(b.put(recConn+conn.Peer, conn), c.tellDevices(&deviceMessage{Connections: []*connectionState{conn}}, b)); err != nil {
		return err
	}
	return c.emit(b, Event{Kind: KindConnected, User: conn.Peer, Accepted: time.Now().UTC()})
}

// response makes the connection_response item.
func (c *Client) response(conn *connectionState, q *pseudonym.SignedRequest, requestHash, tbsHash [32]byte, epoch uint64) (pseudonym.AAD, error) {
	own, err := secretOf(conn.OwnKey)
	if err != nil {
		return nil, err
	}
	token, err := secretOf(conn.OwnToken)
	if err != nil {
		return nil, err
	}
	p, err := pseudonym.ConnectionResponse{ConnectionKey: own, Token: token, KPProvider: c.account.Domain, Chain: c.real.Chain}.Sign(q.RoomID, requestHash, tbsHash, c.real.Key)
	if err != nil {
		return nil, err
	}
	sealed, err := p.Seal(q.ResponseKey, q.RoomID, epoch, tbsHash)
	if err != nil {
		return nil, err
	}
	return pseudonym.AAD{{Type: pseudonym.AADConnectionResponse, Data: sealed}}, nil
}

// answered looks for the answer to our request in a commit to its connection
// room, and completes the connection if the leaf that joined, the credential of
// the answer and the user we asked are one (SPEC.md R-39). Otherwise the leaf is
// to be removed.
func (c *Client) answered(_ context.Context, r *room, ev *mls.Event, b batch) error {
	conn := c.conns[r.st.Peer]
	if r.st.Peer == "" || conn == nil || conn.Complete || len(conn.ResponseKey) == 0 || !ev.Commit.External {
		return nil
	}
	if err := c.checkAnswer(r, conn, ev); err != nil {
		conn.Unwanted = append(conn.Unwanted, uint32(ev.Commit.Committer))
		c.opts.log.Warn("somebody else answered a connection request")
		return b.put(recConn+conn.Peer, conn)
	}
	conn.Complete, conn.ResponseKey, conn.RequestHash, conn.Settle = true, nil, nil, true
	if err := errors.Join(b.put(recConn+conn.Peer, conn), c.tellDevices(&deviceMessage{Connections: []*connectionState{conn}}, b)); err != nil {
		return err
	}
	return c.emit(b, Event{Kind: KindConnected, User: conn.Peer, Accepted: time.Now().UTC()})
}

func (c *Client) checkAnswer(r *room, conn *connectionState, ev *mls.Event) error {
	aad, err := pseudonym.ParseAAD(ev.AAD)
	if err != nil {
		return err
	}
	data, ok := aad.Get(pseudonym.AADConnectionResponse)
	leaf := ev.Commit.PathLeaf
	if !ok || leaf == nil {
		return mmrerr.AAD
	}
	cred, err := credentialOf(leaf)
	if err != nil {
		return err
	}
	raw, err := secretOf(conn.ResponseKey)
	if err != nil {
		return err
	}
	key, err := primitive.ParseKEMKey(primitive.X25519, raw)
	if err != nil {
		return err
	}
	hash := cred.Hash()
	p, err := pseudonym.OpenResponse(key, r.st.GroupID, ev.Epoch, hash, data)
	if err != nil {
		return err
	}
	target, err := pseudonym.ParseHandle(conn.Peer)
	if err != nil {
		return err
	}
	if _, err := p.Verify(target, r.st.GroupID, [32]byte(conn.RequestHash), hash, c.trust.Providers, time.Now()); err != nil {
		return err
	}
	real, ok := c.reveal(r, uint32(ev.Commit.Committer), cred)
	if !ok || real.User != target {
		return ErrUnverified
	}
	conn.PeerKey, conn.PeerToken, conn.PeerProvider = slices.Clone(p.ConnectionKey.Bytes()), slices.Clone(p.Token.Bytes()), p.KPProvider
	return nil
}

// tidy does what answered left to do: drop the link of a complete connection and
// make the peer admin, or remove whoever answered wrongly (SPEC.md R-39).
func (c *Client) tidy(ctx context.Context) error {
	if time.Now().Before(c.tidyAfter) {
		return nil // a hub is out of reach; it must not hold up the mailbox
	}
	for _, conn := range c.conns {
		r := c.rooms[b64(conn.Room)]
		if r == nil || !conn.Settle && len(conn.Unwanted) == 0 {
			continue
		}
		if r.usable() != nil {
			continue
		}
		err := c.update(ctx, r, func() (*plan, error) { return c.tidyPlan(r, conn) })
		if err != nil && !refused(err) {
			c.tidyAfter = time.Now().Add(tidyPause)
			return err
		}
		conn.Settle, conn.Unwanted = false, nil
		b := make(batch)
		if err := b.put(recConn+conn.Peer, conn); err != nil {
			return err
		}
		if err := c.store.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// tidyPause is how long tidying waits after a hub was out of reach.
const tidyPause = time.Minute

func (c *Client) tidyPlan(r *room, conn *connectionState) (*plan, error) {
	p := new(plan)
	for _, i := range conn.Unwanted {
		if r.g.Public().Leaf(mls.LeafIndex(i)) != nil {
			p.proposals = append(p.proposals, mls.RemoveProposal(mls.LeafIndex(i)))
		}
	}
	if !conn.Settle {
		return p, nil
	}
	policy, err := r.policy()
	if err != nil {
		return nil, err
	}
	policy.Links = nil
	for _, l := range r.g.Public().Members() {
		cred, err := credentialOf(l)
		if err != nil || policy.RoleOf(cred.User) == pseudonym.Admin {
			continue
		}
		policy.Roles = append(policy.Roles, pseudonym.RoleEntry{User: cred.User, Role: pseudonym.Admin})
	}
	slices.SortFunc(policy.Roles, func(a, b pseudonym.RoleEntry) int {
		switch {
		case a.User.String() < b.User.String():
			return -1
		case a.User.String() > b.User.String():
			return 1
		}
		return 0
	})
	change, err := r.policyChange(policy)
	if err != nil {
		return nil, err
	}
	p.proposals = append(p.proposals, change)
	return p, nil
}

// Connections lists the users this client is connected with.
func (c *Client) Connections() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for u, conn := range c.conns {
		if conn.Complete {
			out = append(out, u)
		}
	}
	slices.Sort(out)
	return out
}
