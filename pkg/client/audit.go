package client

import (
	"bytes"
	"context"
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/leafcheck"
)

// audit checks of an accepted commit what the hub should have checked, as far as
// a member can see it (SPEC.md R-118). An error means
// that hub and sender broke the rules together; the commit is processed all the
// same, since refusing it would fork the room.
func audit(before *pseudonym.Room, v *mls.CommitView) error {
	a := &auditor{before: before, after: before, v: v}
	for _, check := range []func() error{a.types, a.roles, a.policy, a.leaves, a.limits} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

type auditor struct {
	before, after *pseudonym.Room
	v             *mls.CommitView
}

// types is R-115.
func (a *auditor) types() error {
	removes := 0
	for _, p := range a.v.Proposals {
		byReference := p.Ref != nil
		ok := false
		switch p.Type {
		case mls.ProposalRemove:
			removes++
			ok = true
		case mls.ProposalUpdate:
			ok = byReference
		case mls.ProposalAdd, mls.ProposalGroupContextExtensions:
			ok = !byReference && !a.v.External
		case mls.ProposalExternalInit:
			ok = a.v.External
		}
		if !ok || p.Sender.Type == mls.SenderExternal && p.Type != mls.ProposalRemove {
			return mmrerr.ProposalType
		}
	}
	if a.v.External && removes > 1 {
		return mmrerr.ProposalType
	}
	return nil
}

// userAt is the user pseudonym of a leaf before the commit.
func (a *auditor) userAt(i mls.LeafIndex) (pseudonym.ID, error) {
	l := a.v.Old.Leaf(i)
	if l == nil {
		return pseudonym.ID{}, mmrerr.ProposalList
	}
	cred, err := credentialOf(l)
	return cred.User, err
}

// roles is R-110, on the roles before the commit. What the hub proposed needs
// none.
func (a *auditor) roles() error {
	if a.v.External {
		return nil
	}
	for _, p := range a.v.Proposals {
		if p.Sender.Type != mls.SenderMember {
			continue
		}
		author, err := a.userAt(mls.LeafIndex(p.Sender.Index))
		if err != nil {
			return err
		}
		role := a.before.RoleOf(author)
		switch p.Type {
		case mls.ProposalRemove:
			target, err := a.userAt(p.Remove)
			if err != nil {
				return err
			}
			if target != author && (p.Ref != nil || !a.before.MayRemove(role, a.before.RoleOf(target))) {
				return mmrerr.Role
			}
		case mls.ProposalAdd:
			cred, err := credentialOf(p.Add.Leaf)
			if err != nil {
				return err
			}
			switch {
			case cred.User == author:
			case a.before.JoinRule == pseudonym.JoinByConnection:
				return mmrerr.NotConnectionRoom
			case !a.before.MayAdd(role):
				return mmrerr.Role
			}
		}
	}
	return nil
}

// policy is R-111 and the second half of R-110.
func (a *auditor) policy() error {
	for _, t := range []mls.ExtensionType{mls.ExtensionRequiredCapabilities, mls.ExtensionExternalSenders} {
		old, _ := a.v.Old.Extension(t)
		now, _ := a.v.New.Extension(t)
		if !bytes.Equal(old, now) {
			return mmrerr.PolicyChange
		}
	}
	if len(a.v.New.Context().Extensions) != 3 {
		return mmrerr.PolicyChange
	}
	data, _ := a.v.New.Extension(mls.ExtensionType(pseudonym.ExtensionRoom))
	var err error
	if a.after, err = pseudonym.ParseRoom(data); err != nil {
		return mmrerr.PolicyChange
	}
	for _, p := range a.v.Proposals {
		if p.Type != mls.ProposalGroupContextExtensions {
			continue
		}
		author, err := a.userAt(a.v.Committer)
		if err != nil {
			return err
		}
		return a.after.CheckChange(a.before, author, a.participant)
	}
	return nil
}

func (a *auditor) participant(id pseudonym.ID) bool {
	for _, l := range a.v.New.Members() {
		if cred, err := credentialOf(l); err == nil && cred.User == id {
			return true
		}
	}
	return false
}

// leaves is R-3 for every leaf that came or changed.
func (a *auditor) leaves() error {
	data, _ := a.v.New.Extension(mls.ExtensionRequiredCapabilities)
	required, err := mls.ParseRequiredCapabilities(data, nil)
	if err != nil {
		return mmrerr.PolicyChange
	}
	known := make(map[pseudonym.ID]bool) // users with a leaf that stays
	clients := make(map[pseudonym.ID]int)
	for i, l := range a.v.New.Members() {
		cred, err := credentialOf(l)
		if err != nil {
			return err
		}
		if clients[cred.Client]++; clients[cred.Client] > 1 {
			return mmrerr.PseudonymReused
		}
		if old := a.v.Old.Leaf(i); old != nil && !a.arrived(i) {
			known[cred.User] = true
			was, err := credentialOf(old)
			if err != nil || was.User != cred.User {
				return mmrerr.ParticipantMismatch
			}
			if !old.Credential.Equal(l.Credential) && (i != a.v.Committer || was.Client == cred.Client || bytes.Equal(old.SignatureKey, l.SignatureKey)) {
				return mmrerr.ParticipantMismatch
			}
		}
	}
	for i, l := range a.v.New.Members() {
		if !a.arrived(i) && a.v.Old.Leaf(i) != nil && a.v.Old.Leaf(i).Credential.Equal(l.Credential) {
			continue
		}
		if _, err := leafcheck.Check(l, a.v.New.Suite(), required.Credentials, func(string, uint8) bool { return true }); err != nil {
			return err
		}
		if err := a.bound(i, l, known); err != nil {
			return err
		}
	}
	return nil
}

// arrived reports whether the leaf is one that the commit brought.
func (a *auditor) arrived(i mls.LeafIndex) bool {
	return slices.Contains(a.v.Added, i) || a.v.External && i == a.v.Committer
}

// bound is: who comes under a pseudonym that has a leaf is that user's own
// device, by its Add, a sibling proof or a resync.
func (a *auditor) bound(i mls.LeafIndex, l *mls.LeafNode, known map[pseudonym.ID]bool) error {
	cred, err := credentialOf(l)
	if err != nil {
		return err
	}
	if !known[cred.User] || !a.arrived(i) {
		return nil
	}
	if a.v.External {
		aad, err := pseudonym.ParseAAD(a.v.AAD)
		if err != nil {
			return err
		}
		if _, ok := aad.Get(pseudonym.AADSiblingProof); ok || len(a.v.Removed) == 1 {
			return nil
		}
		return mmrerr.ParticipantMismatch
	}
	author, err := a.userAt(a.v.Committer)
	if err != nil {
		return err
	}
	if author != cred.User {
		return mmrerr.ParticipantMismatch
	}
	return nil
}

// limits are the room's own (SPEC.md R-116).
func (a *auditor) limits() error {
	if len(a.v.Added) == 0 && !a.v.External {
		return nil
	}
	leaves, perUser := 0, make(map[pseudonym.ID]int)
	for _, l := range a.v.New.Members() {
		cred, err := credentialOf(l)
		if err != nil {
			return err
		}
		leaves++
		perUser[cred.User]++
		if perUser[cred.User] > int(a.before.Limits.MaxLeavesPerUser) {
			return mmrerr.Limit
		}
	}
	if leaves > int(a.before.Limits.MaxLeaves) {
		return mmrerr.Limit
	}
	return nil
}

// Continue uses a room again in which hub and a member broke the rules, on the
// user's word (SPEC.md R-118).
func (c *Client) Continue(_ context.Context, roomURI string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.find(roomURI)
	if r == nil {
		return ErrNoRoom
	}
	r.st.Suspect = false
	return c.write(r)
}
