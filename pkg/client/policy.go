package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// changePolicy commits a change of the room's policy. mu is held.
func (c *Client) changePolicy(ctx context.Context, r *room, change func(p *pseudonym.Room) error) error {
	return c.update(ctx, r, func() (*plan, error) {
		policy, err := r.policy()
		if err != nil {
			return nil, err
		}
		r.dropDeparted(policy)
		if err := change(policy); err != nil {
			return nil, err
		}
		slices.SortFunc(policy.Roles, func(a, b pseudonym.RoleEntry) int { return cmp.Compare(a.User.String(), b.User.String()) })
		slices.SortFunc(policy.Links, func(a, b pseudonym.RoomLink) int { return slices.Compare(a.ID[:], b.ID[:]) })
		proposal, err := r.policyChange(policy)
		if err != nil {
			return nil, err
		}
		return &plan{proposals: []*mls.ProposalBody{proposal}}, nil
	})
}

// dropDeparted drops role entries of users without a leaf, which a new list must
// not name (SPEC.md R-111). Those that leave with this commit have none after it.
func (r *room) dropDeparted(policy *pseudonym.Room) {
	leaving := r.leaving()
	present := make(map[pseudonym.ID]bool)
	for i, l := range r.g.Public().Members() {
		if cred, err := credentialOf(l); err == nil && !leaving[i] {
			present[cred.User] = true
		}
	}
	policy.Roles = slices.DeleteFunc(policy.Roles, func(e pseudonym.RoleEntry) bool { return !present[e.User] })
}

// SetRole gives a member a role: "observer", "member", "moderator" or "admin"
// (SPEC.md R-110). member is a verified user identifier or a pseudonym of the
// room.
func (c *Client) SetRole(ctx context.Context, roomURI, user, role string) error {
	var to pseudonym.Role
	for r, name := range roleNames {
		if name == role {
			to = r
		}
	}
	if to == 0 {
		return errors.New("client: no such role: observer, member, moderator or admin")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return err
	}
	return c.changePolicy(ctx, r, func(p *pseudonym.Room) error {
		id, err := r.participant(c, user)
		if err != nil {
			return err
		}
		p.Roles = slices.DeleteFunc(p.Roles, func(e pseudonym.RoleEntry) bool { return e.User == id })
		if to != p.DefaultRole {
			p.Roles = append(p.Roles, pseudonym.RoleEntry{User: id, Role: to})
		}
		return nil
	})
}

// participant finds the user pseudonym of a member.
func (r *room) participant(c *Client, user string) (pseudonym.ID, error) {
	names := r.names(c)
	for i, l := range r.g.Public().Members() {
		if cred, err := credentialOf(l); err == nil && (names[uint32(i)] == user || cred.User.String() == user) {
			return cred.User, nil
		}
	}
	return pseudonym.ID{}, errNoMember
}

var errNoMember = fmt.Errorf("client: no such member in this room: %w", ErrUnverified)

// RevokeLinks ends all join links of a room.
func (c *Client) RevokeLinks(ctx context.Context, roomURI string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.lookup(roomURI)
	if err != nil {
		return err
	}
	return c.changePolicy(ctx, r, func(p *pseudonym.Room) error {
		p.Links = nil
		return nil
	})
}
