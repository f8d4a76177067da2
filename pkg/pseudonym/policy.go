package pseudonym

import (
	"cmp"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

// The role table of SPEC.md R-110 and the rules of R-111, as functions without
// state: the hub decides by them, and every member checks the hub by them.
// Roles are those of the state before the commit and belong to the author of a
// proposal. What everyone may do for the own user is not asked here: empty path
// commits, own Updates and credentials, own-user Adds and Removes, resync,
// committing cached proposals.

// RoleOf returns a participant's role: its entry, else the default.
func (m *Room) RoleOf(user ID) Role {
	if e, ok := m.entry(user); ok {
		return e.Role
	}
	return m.DefaultRole
}

// Entry returns the role entry of a user, and whether there is one.
func (m *Room) Entry(user ID) (RoleEntry, bool) { return m.entry(user) }

func (m *Room) entry(user ID) (RoleEntry, bool) {
	i, ok := slices.BinarySearchFunc(m.Roles, user.uri, func(e RoleEntry, uri string) int { return cmp.Compare(e.User.uri, uri) })
	if !ok {
		return RoleEntry{}, false
	}
	return m.Roles[i], true
}

// MaySend reports whether a user of that role may send application messages.
func (m *Room) MaySend(r Role) bool { return r >= Member }

// MayAdd reports whether a user of that role may add new users.
func (m *Room) MayAdd(r Role) bool { return r >= m.Limits.AddMinRole }

// MayLink reports whether a user of that role may add or delete links.
func (m *Room) MayLink(r Role) bool { return r >= m.Limits.LinkMinRole }

// MayRemove reports whether a user of the role author may remove leaves of
// another user of the role target: moderators those of a lower role, admins all
// but other admins'.
func (m *Room) MayRemove(author, target Role) bool { return author >= Moderator && target < author }

// KeyRule says whether a leaf gives a link key.
type KeyRule uint8

// The rules.
const (
	KeyRequired KeyRule = iota + 1
	KeyOptional
	KeyForbidden
)

// KeyRule returns the rule for leaves of a user with that role after the commit
// (SPEC.md ).
func (m *Room) KeyRule(r Role) KeyRule {
	switch {
	case m.Requirement == RequireAll, m.Requirement == RequireAdmins && r >= Moderator:
		return KeyRequired
	case m.Requirement == RequireOptional:
		return KeyOptional
	}
	return KeyForbidden
}

// Check returns mmr/link-key-missing or mmr/link-key-forbidden unless the rule
// allows the key to be present or absent.
func (k KeyRule) Check(present bool) error {
	switch {
	case k == KeyRequired && !present:
		return mmrerr.LinkKeyMissing
	case k == KeyForbidden && present:
		return mmrerr.LinkKeyForbidden
	}
	return nil
}

// CheckCreation is the part of SPEC.md R-120 about the policy: the creator's
// user pseudonym has the only role entry and is admin, else mmr/policy-change.
func (m *Room) CheckCreation(creator ID) error {
	if len(m.Roles) != 1 || m.Roles[0] != (RoleEntry{User: creator, Role: Admin}) {
		return mmrerr.PolicyChange
	}
	return nil
}

// CheckChange judges the replacement of old by m in a commit of author, a user
// pseudonym (SPEC.md R-111). isParticipant tells who has a leaf after the
// commit. Changes that nobody may make are mmr/policy-change, those the
// author's role does not allow mmr/role.
func (m *Room) CheckChange(old *Room, author ID, isParticipant func(ID) bool) error {
	if m.Requirement != old.Requirement || m.Scheme != old.Scheme || m.EAR != old.EAR {
		return mmrerr.PolicyChange
	}
	if err := m.valid(); err != nil {
		return err
	}
	admins := 0
	for _, e := range m.Roles {
		if !isParticipant(e.User) {
			return mmrerr.PolicyChange
		}
		if e.Role == Admin {
			admins++
		}
	}
	if admins == 0 {
		return mmrerr.PolicyChange
	}
	role := old.RoleOf(author)
	if (m.DefaultRole != old.DefaultRole || m.JoinRule != old.JoinRule || m.Limits != old.Limits) && role != Admin {
		return mmrerr.Role
	}
	if !slices.Equal(m.Links, old.Links) && !old.MayLink(role) {
		return mmrerr.Role
	}
	return m.checkRoles(old, author, role, isParticipant)
}

// checkRoles judges every entry that was added, changed or dropped. Dropping
// the entry of a departed user needs no role.
func (m *Room) checkRoles(old *Room, author ID, role Role, isParticipant func(ID) bool) error {
	for _, before := range old.Roles {
		after, kept := m.entry(before.User)
		if kept && after == before || !kept && !isParticipant(before.User) {
			continue
		}
		if !maySetRole(role, before.Role, m.RoleOf(before.User), before.User == author) {
			return mmrerr.Role
		}
	}
	for _, after := range m.Roles {
		if _, had := old.entry(after.User); !had && !maySetRole(role, old.DefaultRole, after.Role, after.User == author) {
			return mmrerr.Role
		}
	}
	return nil
}

// maySetRole is the row "set roles" of SPEC.md R-110.
func maySetRole(author, from, to Role, self bool) bool {
	switch author {
	case Admin:
		return from != Admin || to == Admin || self
	case Moderator:
		return from <= Member && to <= Member
	default:
		return false
	}
}
