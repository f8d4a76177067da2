package client

import "github.com/mmrelay/mmrelay/pkg/pseudonym"

// RoomOption shapes a new room. Without any, members reveal who they are to each
// other through the link key tree, the hub stores the room under a key of the
// members, and holders of a link may join.
type RoomOption interface{ shape(*pseudonym.Room) }

type roomOption func(*pseudonym.Room)

func (f roomOption) shape(p *pseudonym.Room) { f(p) }

// WithStaticLinks shares link keys under one constant wrapper key, as the draft
// describes it. A former member and the hub together open every later member's
// identity (SPEC.md R-19): for conformance only.
func WithStaticLinks() RoomOption {
	return roomOption(func(p *pseudonym.Room) { p.Scheme = pseudonym.SchemeStatic })
}

// WithHubKey lets the hub store the room under a key of its own.
func WithHubKey() RoomOption { return roomOption(func(p *pseudonym.Room) { p.EAR = false }) }

// WithIdentities says which members must show the others who they are (SPEC.md
// all, the moderators and admins alone, who likes to, or nobody.
func WithIdentities(r pseudonym.LinkKeyRequirement) RoomOption {
	return roomOption(func(p *pseudonym.Room) { p.Requirement = r })
}

// WithInviteOnly admits nobody by a link.
func WithInviteOnly() RoomOption {
	return roomOption(func(p *pseudonym.Room) { p.JoinRule = pseudonym.JoinByInvite })
}

// WithObservers makes those who join observers, who read and do not write,
// unless they are given a role.
func WithObservers() RoomOption {
	return roomOption(func(p *pseudonym.Room) { p.DefaultRole = pseudonym.Observer })
}
