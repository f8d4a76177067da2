package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// mailboxCall sends a request signed by the mailbox's key.
func (c *Client) mailboxCall(ctx context.Context, method string, body, out proto.Message) error {
	key, err := c.queueKey()
	if err != nil {
		return err
	}
	return c.do(ctx, call{to: providerOf(c.account.Domain), method: method, kind: seal.AuthQueue, signer: key, body: body}, out)
}

// Block makes the relay drop, without a word to the hub, what comes to this
// client's present address in a room (SPEC.md R-54): for rooms that cannot be
// left because their hub does not answer.
func (c *Client) Block(ctx context.Context, roomURI string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.find(roomURI)
	if r == nil {
		return ErrNoRoom
	}
	own := r.g.Public().Leaf(r.g.OwnLeaf())
	if own == nil {
		return ErrRemoved
	}
	data, _ := mls.FindExtension(own.Extensions, mls.ExtensionType(pseudonym.ExtensionDelivery))
	d, err := seal.ParseDelivery(data)
	if err != nil {
		return err
	}
	h, err := c.handle(d.Key)
	if err != nil {
		return err
	}
	if err := c.mailboxCall(ctx, seal.MethodQueueBlock, &relayv1.QueueBlockRequest{QueueId: c.account.QueueID, Handle: h[:]}, &relayv1.QueueBlockResponse{}); err != nil {
		return fmt.Errorf("blocking: %w", err)
	}
	return nil
}

// SetPush gives the mailbox a token that the relay hands to its provider's push
// webhook when entries come while nobody listens, or ends that with an empty
// one. Seal it to the push gateway, so that the relay cannot read it; at most 512
// bytes.
func (c *Client) SetPush(ctx context.Context, token []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mailboxCall(ctx, seal.MethodQueueSetPush, &relayv1.QueueSetPushRequest{QueueId: c.account.QueueID, Token: token}, &relayv1.QueueSetPushResponse{})
}

// MailboxStat says how full the mailbox is.
type MailboxStat struct {
	// Entries wait to be read; Dropped is how many the full mailbox has refused.
	Entries, Dropped uint64
}

// Mailbox asks the relay about the mailbox.
func (c *Client) Mailbox(ctx context.Context) (MailboxStat, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var res relayv1.QueueStatResponse
	err := c.mailboxCall(ctx, seal.MethodQueueStat, &relayv1.QueueStatRequest{QueueId: c.account.QueueID}, &res)
	return MailboxStat{Entries: res.GetEntries(), Dropped: res.GetDropped()}, err
}

// Disconnect ends a connection (SPEC.md R-40): its pool is deleted, so that the
// peer can add this user to no more rooms, and its keys are forgotten. The peer
// is not told. Rooms in common stay.
func (c *Client) Disconnect(ctx context.Context, user string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.conns[user]
	if conn == nil {
		return ErrNoConnection
	}
	id, upload, err := conn.pool()
	if err != nil {
		return err
	}
	err = c.do(ctx, call{
		to: providerOf(c.account.Domain), method: seal.MethodPoolDelete, kind: seal.AuthPool, signer: upload, body: &relayv1.PoolDeleteRequest{PoolId: id[:]},
	}, &relayv1.PoolDeleteResponse{})
	if err != nil && !refused(err) { // refused: it was deleted before
		return err
	}
	b := make(batch)
	c.dropConnection(user, b)
	if err := c.tellDevices(&deviceMessage{Gone: user}, b); err != nil {
		return err
	}
	return c.store.Write(b)
}

// dropConnection forgets a connection with its keys, those of packages in its
// pool included.
func (c *Client) dropConnection(user string, b batch) {
	if c.conns[user] == nil {
		return
	}
	delete(c.conns, user)
	b.del(recConn + user)
	for ref, p := range c.packages {
		if p.Peer == user {
			delete(c.packages, ref)
			b.del(recPackage + ref)
		}
	}
}

// RemoveDevice ends another device of this user, because it was lost (SPEC.md
// §21, A9): its account session, its place in pools and among the devices at
// once, its leaves in rooms over the next hours, since what happens in several
// rooms at once links them. What it has seen, it has seen.
func (c *Client) RemoveDevice(ctx context.Context, device string) error {
	if device == c.account.Device {
		return errors.New("client: this is the device itself; leave its rooms instead")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// First of all: from now on the device is believed nothing, and what is not done
	// below, or before a crash, is done later.
	if !slices.Contains(c.account.Ousted, device) {
		c.account.Ousted = append(c.account.Ousted, device)
		b := make(batch)
		if err := errors.Join(b.put(recAccount, c.account), c.store.Write(b)); err != nil {
			return err
		}
	}
	_, err := retry(ctx, c.opts.retryFor, func() (*relayv1.RemoveClientResponse, error) {
		return relayv1.NewAccountServiceClient(c.t.session).RemoveClient(ctx, &relayv1.RemoveClientRequest{Client: device})
	})
	if err != nil {
		return fmt.Errorf("ending the device's session: %w", err)
	}
	var errs []error
	for _, conn := range c.conns {
		if _, ok := conn.Slots[device]; ok {
			if err := c.setSlots(ctx, conn, c.slotsOf(conn)); err != nil && !refused(err) {
				errs = append(errs, err)
			}
		}
	}
	if r := c.devices(); r != nil {
		errs = append(errs, c.oust(ctx, r, device))
	}
	return errors.Join(append(errs, c.store.broken())...)
}

// slotsOf are the slots that a pool should have: without lost devices, with this
// one.
func (c *Client) slotsOf(conn *connectionState) map[string][]byte {
	slots := make(map[string][]byte, len(conn.Slots)+1)
	for device, slot := range conn.Slots {
		if !slices.Contains(c.account.Ousted, device) {
			slots[device] = slot
		}
	}
	if len(conn.Slots) > 0 {
		slots[c.account.Device] = c.account.SlotID
	}
	return slots
}

// lost reports whether a device of this user was lost.
func (c *Client) lost(device pseudonym.Handle) bool {
	_, name, _ := strings.Cut(device.String(), "/d/")
	return slices.Contains(c.account.Ousted, name)
}

// ousted lists the leaves of lost devices in a room.
func (c *Client) ousted(r *room, devices []string) (out []*mls.ProposalBody) {
	if len(devices) == 0 {
		return nil
	}
	for i, l := range c.resolve(r) {
		if !l.verified || l.real.User != c.self {
			continue
		}
		if _, name, _ := strings.Cut(l.real.Client.String(), "/d/"); slices.Contains(devices, name) {
			out = append(out, mls.RemoveProposal(mls.LeafIndex(i)))
		}
	}
	return out
}

// oust removes the leaves of lost devices from a room.
func (c *Client) oust(ctx context.Context, r *room, devices ...string) error {
	if len(c.ousted(r, devices)) == 0 {
		return nil
	}
	return c.update(ctx, r, func() (*plan, error) { return &plan{proposals: c.ousted(r, devices)}, nil })
}
