package hub

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/leafcheck"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
)

func (h *Hub) mlsOptions() *mls.Options {
	return &mls.Options{Rules: leafcheck.Rules{}, Limits: mls.Limits{
		Leaves: max(10_000, 2*h.cfg.Limits.Leaves), Proposals: h.cfg.Limits.Proposals, AAD: h.cfg.Limits.AAD,
	}}
}

// judge decides about one commit, in the order of SPEC.md R-121: mls calls it
// between its own checks. It builds the roster of the new epoch on the way.
type judge struct {
	leafcheck.Rules
	h        *Hub
	r        *room
	now      time.Time
	sender   *leaf // committer; nil for an external commit
	message  *mls.Message
	external *admission // nil for a member's commit
	// groupInfo comes with the commit; its link key delta is judged with it.
	groupInfo []byte

	phase   mls.Phase // the last phase that passed
	policy  *pseudonym.Room
	next    *roster // of the new epoch, without K of new paths
	added   []addedLeaf
	path    *leaf // the committer's new leaf, nil without path
	rekeyed bool  // the committer replaced its credential
	removed []*leaf
	aad     pseudonym.AAD
	wrap    *treewrap.State // of the new epoch
	delta   []byte          // that led to it, nil if there was none
}

// addedLeaf is a leaf that an Add brings, with what its first envelope needs.
type addedLeaf struct {
	*leaf
	checked leafcheck.Leaf
	ref     []byte
}

// Commit implements mls.Rules.
func (j *judge) Commit(v *mls.CommitView) error {
	var err error
	switch v.Phase {
	case mls.PhaseSigned:
		err = j.authenticatedData(v)
	case mls.PhaseProposals:
		err = j.proposals(v)
	case mls.PhaseApplied:
		err = j.leaves(v)
	case mls.PhaseComplete:
		err = j.linkKeys()
	}
	if err == nil {
		j.phase = v.Phase
	}
	return err
}

// authenticatedData is step 8.
func (j *judge) authenticatedData(v *mls.CommitView) (err error) {
	if j.aad, err = pseudonym.ParseAAD(v.AAD); err != nil {
		return err
	}
	c := pseudonym.AADContext{Carrier: pseudonym.MemberCommit}
	if j.external != nil {
		c.Carrier = pseudonym.ExternalCommit
		c.Resync = j.external.resync != nil
		c.KnownUser = j.external.knownUser
		j.joinerLeaf(&c, j.message.Public.Content.Commit.Path.Leaf)
		if err := j.aad.Check(j.r.roster.policy, c); err != nil {
			return err
		}
		return checkTypes(j.message, true)
	}
	for _, p := range j.message.Public.Content.Commit.Proposals {
		c.LinkKeys = c.LinkKeys || p.Proposal != nil && p.Proposal.Type == mls.ProposalAdd
	}
	if v.PathLeaf != nil {
		old := v.Old.Leaf(v.Committer)
		j.rekeyed = old != nil && !old.Credential.Equal(v.PathLeaf.Credential)
		c.LinkKeys = c.LinkKeys || j.rekeyed
	}
	if err := j.aad.Check(j.r.roster.policy, c); err != nil {
		return err
	}
	return checkTypes(j.message, false)
}

// checkTypes is the part of step 9 that needs no resolved references (SPEC.md
// It runs after signature and authenticated data, and before the
// engine's list rules.
func checkTypes(m *mls.Message, external bool) error {
	for _, p := range m.Public.Content.Commit.Proposals {
		if p.Proposal == nil {
			continue
		}
		switch p.Proposal.Type {
		case mls.ProposalRemove:
		case mls.ProposalAdd, mls.ProposalGroupContextExtensions:
			if external {
				return mmrerr.ProposalType
			}
		case mls.ProposalExternalInit:
			if !external {
				return mmrerr.ProposalType
			}
		default:
			return mmrerr.ProposalType
		}
	}
	return nil
}

// proposals is steps 9 and 10: leaving members are removed, and every author
// may do what it proposes (SPEC.md ).
func (j *judge) proposals(v *mls.CommitView) error {
	for _, p := range v.Unused {
		if j.external == nil && p.Type == mls.ProposalRemove {
			return mmrerr.New(mmrerr.LeaveMissing, cachedRemoves(j.r.roster.cached))
		}
	}
	j.next = j.r.roster.clone()
	j.next.cached = nil // they die with the epoch
	for _, i := range v.Removed {
		if l := j.next.leaf(uint32(i)); l != nil {
			j.removed = append(j.removed, l)
			j.next.remove(l.index)
		}
	}
	if j.external == nil || j.external.resync == nil {
		j.burn()
	}
	if j.external != nil {
		return nil
	}
	old := j.r.roster.policy
	role := old.RoleOf(j.sender.user)
	arriving := make(map[pseudonym.ID]bool)
	for _, p := range v.Proposals {
		if p.Ref != nil {
			continue // judged when it was cached
		}
		switch p.Type {
		case mls.ProposalRemove:
			target := j.r.roster.leaf(uint32(p.Remove))
			if target == nil {
				return mmrerr.ProposalList
			}
			if target.user != j.sender.user && !old.MayRemove(role, old.RoleOf(target.user)) {
				return mmrerr.Role
			}
		case mls.ProposalAdd:
			c, err := pseudonym.ParseCredential(uint16(p.Add.Leaf.Credential.Type), p.Add.Leaf.Credential.Body)
			if err == nil { // a credential that does not parse is step 11's to refuse
				arriving[c.User] = true
				if c.User != j.sender.user && old.JoinRule == pseudonym.JoinByConnection {
					return mmrerr.NotConnectionRoom // SPEC.md R-37: there are two users, and stay two
				}
				if c.User != j.sender.user && !old.MayAdd(role) {
					return mmrerr.Role
				}
			}
		}
	}
	j.policy = old
	for _, p := range v.Proposals {
		if p.Type == mls.ProposalGroupContextExtensions {
			return j.newPolicy(v, p.Extensions, arriving)
		}
	}
	return nil
}

// burn records what of the removed leaves may not return (SPEC.md R-112).
func (j *judge) burn() {
	for _, l := range j.removed {
		j.next.addBurn(burnOf(burnClient, []byte(l.client.String())))
		j.next.addBurn(burnOf(burnKey, l.signatureKey))
		if !j.next.participant(l.user) {
			j.next.addBurn(burnOf(burnUser, []byte(l.user.String())))
		}
	}
}

// cachedRemoves are the cached Removes, as MLSMessages in vectors: the detail of
// mmr/leave-missing, from which the committer rebuilds (SPEC.md R-113).
func cachedRemoves(cached [][]byte) []byte {
	var b []byte
	for _, raw := range cached {
		m, err := mls.ParseMessage(raw, nil)
		if err == nil && m.ContentType() == mls.ContentProposal && m.Public.Content.Proposal.Type == mls.ProposalRemove {
			b = codec.AppendVector(b, raw)
		}
	}
	return b
}

// newPolicy is SPEC.md R-111: nothing but mmr_room and the hub's successor key
// may change, and mmr_room only as roles allow.
func (j *judge) newPolicy(v *mls.CommitView, es []mls.Extension, arriving map[pseudonym.ID]bool) error {
	room, err := checkExtensions(es)
	if err != nil {
		return err
	}
	for _, t := range []mls.ExtensionType{mls.ExtensionRequiredCapabilities, mls.ExtensionExternalSenders} {
		before, _ := v.Old.Extension(t)
		after, _ := mls.FindExtension(es, t)
		if !bytes.Equal(before, after) {
			return mmrerr.PolicyChange
		}
	}
	present := func(u pseudonym.ID) bool { return j.next.participant(u) || arriving[u] }
	if !j.h.cfg.Limits.admits(room) && j.h.cfg.Limits.admits(j.r.roster.policy) {
		return mmrerr.Limit
	}
	if err := room.CheckChange(j.r.roster.policy, j.sender.user, present); err != nil {
		return err
	}
	j.policy = room
	return nil
}

// checkExtensions reads the extensions of a GroupContext: exactly the three of
// SPEC.md §4.1.
func checkExtensions(es []mls.Extension) (*pseudonym.Room, error) {
	want := []mls.ExtensionType{mls.ExtensionRequiredCapabilities, mls.ExtensionExternalSenders, mls.ExtensionType(pseudonym.ExtensionRoom)}
	if len(es) != len(want) {
		return nil, mmrerr.PolicyChange
	}
	for _, t := range want {
		if _, ok := mls.FindExtension(es, t); !ok {
			return nil, mmrerr.PolicyChange
		}
	}
	data, _ := mls.FindExtension(es, mls.ExtensionType(pseudonym.ExtensionRoom))
	room, err := pseudonym.ParseRoom(data)
	if errors.Is(err, mmrerr.Malformed) {
		return nil, mmrerr.PolicyChange
	}
	return room, err
}

// leaves is step 11, and R-3 for the path's leaf of step 12.
func (j *judge) leaves(v *mls.CommitView) error {
	for _, i := range v.Updated {
		if err := j.replace(uint32(i), v.New.Leaf(i), false); err != nil {
			return err
		}
	}
	n := 0
	for _, p := range v.Proposals {
		if p.Type != mls.ProposalAdd {
			continue
		}
		if n >= len(v.Added) {
			return mmrerr.ProposalList
		}
		if err := j.add(uint32(v.Added[n]), p.Add); err != nil {
			return err
		}
		n++
	}
	if v.PathLeaf == nil {
		return nil
	}
	if j.external != nil {
		return j.joiner(uint32(v.Committer), v.PathLeaf)
	}
	return j.replace(j.sender.index, v.PathLeaf, true)
}

// add is R-3 for a leaf that a member adds.
func (j *judge) add(index uint32, kp *mls.KeyPackage) error {
	c, err := j.check(kp.Leaf, kp.Suite)
	if err != nil {
		return err
	}
	if _, err := leafcheck.Package(kp); err != nil && j.uniform(kp.Leaf) {
		return err
	}
	l, err := j.unique(index, kp.Leaf, c)
	if err != nil {
		return err
	}
	// whoever has seen an administrator's pseudonym must not inherit its role.
	// All devices of a new user come together, as one set.
	if j.next.participant(l.user) && l.user != j.sender.user && !j.arriving(l.user) {
		return mmrerr.ParticipantMismatch
	}
	if err := j.limits(l.user); err != nil {
		return err
	}
	l.joining = true
	j.next.put(l)
	j.added = append(j.added, addedLeaf{l, c, mls.KeyPackageRef(kp)})
	return nil
}

// arriving reports whether the commit has brought a leaf of the user before.
func (j *judge) arriving(user pseudonym.ID) bool {
	return slices.ContainsFunc(j.added, func(a addedLeaf) bool { return a.user == user }) &&
		!j.r.roster.participant(user)
}

// replace is R-3 for a new leaf of a member: its credential stays, or, in its
// own commit, is exchanged with key and client pseudonym.
func (j *judge) replace(index uint32, n *mls.LeafNode, own bool) error {
	old := j.next.leaf(index)
	if old == nil || n == nil {
		return mmrerr.ProposalList
	}
	c, err := j.check(n, mls.CipherSuite(j.r.roster.suite))
	if err != nil {
		return err
	}
	j.next.remove(index)
	l, err := j.unique(index, n, c)
	if err != nil {
		return err
	}
	changed := l.client != old.client || !bytes.Equal(l.signatureKey, old.signatureKey)
	if l.user != old.user || changed && (!own || l.client == old.client || bytes.Equal(l.signatureKey, old.signatureKey)) {
		return mmrerr.ParticipantMismatch
	}
	if changed {
		j.next.addBurn(burnOf(burnClient, []byte(old.client.String())))
		j.next.addBurn(burnOf(burnKey, old.signatureKey))
	}
	l.k, l.first, l.joining, l.leaving, l.rewrote = old.k, old.first, old.joining, old.leaving, old.rewrote
	if bytes.Equal(l.sealed, old.sealed) {
		l.lane = old.lane
	}
	j.next.put(l)
	if own {
		j.path = l
	}
	return nil
}

// check is.
func (j *judge) check(n *mls.LeafNode, suite mls.CipherSuite) (leafcheck.Leaf, error) {
	required, err := admittedTypes(j.r.tree)
	if err != nil {
		return leafcheck.Leaf{}, err
	}
	return leafcheck.Check(n, suite, required, j.h.queueKey)
}

func (j *judge) uniform(n *mls.LeafNode) bool {
	return uint16(n.Credential.Type) == pseudonym.CredentialPseudonymous
}

// admittedTypes are the credential types of a room's required_capabilities.
func admittedTypes(g *mls.PublicGroup) ([]mls.CredentialType, error) {
	data, ok := g.Extension(mls.ExtensionRequiredCapabilities)
	if !ok {
		return nil, mmrerr.PolicyChange
	}
	rc, err := mls.ParseRequiredCapabilities(data, nil)
	if err != nil {
		return nil, mmrerr.PolicyChange
	}
	return rc.Credentials, nil
}

// unique is: nothing of a new leaf is another leaf's, or burned.
func (j *judge) unique(index uint32, n *mls.LeafNode, c leafcheck.Leaf) (*leaf, error) {
	sealed := c.Delivery.SealedBytes()
	for _, l := range j.next.leaves {
		if l.client == c.Credential.Client || bytes.Equal(l.signatureKey, n.SignatureKey) ||
			bytes.Equal(l.delivery, c.Delivery.Key.Bytes()) || bytes.Equal(l.sealed, sealed) {
			return nil, mmrerr.PseudonymReused
		}
	}
	l := &leaf{
		index: index, signatureKey: slices.Clone(n.SignatureKey), client: c.Credential.Client, user: c.Credential.User,
		delivery: c.Delivery.Key.Bytes(), domain: c.Delivery.ProviderDomain, keyID: c.Delivery.KeyID, sealed: sealed, lane: newLane(),
	}
	if j.external != nil && j.external.resync != nil && l.client == j.external.resync.client {
		return l, nil // a resync is exempt for its own values
	}
	if j.next.isBurned(burnOf(burnClient, []byte(l.client.String()))) || j.next.isBurned(burnOf(burnKey, l.signatureKey)) ||
		!j.next.participant(l.user) && j.next.isBurned(burnOf(burnUser, []byte(l.user.String()))) {
		return nil, mmrerr.PseudonymReused
	}
	return l, nil
}

// limits are the room's own (SPEC.md R-116).
func (j *judge) limits(user pseudonym.ID) error {
	lim := j.r.roster.policy.Limits
	if len(j.next.leaves)+1 > int(lim.MaxLeaves) || j.next.leavesOf(user)+1 > int(lim.MaxLeavesPerUser) {
		return mmrerr.Limit
	}
	return nil
}

// code maps a refusal of the engine to the code of the step it belongs to.
func (j *judge) code(err error) error {
	if _, ok := mmrerr.Of(err); ok {
		return err
	}
	var ref *mls.Refusal
	if !errors.As(err, &ref) {
		return err
	}
	switch ref.Rule {
	case mls.RuleEpoch:
		return wrongEpoch(j.r)
	case mls.RuleExternalInit, mls.RuleUpdateByValue, mls.RuleUnsupportedProposal:
		return mmrerr.ProposalType
	case mls.RuleDuplicateSignatureKey, mls.RuleDuplicateEncryption:
		return mmrerr.PseudonymReused
	case mls.RuleSignature, mls.RuleLeafSignature, mls.RuleLeafSource, mls.RuleLeafKey, mls.RuleLeafKeyReused, mls.RuleLeafVersion,
		mls.RuleLeafExtensions, mls.RuleLeafCapabilities, mls.RuleCredentialTypes, mls.RuleDuplicateExtension, mls.RuleLifetime, mls.RuleKeyPackageSuite, mls.RuleKeyPackageSignature, mls.RuleKeyPackageInitKey,
		mls.RuleCredential, mls.RuleSuccessor:
		return mmrerr.Signature
	}
	switch {
	case j.phase < mls.PhaseSigned:
		return mmrerr.WireFormat
	case j.phase < mls.PhaseApplied:
		return mmrerr.ProposalList
	default:
		return mmrerr.Tree
	}
}
