package pseudonym_test

import (
	"bytes"
	"cmp"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

func testLink(b byte) pseudonym.RoomLink {
	seed, _ := primitive.ParseSecret(bytes.Repeat([]byte{b}, 32))
	return pseudonym.NewRoomLink([16]byte{b}, seed, make([]byte, 32), 1000)
}

// users are four sorted user pseudonyms.
func users(tb testing.TB) []pseudonym.ID {
	tb.Helper()
	ids := make([]pseudonym.ID, 4)
	for i := range ids {
		ids[i] = newID(tb, "a.example", pseudonym.User)
	}
	slices.SortFunc(ids, func(a, b pseudonym.ID) int { return cmp.Compare(a.String(), b.String()) })
	return ids
}

func testRoom(u []pseudonym.ID) *pseudonym.Room {
	return &pseudonym.Room{
		Requirement: pseudonym.RequireAll, Scheme: pseudonym.SchemeTree, EAR: true, JoinRule: pseudonym.JoinByLink, DefaultRole: pseudonym.Member,
		Roles: []pseudonym.RoleEntry{{User: u[0], Role: pseudonym.Admin}, {User: u[1], Role: pseudonym.Moderator}},
		Links: []pseudonym.RoomLink{testLink(1), testLink(2)}, Limits: pseudonym.DefaultLimits(),
	}
}

func sameRoom(a, b *pseudonym.Room) bool {
	return gocmp.Equal(a, b, gocmp.Comparer(func(x, y pseudonym.ID) bool { return x == y }),
		gocmp.Comparer(func(x, y primitive.KEMPublicKey) bool { return x == y }))
}

func clone(m *pseudonym.Room) *pseudonym.Room {
	c := *m
	c.Roles, c.Links = slices.Clone(m.Roles), slices.Clone(m.Links)
	return &c
}

func TestRoomEncoding(t *testing.T) {
	u := users(t)
	m := testRoom(u)
	b, err := m.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pseudonym.ParseRoom(b)
	if err != nil || !sameRoom(got, m) {
		t.Errorf("round trip: %v", err)
	}
	bare := &pseudonym.Room{
		Requirement: pseudonym.RequireNone, Scheme: pseudonym.SchemeStatic, JoinRule: pseudonym.JoinByInvite, DefaultRole: pseudonym.Observer,
		Limits: pseudonym.RoomLimits{AddMinRole: pseudonym.Admin, LinkMinRole: pseudonym.Member},
	}
	b2, err := bare.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	// version, requirement, scheme, ear, join_rule, default_role, roles, links, limits
	equal(t, "bare room", b2, []byte{1, 4, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 2})
	if got, err := pseudonym.ParseRoom(b2); err != nil || !sameRoom(got, bare) {
		t.Errorf("round trip: %v", err)
	}
	for i, v := range map[int][]byte{0: {0, 2}, 1: {0, 5}, 2: {0, 3}, 3: {2, 255}, 4: {0, 4}, 5: {0, 3, 4}, 18: {0, 1, 5}, 19: {0, 1, 5}} {
		for _, x := range v {
			bad := bytes.Clone(b2)
			bad[i] = x
			m, err := pseudonym.ParseRoom(bad)
			is(t, "bad byte", err, mmrerr.Malformed)
			if m != nil {
				t.Errorf("byte %d = %d: accepted", i, x)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(m *pseudonym.Room)
		want   mmrerr.Code
	}{
		"roles out of order": {func(m *pseudonym.Room) { m.Roles[0], m.Roles[1] = m.Roles[1], m.Roles[0] }, mmrerr.Malformed},
		"role twice":         {func(m *pseudonym.Room) { m.Roles[1].User = m.Roles[0].User }, mmrerr.PolicyChange},
		"role 0":             {func(m *pseudonym.Room) { m.Roles[0].Role = 0 }, mmrerr.Malformed},
		"role 5":             {func(m *pseudonym.Room) { m.Roles[0].Role = 5 }, mmrerr.Malformed},
		"client in roles":    {func(m *pseudonym.Room) { m.Roles[1].User = newID(t, "a.example", pseudonym.Client) }, mmrerr.Malformed},
		"links out of order": {func(m *pseudonym.Room) { m.Links[0], m.Links[1] = m.Links[1], m.Links[0] }, mmrerr.Malformed},
		"link twice":         {func(m *pseudonym.Room) { m.Links[1] = m.Links[0] }, mmrerr.Malformed},
		"link without key":   {func(m *pseudonym.Room) { m.Links[0].Pub = primitive.KEMPublicKey{} }, mmrerr.Malformed},
		"nine links": {func(m *pseudonym.Room) {
			m.Links = nil
			for i := range byte(9) {
				m.Links = append(m.Links, testLink(i))
			}
		}, mmrerr.Limit},
	} {
		m := testRoom(u)
		c.change(m)
		b, err := m.AppendBinary([]byte("head"))
		is(t, name, err, c.want)
		if string(b) != "head" {
			t.Errorf("%s: appended", name)
		}
	}
	if l, ok := m.Link(m.Links[1].CodeHash, 1000); !ok || l.ID != m.Links[1].ID {
		t.Error("link not found")
	}
	if _, ok := m.Link(m.Links[1].CodeHash, 1001); ok {
		t.Error("expired link found")
	}
	if _, ok := m.Link([32]byte{}, 0); ok {
		t.Error("link without code found")
	}
}

// TestRoleTable is the table of SPEC.md R-110, role by role.
func TestRoleTable(t *testing.T) {
	roles := []pseudonym.Role{pseudonym.Observer, pseudonym.Member, pseudonym.Moderator, pseudonym.Admin}
	m := testRoom(users(t))
	for i, r := range roles {
		if got, want := m.MaySend(r), r != pseudonym.Observer; got != want {
			t.Errorf("role %d may send: %v", r, got)
		}
		for j, least := range roles[1:] {
			m.Limits.AddMinRole, m.Limits.LinkMinRole = least, roles[3-j]
			if got, want := m.MayAdd(r), i >= j+1; got != want {
				t.Errorf("role %d may add from %d: %v", r, least, got)
			}
			if got, want := m.MayLink(r), i >= 3-j; got != want {
				t.Errorf("role %d may link from %d: %v", r, roles[3-j], got)
			}
		}
		for j, target := range roles {
			want := r == pseudonym.Moderator && j < 2 || r == pseudonym.Admin && j < 3
			if got := m.MayRemove(r, target); got != want {
				t.Errorf("role %d may remove %d: %v", r, target, got)
			}
		}
	}
	for req, want := range map[pseudonym.LinkKeyRequirement][4]pseudonym.KeyRule{
		pseudonym.RequireAll:      {pseudonym.KeyRequired, pseudonym.KeyRequired, pseudonym.KeyRequired, pseudonym.KeyRequired},
		pseudonym.RequireAdmins:   {pseudonym.KeyForbidden, pseudonym.KeyForbidden, pseudonym.KeyRequired, pseudonym.KeyRequired},
		pseudonym.RequireOptional: {pseudonym.KeyOptional, pseudonym.KeyOptional, pseudonym.KeyOptional, pseudonym.KeyOptional},
		pseudonym.RequireNone:     {pseudonym.KeyForbidden, pseudonym.KeyForbidden, pseudonym.KeyForbidden, pseudonym.KeyForbidden},
	} {
		m.Requirement = req
		for i, r := range roles {
			if got := m.KeyRule(r); got != want[i] {
				t.Errorf("requirement %d, role %d: %d", req, r, got)
			}
		}
	}
}

func TestCreation(t *testing.T) {
	u := users(t)
	m := testRoom(u)
	m.Roles = m.Roles[:1]
	is(t, "creator is admin", m.CheckCreation(u[0]), nil)
	is(t, "another is admin", m.CheckCreation(u[1]), mmrerr.PolicyChange)
	m.Roles[0].Role = pseudonym.Moderator
	is(t, "creator is moderator", m.CheckCreation(u[0]), mmrerr.PolicyChange)
	m.Roles = nil
	is(t, "nobody is admin", m.CheckCreation(u[0]), mmrerr.PolicyChange)
	is(t, "two entries", testRoom(u).CheckCreation(u[0]), mmrerr.PolicyChange)
}

// TestRoleChanges tries every change of one participant's role by every author:
// the row "set roles" of R-110.
func TestRoleChanges(t *testing.T) {
	u := users(t)
	all := func(pseudonym.ID) bool { return true }
	const absent = pseudonym.Role(0)
	roles := []pseudonym.Role{absent, pseudonym.Observer, pseudonym.Member, pseudonym.Moderator, pseudonym.Admin}
	entries := func(target, author pseudonym.Role, self bool) []pseudonym.RoleEntry {
		list := []pseudonym.RoleEntry{{User: u[0], Role: pseudonym.Admin}} // always one admin
		if target != absent {
			list = append(list, pseudonym.RoleEntry{User: u[1], Role: target})
		}
		if !self && author != absent {
			list = append(list, pseudonym.RoleEntry{User: u[2], Role: author})
		}
		return list
	}
	checked := 0
	for _, def := range []pseudonym.Role{pseudonym.Observer, pseudonym.Member} {
		effective := func(r pseudonym.Role) pseudonym.Role {
			if r == absent {
				return def
			}
			return r
		}
		for _, self := range []bool{false, true} {
			for _, author := range roles {
				for _, from := range roles {
					for _, to := range roles {
						if self && author != from {
							continue
						}
						before, after := testRoom(u), testRoom(u)
						before.DefaultRole, after.DefaultRole = def, def
						before.Roles, after.Roles = entries(from, author, self), entries(to, author, self)
						by := u[2]
						if self {
							by = u[1]
						}
						f, g := effective(from), effective(to)
						allowed := from == to // no change
						switch effective(author) {
						case pseudonym.Admin:
							allowed = allowed || f != pseudonym.Admin || g == pseudonym.Admin || self
						case pseudonym.Moderator:
							allowed = allowed || f <= pseudonym.Member && g <= pseudonym.Member
						}
						err := after.CheckChange(before, by, all)
						if allowed != (err == nil) {
							t.Errorf("default %d, author %d (self %v), %d to %d: %v", def, author, self, from, to, err)
						}
						if !allowed {
							is(t, "role change", err, mmrerr.Role)
						}
						checked++
					}
				}
			}
		}
	}
	if checked != 2*(125+25) {
		t.Errorf("%d combinations", checked)
	}
}

// TestPolicyChanges goes through R-111 field by field for each role.
func TestPolicyChanges(t *testing.T) {
	u := users(t)
	here := func(ids ...pseudonym.ID) func(pseudonym.ID) bool {
		return func(id pseudonym.ID) bool { return slices.Contains(ids, id) }
	}
	everyone := here(u...)
	base := testRoom(u)
	base.Roles = append(base.Roles, pseudonym.RoleEntry{User: u[2], Role: pseudonym.Observer})
	admin, moderator, observer, member := u[0], u[1], u[2], u[3]
	authors := []pseudonym.ID{observer, member, moderator, admin}
	const policy, role = mmrerr.PolicyChange, mmrerr.Role
	for name, c := range map[string]struct {
		change func(m *pseudonym.Room)
		in     func(pseudonym.ID) bool
		want   [4]error // for observer, member, moderator, admin
	}{
		"nothing":      {func(*pseudonym.Room) {}, everyone, [4]error{}},
		"requirement":  {func(m *pseudonym.Room) { m.Requirement = pseudonym.RequireNone }, everyone, [4]error{policy, policy, policy, policy}},
		"scheme":       {func(m *pseudonym.Room) { m.Scheme = pseudonym.SchemeStatic }, everyone, [4]error{policy, policy, policy, policy}},
		"ear":          {func(m *pseudonym.Room) { m.EAR = false }, everyone, [4]error{policy, policy, policy, policy}},
		"join_rule":    {func(m *pseudonym.Room) { m.JoinRule = pseudonym.JoinByInvite }, everyone, [4]error{role, role, role, nil}},
		"default_role": {func(m *pseudonym.Room) { m.DefaultRole = pseudonym.Observer }, everyone, [4]error{role, role, role, nil}},
		"max_leaves":   {func(m *pseudonym.Room) { m.Limits.MaxLeaves++ }, everyone, [4]error{role, role, role, nil}},
		"per user":     {func(m *pseudonym.Room) { m.Limits.MaxLeavesPerUser++ }, everyone, [4]error{role, role, role, nil}},
		"max_message":  {func(m *pseudonym.Room) { m.Limits.MaxMessage++ }, everyone, [4]error{role, role, role, nil}},
		"add_min_role": {func(m *pseudonym.Room) { m.Limits.AddMinRole = pseudonym.Admin }, everyone, [4]error{role, role, role, nil}},
		// The old room's link_min_role decides, not the new one's.
		"link_min_role and link": {func(m *pseudonym.Room) {
			m.Limits.LinkMinRole = pseudonym.Member
			m.Links = nil
		}, everyone, [4]error{role, role, role, nil}},
		"link deleted":   {func(m *pseudonym.Room) { m.Links = m.Links[1:] }, everyone, [4]error{role, role, nil, nil}},
		"link added":     {func(m *pseudonym.Room) { m.Links = append(m.Links, testLink(3)) }, everyone, [4]error{role, role, nil, nil}},
		"link prolonged": {func(m *pseudonym.Room) { m.Links[0].NotAfter++ }, everyone, [4]error{role, role, nil, nil}},
		"entry for a stranger": {func(m *pseudonym.Room) {
			m.Roles = append(m.Roles, pseudonym.RoleEntry{User: u[3], Role: pseudonym.Member})
		}, here(u[:3]...), [4]error{policy, policy, policy, policy}},
		"departed entry kept":    {func(*pseudonym.Room) {}, here(u[0], u[1], u[3]), [4]error{policy, policy, policy, policy}},
		"departed entry dropped": {func(m *pseudonym.Room) { m.Roles = m.Roles[:2] }, here(u[0], u[1], u[3]), [4]error{}},
		"present entry dropped":  {func(m *pseudonym.Room) { m.Roles = m.Roles[:2] }, everyone, [4]error{role, role, nil, nil}},
		"no admin":               {func(m *pseudonym.Room) { m.Roles = m.Roles[1:] }, everyone, [4]error{policy, policy, policy, policy}},
		"admin has left":         {func(m *pseudonym.Room) { m.Roles = m.Roles[1:] }, here(u[1:]...), [4]error{policy, policy, policy, policy}},
		"out of order":           {func(m *pseudonym.Room) { slices.Reverse(m.Links) }, everyone, [4]error{mmrerr.Malformed, mmrerr.Malformed, mmrerr.Malformed, mmrerr.Malformed}},
		"promote oneself": {func(m *pseudonym.Room) {
			for i := range m.Roles {
				m.Roles[i].Role = pseudonym.Admin
			}
		}, everyone, [4]error{role, role, role, nil}},
	} {
		for i, author := range authors {
			m := clone(base)
			c.change(m)
			if got := m.CheckChange(base, author, c.in); got != c.want[i] { //nolint:errorlint // the code itself
				t.Errorf("%s by role %d: %v, want %v", name, base.RoleOf(author), got, c.want[i])
			}
		}
	}
	if r := base.RoleOf(newID(t, "b.example", pseudonym.User)); r != pseudonym.Member {
		t.Errorf("a stranger has role %d", r)
	}
}

func FuzzRoomMalleability(f *testing.F) {
	b, err := testRoom(users(f)).AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{1, 4, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := pseudonym.ParseRoom(b)
		if err != nil {
			if m != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, err := m.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x, %v", b, again, err)
		}
	})
}
