package main

import (
	"bytes"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
)

func (c *client) externalJoin(r request) (answer, error) {
	if err := r.need("group_info"); err != nil {
		return nil, err
	}
	m, err := parseAs(r.bytes("group_info"), mls.FormatGroupInfo)
	if err != nil {
		return nil, err
	}
	if c.joining != nil {
		return nil, member.ErrPending
	}
	if g, err := c.active(); err == nil {
		if _, pending := g.Pending(); pending {
			return nil, member.ErrPending
		}
		if !r.flag("resync") {
			return nil, fail("invalid", "already in a group")
		}
	}
	id, err := c.identity(r)
	if err != nil {
		return nil, err
	}
	o := member.ExternalOptions{Options: c.options(), Tree: r.bytes("ratchet_tree"), AAD: r.bytes("aad")}
	if r.flag("resync") {
		if o.Resync, err = c.formerLeaf(r, id); err != nil {
			return nil, err
		}
	}
	next, staged, err := member.JoinExternal(id, r.bytes("group_info"), o)
	if err != nil {
		return nil, err
	}
	a := answer{"gi_exts": extensionsJSON(m.GroupInfo.Extensions)}
	a.set("commit", staged.Commit())
	if r.flag("stage") {
		c.joining = next
		return a, nil
	}
	if next, err = confirmed(next); err != nil {
		return nil, err
	}
	if c.group != nil {
		c.group.Retire(nil)
	}
	c.group = next
	return c.withState(a)
}

// formerLeaf finds the client's leaf in the group that it returns to, and lets
// the new leaf keep what the request does not change.
func (c *client) formerLeaf(r request, id *member.Identity) (*mls.LeafIndex, error) {
	g, err := mls.NewPublicGroup(r.bytes("group_info"), r.bytes("ratchet_tree"), hubOptions)
	if err != nil {
		return nil, err
	}
	for i, leaf := range g.Members() {
		if !bytes.Equal(leaf.SignatureKey, c.signer.Public()) {
			continue
		}
		id.Credential = leaf.Credential
		if !r.has("cap_creds") && !r.has("cap_exts") && !r.has("cap_props") {
			id.Capabilities = leaf.Capabilities
		}
		if !r.has("leaf_exts") {
			id.Extensions = leaf.Extensions
		}
		return &i, nil
	}
	return nil, fail("invalid", "no leaf to return to")
}
