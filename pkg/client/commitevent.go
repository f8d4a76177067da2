package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// commitEvent moves the room to its next epoch: our own commit is confirmed,
// anybody else's is processed and drops ours (SPEC.md R-77).
func (c *Client) commitEvent(ctx context.Context, r *room, e *seal.Event, body *seal.CommitEvent, b batch) error {
	now := time.Now()
	p := r.st.Pending
	r.st.Pending = nil
	before, old := r.names(c), r.g.Public()
	if p != nil && string(p.Commit) == string(body.Commit) {
		g, _, err := r.g.Confirm()
		if err != nil {
			return fmt.Errorf("confirming the own commit: %w", err)
		}
		r.g.Retire(g)
		r.g = g
		d, err := primitive.ParseSecret(p.D)
		if err != nil {
			return err
		}
		r.setK(seal.NewDeliveryKey(d, r.st.GroupID, e.Epoch+1, p.LeafKey), now)
		r.dropReplaced(old)
		maps.Copy(r.st.LinkKeys, p.LinkKeys)
		r.confirmed = messageHash(p.Commit)
		if p.Wrap != nil {
			v, err := p.Wrap.view(r.st.GroupID, r.st.LinkKeys)
			if err != nil {
				return err
			}
			if err := r.setView(v); err != nil {
				return err
			}
		}
	} else {
		g, ev, err := r.process(body.Commit, mls.ContentCommit)
		if err != nil {
			return c.stick(r, body.Commit, e.Seq, b)
		}
		if g.Status() == member.Removed {
			r.st.Removed = true
			return c.emit(b, Event{Kind: KindRemoved, Room: r.st.uri(), Seq: e.Seq, Accepted: time.UnixMilli(int64(e.AcceptedMS)).UTC()})
		}
		if err := c.judge(r, ev.Commit, e.Seq, b); err != nil {
			return err
		}
		before := r.g
		r.g = g
		r.dropReplaced(old)
		r.openJoinerLink(before, ev)
		before.Retire(g)
		r.setK(r.deliveryKey().Next(), now)
		if err := c.learnLinks(r, ev.Commit, body.Delta); err != nil {
			return err
		}
		if err := c.answered(ctx, r, ev, b); err != nil {
			return err
		}
		if r.st.Device && ev.Commit.External {
			if err := c.shareAll(b); err != nil {
				return err
			}
		}
	}
	pub, err := r.g.ExternalPub()
	r.st.WrongPub = err == nil && string(pub) != string(body.ExternalPub)
	if err := r.rotated(body.EARID); err != nil {
		r.st.Locked = true
		if err := c.emit(b, Event{Kind: KindLocked, Room: r.st.uri(), Seq: e.Seq}); err != nil {
			return err
		}
	}
	for _, raw := range body.HubProposals { // SPEC.md R-114
		r.propose(raw)
	}
	c.plan(r)
	r.prune()
	if r.st.Peer != "" || r.st.Device {
		return nil // not shown
	}
	if err := c.meetAll(r, b); err != nil {
		return err
	}
	added, removed := difference(before, r.names(c))
	if back := intersection(added, r.st.Banned); len(back) > 0 {
		if err := c.emit(b, Event{Kind: KindBanned, Room: r.st.uri(), Seq: e.Seq, Added: back}); err != nil {
			return err
		}
	}
	return c.emit(b, Event{
		Kind: KindMembers, Room: r.st.uri(), Seq: e.Seq, Added: added, Removed: removed, Accepted: time.UnixMilli(int64(e.AcceptedMS)).UTC(),
	})
}

// judge checks a commit that the hub accepted, and flags the room if it should
// not have.
func (c *Client) judge(r *room, v *mls.CommitView, seq uint64, b batch) error {
	policy, err := r.policy()
	if err != nil {
		return err
	}
	if audit(policy, v) == nil || r.st.Suspect {
		return nil
	}
	r.st.Suspect = true
	return c.emit(b, Event{Kind: KindSuspect, Room: r.st.uri(), Seq: seq})
}

// meetAll notes the device keys of all verified members.
func (c *Client) meetAll(r *room, b batch) error {
	var reals []pseudonym.Real
	for _, l := range c.resolve(r) {
		if l.verified {
			reals = append(reals, l.real)
		}
	}
	return c.met(reals, b)
}

func intersection(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(x string) bool { return !slices.Contains(b, x) })
}

// dropReplaced forgets link keys of leaves whose credential is another one now
// (SPEC.md R-7).
func (r *room) dropReplaced(old *mls.PublicGroup) {
	for i := range r.st.LinkKeys {
		was, is := old.Leaf(mls.LeafIndex(i)), r.g.Public().Leaf(mls.LeafIndex(i))
		if was == nil || is == nil || !was.Credential.Equal(is.Credential) {
			delete(r.st.LinkKeys, i)
			delete(r.st.Seen, i)
		}
	}
}

// openJoinerLink opens the link key of a joiner whose leaf is not in a delta,
// with the external key of the epoch that ends (SPEC.md R-97).
func (r *room) openJoinerLink(before *member.Group, ev *mls.Event) {
	if !ev.Commit.External || ev.Commit.PathLeaf == nil {
		return
	}
	aad, err := pseudonym.ParseAAD(ev.AAD)
	if err != nil {
		return
	}
	data, ok := aad.Get(pseudonym.AADJoinerLink)
	if !ok {
		return
	}
	cred, err := credentialOf(ev.Commit.PathLeaf)
	if err != nil {
		return
	}
	d := codec.NewReader(data)
	c := primitive.ReadHPKECiphertext(d, primitive.SecretSize+primitive.TagSize)
	if d.Done() != nil {
		return
	}
	key, err := before.DecryptExternal(treewrap.LabelJoinerLink, treewrap.JoinerLinkContext(r.st.GroupID, cred.Hash()), c.KEMOutput, c.Ciphertext)
	if err != nil || len(key) != primitive.SecretSize {
		return
	}
	r.st.LinkKeys[uint32(ev.Commit.Committer)] = key
}

// learnLinks opens the link keys that a commit brought: those of its delta, or
// of its static entries (SPEC.md ).
func (c *Client) learnLinks(r *room, v *mls.CommitView, delta []byte) error {
	if len(delta) > 0 {
		return r.applyDelta(delta, v.Added)
	}
	r.learnStatic(v)
	return nil
}

func (r *room) learnStatic(v *mls.CommitView) {
	aad, err := pseudonym.ParseAAD(v.AAD)
	if err != nil {
		return
	}
	data, ok := aad.Get(pseudonym.AADAddAAD)
	if !ok {
		return
	}
	entries, err := pseudonym.ParseAddAAD(data)
	if err != nil {
		return
	}
	leaves := slices.Clone(v.Added)
	if len(entries) > len(leaves) { // a joiner's or replaced credential of the committer
		leaves = append(leaves, v.Committer)
	}
	for i, entry := range entries {
		if i < len(leaves) && entry != nil {
			r.openEntry(uint32(leaves[i]), entry)
		}
	}
}

// openEntry opens a static entry for a leaf. What does not open leaves the leaf
// unverified (SPEC.md R-4).
func (r *room) openEntry(index uint32, entry []byte) {
	l := r.g.Public().Leaf(mls.LeafIndex(index))
	wrapper, err := primitive.ParseSecret(r.st.Wrapper)
	if l == nil || err != nil {
		return
	}
	cred, err := credentialOf(l)
	if err != nil {
		return
	}
	if key, err := pseudonym.UnwrapStatic(wrapper, r.st.GroupID, cred.Hash(), entry); err == nil {
		r.st.LinkKeys[index] = stored(key)
	}
}

func difference(before, after map[uint32]string) (added, removed []string) {
	for i, n := range after {
		if before[i] != n {
			added = append(added, n)
		}
	}
	for i, n := range before {
		if after[i] != n {
			removed = append(removed, n)
		}
	}
	slices.Sort(added)
	slices.Sort(removed)
	return added, removed
}
