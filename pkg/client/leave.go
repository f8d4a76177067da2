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
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// leavingState is a leave that was sent or will be: its proposals are signed for
// one epoch.
type leavingState struct {
	Request   []byte // the body of hub.Update
	RequestID []byte
}

// Leave leaves a room with all devices of this user (SPEC.md R-113): it proposes
// their removal, which another member's next commit carries out, and deletes the
// room's state once the hub has accepted that. A leave cannot be withdrawn.
func (c *Client) Leave(ctx context.Context, roomURI string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return err
	}
	if r.st.Leaving == nil {
		if err := c.settle(ctx, r); err != nil {
			return err
		}
		if err := c.stageLeave(r); err != nil {
			return err
		}
	}
	return c.finishLeave(ctx, r)
}

// finishLeave sends a stored leave. Its proposals are made anew when their epoch
// is over, also after a restart: a leave that was asked for is not forgotten.
func (c *Client) finishLeave(ctx context.Context, r *room) error {
	for range maxRaces {
		err := c.sendLeave(ctx, r)
		if !raced(err) {
			return err
		}
		if err := c.catchUp(ctx, r); err != nil {
			return err
		}
		if r.st.Removed {
			return nil // somebody was faster
		}
		if err := r.usable(); err != nil {
			return err
		}
		if err := c.stageLeave(r); err != nil {
			return err
		}
	}
	return errors.New("client: the room's epoch changed all the time; try again")
}

// stageLeave makes the proposals and stores them before they are sent.
func (c *Client) stageLeave(r *room) error {
	user, err := r.user()
	if err != nil {
		return err
	}
	aad, err := pseudonym.AAD{}.AppendBinary(nil)
	if err != nil {
		return err
	}
	req := new(hubv1.UpdateRequest)
	g := r.g
	for i, l := range r.g.Public().Members() {
		cred, err := credentialOf(l)
		if err != nil || cred.User != user {
			continue
		}
		var msg []byte
		if g, msg, err = g.Propose(mls.RemoveProposal(i), member.SendOptions{AAD: aad}); err != nil {
			return fmt.Errorf("proposing to leave: %w", err)
		}
		req.Proposals = append(req.Proposals, msg)
	}
	body, err := proto.Marshal(req)
	if err != nil {
		return err
	}
	r.st.Leaving = &leavingState{Request: body, RequestID: random(16)}
	return c.write(r) // without the proposals themselves: they are for others to commit
}

// sendLeave sends a stored leave and forgets the room when it was accepted.
func (c *Client) sendLeave(ctx context.Context, r *room) error {
	req := new(hubv1.UpdateRequest)
	if err := proto.Unmarshal(r.st.Leaving.Request, req); err != nil {
		return err
	}
	var res hubv1.UpdateResponse
	err := c.roomRequest(ctx, r, seal.MethodUpdate, [16]byte(r.st.Leaving.RequestID), req, &res)
	gone := errors.Is(err, mmrerr.Leaving) || errors.Is(err, mmrerr.NoRoom) // accepted before, and carried out or not
	if err != nil && !gone {
		if refused(err) && !raced(err) {
			r.st.Leaving = nil
			return errors.Join(err, c.write(r))
		}
		return err
	}
	b := make(batch)
	return errors.Join(c.tellDevices(&deviceMessage{Left: r.st.GroupID}, b), c.left(r, b), c.store.Write(b))
}

// left forgets a room that was left.
func (c *Client) left(r *room, b batch) error {
	if err := c.emit(b, Event{Kind: KindLeft, Room: r.st.uri(), Accepted: time.Now().UTC()}); err != nil {
		return err
	}
	return c.forgetRoom(r, b)
}

// user is the own user pseudonym in the room.
func (r *room) user() (pseudonym.ID, error) {
	l := r.g.Public().Leaf(r.g.OwnLeaf())
	if l == nil {
		return pseudonym.ID{}, ErrRemoved
	}
	cred, err := credentialOf(l)
	return cred.User, err
}

// commitRemoves carries out the leave of others, at a random time after it was
// proposed (SPEC.md R-113). mu is held.
func (c *Client) commitRemoves(ctx context.Context, r *room) error {
	if !r.removesWaiting() {
		return nil
	}
	return c.update(ctx, r, func() (*plan, error) { return new(plan), nil })
}

func (r *room) removesWaiting() bool { return len(r.leaving()) > 0 }

// leaving are the leaves that the next commit removes by proposals of their
// users, or of the hub.
func (r *room) leaving() map[mls.LeafIndex]bool {
	out := make(map[mls.LeafIndex]bool)
	for _, p := range r.g.Public().Proposals() {
		if p.Type == mls.ProposalRemove {
			out[p.Remove] = true
		}
	}
	return out
}
