package leafcheck

import (
	"slices"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
)

// WrapLeaves are the leaves of a tree as the link key tree sees them (SPEC.md
// which credential each holds, and whether its user gives a link key
// under the policy of that epoch. added are the leaves that the commit which
// made the epoch added.
func WrapLeaves(g *mls.PublicGroup, policy *pseudonym.Room, added []mls.LeafIndex) ([]treewrap.Leaf, error) {
	var out []treewrap.Leaf
	for i, l := range g.Members() {
		c, err := pseudonym.ParseCredential(uint16(l.Credential.Type), l.Credential.Body)
		if err != nil {
			return nil, err
		}
		for len(out) <= int(i) {
			out = append(out, treewrap.Leaf{})
		}
		out[i] = treewrap.Leaf{Present: true, Hash: c.Hash(), Rule: policy.KeyRule(policy.RoleOf(c.User)), Added: slices.Contains(added, i)}
	}
	return out, nil
}
