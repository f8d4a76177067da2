package client

import (
	"context"
	"fmt"
	"slices"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Recreate makes a new room in place of one that is forked, locked or stuck
// (SPEC.md R-142): the same policy at hub, with the members this client is
// connected with, except those named. It returns the new room and the members
// who could not be added. The old room stays as it is.
func (c *Client) Recreate(ctx context.Context, roomURI, hub string, without ...string) (room string, missing []string, err error) {
	c.mu.Lock()
	r := c.find(roomURI)
	if r == nil || r.g.Status() != member.Active {
		c.mu.Unlock()
		return "", nil, ErrNoRoom
	}
	if hub == "" {
		hub = r.st.Hub
	}
	old, err := r.policy()
	var users []string
	for _, l := range c.resolve(r) {
		name := l.real.User.String()
		if !l.verified || name == c.self.String() || slices.Contains(without, name) || slices.Contains(users, name) {
			continue
		}
		users = append(users, name)
	}
	c.mu.Unlock()
	if err != nil {
		return "", nil, err
	}
	slices.Sort(users)
	room, err = c.CreateRoom(ctx, hub, roomOption(func(p *pseudonym.Room) {
		p.Requirement, p.Scheme, p.EAR, p.JoinRule, p.DefaultRole, p.Limits = old.Requirement, old.Scheme, old.EAR, old.JoinRule, old.DefaultRole, old.Limits
	}))
	if err != nil {
		return "", nil, fmt.Errorf("making the room anew: %w", err)
	}
	for _, u := range users {
		if err := c.Add(ctx, room, u); err != nil {
			missing = append(missing, u)
		}
	}
	return room, missing, c.store.broken()
}

// putGroupInfo gives the hub a GroupInfo with the right external_pub, where that
// of the last committer is wrong: the hub cannot check it (SPEC.md R-126).
func (c *Client) putGroupInfo(ctx context.Context, r *room) error {
	if !r.st.WrongPub {
		return nil
	}
	info, err := r.g.GroupInfo(member.GroupInfoOptions{WithoutTree: true})
	if err != nil {
		return err
	}
	if err := c.roomCall(ctx, r, seal.MethodPutGroupInfo, &hubv1.PutGroupInfoRequest{GroupInfo: info}, &hubv1.PutGroupInfoResponse{}); err != nil {
		return err
	}
	r.st.WrongPub = false
	return c.write(r)
}
