package mls_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

func TestCommitterRemovesItself(t *testing.T) {
	w := newWorld(t, 1, 3)
	w.refuse(mls.RuleRemoveCommitter, w.commit(1, commitOptions{list: values(mls.RemoveProposal(1))}))
	// By reference, a proposal of somebody else.
	ref := w.store(w.propose(0, mls.RemoveProposal(1)))
	w.refuse(mls.RuleRemoveCommitter, w.commit(1, commitOptions{list: []wire.ProposalOrRef{ref}}))
	w.accept(w.commit(2, commitOptions{list: []wire.ProposalOrRef{ref}}))
}

func TestNoGhostMember(t *testing.T) {
	w := newWorld(t, 1, 4)
	w.accept(w.commit(0, commitOptions{list: values(mls.RemoveProposal(2))}))
	var members []mls.LeafIndex
	for i := range w.g.Members() {
		members = append(members, i)
	}
	if d := cmp.Diff([]mls.LeafIndex{0, 1, 3}, members); d != "" {
		t.Errorf("members (-want +got):\n%s", d)
	}
	if w.g.Leaf(2) != nil || w.g.Len() != 3 {
		t.Error("the removed member is still there")
	}
}

func TestUpdateByValue(t *testing.T) {
	w := newWorld(t, 1, 3)
	w.refuse(mls.RuleUpdateByValue, w.commit(0, commitOptions{list: values(update(w.updateLeaf(1, nil)))}))
	w.refuse(mls.RuleUpdateByValue, w.commit(0, commitOptions{list: values(update(w.updateLeaf(0, nil)))}))
	// By reference: nobody commits its own, others do.
	ref := w.store(w.propose(1, update(w.updateLeaf(1, nil))))
	w.refuse(mls.RuleUpdateCommitter, w.commit(1, commitOptions{list: []wire.ProposalOrRef{ref}}))
	e := w.accept(w.commit(0, commitOptions{list: []wire.ProposalOrRef{ref}}))
	if d := cmp.Diff([]mls.LeafIndex{1}, e.Commit.Updated); d != "" {
		t.Errorf("updated (-want +got):\n%s", d)
	}
	// The framing names the member whose leaf it is.
	w.refuse(mls.RuleLeafSignature, w.propose(2, update(w.updateLeaf(1, func(l *mls.LeafNode) {
		l.SignatureKey = w.g.Leaf(2).SignatureKey
	}))))
}

func TestStaleUpdate(t *testing.T) {
	w := newWorld(t, 1, 3)
	msg := w.propose(1, update(w.updateLeaf(1, nil)))
	ref := w.store(msg)
	w.accept(w.commit(2, commitOptions{}))
	w.refuse(mls.RuleEpoch, msg)
	w.refuse(mls.RuleReferenceUnknown, w.commit(0, commitOptions{list: []wire.ProposalOrRef{ref}}))
}

func TestSameLeafTwice(t *testing.T) {
	w := newWorld(t, 1, 4)
	w.refuse(mls.RuleSameLeafTwice, w.commit(0, commitOptions{list: values(mls.RemoveProposal(2), mls.RemoveProposal(2))}))
	a := w.store(w.propose(2, update(w.updateLeaf(2, nil))))
	b := w.store(w.propose(2, update(w.updateLeaf(2, nil))))
	w.refuse(mls.RuleSameLeafTwice, w.commit(0, commitOptions{list: []wire.ProposalOrRef{a, b}}))
	w.refuse(mls.RuleSameLeafTwice, w.commit(0, commitOptions{list: append(values(mls.RemoveProposal(2)), a)}))
	w.accept(w.commit(0, commitOptions{list: append(values(mls.RemoveProposal(3)), a)}))
}

func TestReferences(t *testing.T) {
	w := newWorld(t, 1, 3)
	msg := w.propose(1, mls.AddProposal(w.keyPackage(nil)))
	ref := w.store(msg)
	w.refuse(mls.RuleDuplicateProposal, msg)
	w.refuse(mls.RuleReferenceTwice, w.commit(0, commitOptions{list: []wire.ProposalOrRef{ref, ref}}))
	w.refuse(mls.RuleReferenceUnknown, w.commit(0, commitOptions{list: []wire.ProposalOrRef{{Reference: w.random(32)}}}))
	w.refuse(mls.RuleReferenceUnknown, w.commit(0, commitOptions{list: []wire.ProposalOrRef{{Reference: []byte{}}}}))
	// Without forgets a proposal, and only that.
	other := w.store(w.propose(1, mls.RemoveProposal(2)))
	forgot := w.g.Without(func(p *mls.Proposal) bool { return bytes.Equal(p.Ref, ref.Reference) })
	if n := len(forgot.Proposals()); n != 1 || len(w.g.Proposals()) != 2 {
		t.Errorf("%d proposals after Without", n)
	}
	commit := w.commit(0, commitOptions{list: []wire.ProposalOrRef{ref, other}})
	if _, _, err := forgot.Process(commit, timeZero); err == nil {
		t.Error("a forgotten proposal was committed")
	} else {
		w.refused(mls.RuleReferenceUnknown, err)
	}
	e := w.accept(w.commit(0, commitOptions{list: []wire.ProposalOrRef{ref}}))
	if len(e.Commit.Unused) != 1 || !bytes.Equal(e.Commit.Unused[0].Ref, other.Reference) {
		t.Error("the proposal that was not covered is not reported")
	}
}

func TestRemoveBlank(t *testing.T) {
	w := newWorld(t, 1, 5)
	w.accept(w.commit(0, commitOptions{list: values(mls.RemoveProposal(1))}))
	for _, i := range []mls.LeafIndex{1, 5, 7, 8, 1 << 30, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		w.refuse(mls.RuleRemoveBlank, w.commit(0, commitOptions{list: values(mls.RemoveProposal(i))}))
		w.refuse(mls.RuleRemoveBlank, w.propose(0, mls.RemoveProposal(i)))
	}
}

func TestAddSameClient(t *testing.T) {
	w := newWorld(t, 1, 3)
	same := func(key []byte) *mls.KeyPackage {
		return w.keyPackage(func(p *mls.KeyPackage) { p.Leaf.SignatureKey = key })
	}
	present := same(w.g.Leaf(2).SignatureKey)
	w.refuse(mls.RuleSameClient, w.commit(0, commitOptions{list: values(mls.AddProposal(present))}))
	a := w.keyPackage(nil)
	b := same(a.Leaf.SignatureKey)
	w.refuse(mls.RuleSameClient, w.commit(0, commitOptions{list: values(mls.AddProposal(a), mls.AddProposal(b))}))
	// Removed in the same list, a client may be added again.
	w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(present), mls.RemoveProposal(2))}))
}

func TestProposalListShape(t *testing.T) {
	w := newWorld(t, 1, 3)
	gce := mls.ExtensionsProposal([]mls.Extension{{Type: groupExtension, Data: []byte("x")}})
	w.refuse(mls.RuleTwoExtensions, w.commit(0, commitOptions{list: values(gce, gce)}))
	psk := w.psk(nil)
	w.refuse(mls.RulePSKTwice, w.commit(0, commitOptions{list: values(psk, psk)}))
	reinit := mls.ReInitProposal(mls.ReInit{GroupID: []byte("next"), Version: mls.MLS10, Suite: 1})
	w.refuse(mls.RuleReInitAlone, w.commit(0, commitOptions{list: values(reinit, psk)}))
	w.refuse(mls.RuleReInitAlone, w.commit(0, commitOptions{list: values(reinit, reinit)}))
	init := (&mls.ProposalBody{Type: mls.ProposalExternalInit, ExternalInit: w.random(32)}).Seal()
	w.refuse(mls.RuleExternalInit, w.commit(0, commitOptions{list: values(init)}))
	w.refuse(mls.RuleExternalInit, w.propose(0, init))
	// After the ReInit the group only refuses.
	w.accept(w.commit(0, commitOptions{list: values(reinit), noPath: true}))
	if !w.g.Closed() {
		t.Error("a re-initialized group is open")
	}
	w.refuse(mls.RuleClosed, w.propose(0, mls.RemoveProposal(1)))
}

// psk returns a PreSharedKey proposal; change may spoil it.
func (w *world) psk(change func(*mls.PreSharedKeyID)) *mls.ProposalBody {
	id := mls.PreSharedKeyID{Type: mls.PSKExternal, ID: []byte("k"), Nonce: w.random(w.s.HashSize())}
	if change != nil {
		change(&id)
	}
	return mls.PSKProposal(id)
}

func TestPSKProposals(t *testing.T) {
	w := newWorld(t, 1, 2)
	for rule, p := range map[mls.Rule][]*mls.ProposalBody{
		mls.RulePSKNonce: {
			w.psk(func(id *mls.PreSharedKeyID) { id.Nonce = w.random(31) }),
			w.psk(func(id *mls.PreSharedKeyID) { id.Nonce = nil }),
		},
		mls.RulePSKUsage: {
			w.psk(func(id *mls.PreSharedKeyID) { id.Type, id.Usage = mls.PSKResumption, mls.UsageReInit }),
			w.psk(func(id *mls.PreSharedKeyID) { id.Type, id.Usage = mls.PSKResumption, mls.UsageBranch }),
		},
	} {
		for _, p := range p {
			w.refuse(rule, w.propose(0, p))
			w.refuse(rule, w.commit(0, commitOptions{list: values(p)}))
			w.refuse(rule, w.commit(0, commitOptions{external: true, list: values(p)}))
		}
	}
	var many []*mls.ProposalBody
	for range 17 {
		many = append(many, w.psk(nil))
	}
	w.refuse(mls.RuleLimit, w.commit(0, commitOptions{list: values(many...)}))
	w.accept(w.commit(0, commitOptions{list: values(many[:16]...), noPath: true}))
}

func TestReInitVersion(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.refuse(mls.RuleReInitVersion, w.propose(0, mls.ReInitProposal(mls.ReInit{GroupID: []byte("n"), Suite: 1})))
	w.accept(w.propose(0, mls.ReInitProposal(mls.ReInit{GroupID: []byte("n"), Suite: 1, Version: 2})))
}

func TestNewExtensionsSupported(t *testing.T) {
	w := newWorld(t, 1, 3)
	gce := func(es ...mls.Extension) *mls.ProposalBody { return mls.ExtensionsProposal(es) }
	ours := mls.Extension{Type: groupExtension, Data: []byte("v1")}
	w.refuse(mls.RuleDuplicateExtension, w.commit(0, commitOptions{list: values(gce(ours, ours))}))
	w.refuse(mls.RuleDuplicateExtension, w.propose(0, gce(ours, ours)))
	w.refuse(mls.RuleExtensionsSupport, w.commit(0, commitOptions{list: values(gce(mls.Extension{Type: unlistedType}))}))
	require := mls.RequiredCapabilities{Proposals: []mls.ProposalType{customProposal}}
	w.refuse(mls.RuleExtensionsSupport, w.commit(0, commitOptions{list: values(gce(require.Extension()))}))
	w.refuse(mls.RuleExtensionSyntax, w.commit(0, commitOptions{list: values(gce(
		mls.Extension{Type: mls.ExtensionRequiredCapabilities, Data: []byte{0}}))}))
	// Removed members do not count, added ones do.
	without := w.keyPackage(func(p *mls.KeyPackage) { p.Leaf.Capabilities.Extensions = nil })
	w.refuse(mls.RuleExtensionsSupport, w.commit(0, commitOptions{list: values(gce(ours), mls.AddProposal(without))}))
	w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(without))}))
	w.refuse(mls.RuleExtensionsSupport, w.commit(0, commitOptions{list: values(gce(ours))}))
	w.accept(w.commit(0, commitOptions{list: values(gce(ours), mls.RemoveProposal(3))}))
	// In force, they bind whoever is added, and every new leaf of a member.
	w.refuse(mls.RuleLeafCapabilities, w.commit(0, commitOptions{list: values(mls.AddProposal(without))}))
	drop := func(l *mls.LeafNode) { l.Capabilities.Extensions = nil }
	w.refuse(mls.RuleLeafCapabilities, w.commit(0, commitOptions{leaf: drop}))
	ref := w.store(w.propose(1, update(w.updateLeaf(1, drop))))
	w.refuse(mls.RuleLeafCapabilities, w.commit(0, commitOptions{list: []wire.ProposalOrRef{ref}}))
	// In the list that adds a requirement, it already binds the Adds.
	fine := mls.RequiredCapabilities{Extensions: []mls.ExtensionType{leafExtension}, Credentials: []mls.CredentialType{mls.CredentialBasic}}
	w.refuse(mls.RuleExtensionsSupport, w.commit(0, commitOptions{list: values(gce(fine.Extension()), mls.AddProposal(without))}))
	w.accept(w.commit(0, commitOptions{list: values(gce(fine.Extension()))}))
	if _, ok := w.g.Extension(groupExtension); ok {
		t.Error("GroupContextExtensions was merged, not replaced")
	}
}

func TestCustomProposalSupport(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.caps.Proposals = []mls.ProposalType{customProposal}
	for range 2 {
		w.accept(w.commit(0, commitOptions{list: values(mls.AddProposal(w.keyPackage(nil)))}))
	}
	p := mls.CustomProposal(customProposal, []byte("body"))
	w.refuse(mls.RuleCustomSupport, w.commit(1, commitOptions{list: values(p)}))
	// Who is removed or added by the commit does not process it.
	w.caps.Proposals = nil
	w.accept(w.commit(1, commitOptions{list: values(p, mls.RemoveProposal(0), mls.AddProposal(w.keyPackage(nil)))}))
	w.refuse(mls.RuleCustomSupport, w.commit(1, commitOptions{list: values(p)}))
	w.refuse(mls.RuleUnsupportedProposal, w.commit(1, commitOptions{list: values(mls.CustomProposal(unlistedType, nil))}))
}

func TestApplyOrder(t *testing.T) {
	w := newWorld(t, 1, 5)
	a, b, c := w.keyPackage(nil), w.keyPackage(nil), w.keyPackage(nil)
	up := w.updateLeaf(3, nil)
	ref := w.store(w.propose(3, update(up)))
	// Removes free leaves 1 and 2 before the Adds that precede them.
	list := append(values(mls.AddProposal(a), mls.AddProposal(b), mls.RemoveProposal(2), mls.AddProposal(c), mls.RemoveProposal(1)), ref)
	e := w.accept(w.commit(0, commitOptions{list: list}))
	if d := cmp.Diff([]mls.LeafIndex{1, 2, 5}, e.Commit.Added); d != "" {
		t.Errorf("added (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]mls.LeafIndex{2, 1}, e.Commit.Removed); d != "" {
		t.Errorf("removed (-want +got):\n%s", d)
	}
	for i, leaf := range map[mls.LeafIndex]*mls.LeafNode{1: a.Leaf, 2: b.Leaf, 5: c.Leaf, 3: up} {
		if got := w.g.Leaf(i); got == nil || !bytes.Equal(got.Raw(), leaf.Raw()) {
			t.Errorf("leaf %d is another one", i)
		}
	}
}

func TestStoredLimits(t *testing.T) {
	w := newWorld(t, 1, 2)
	for range 16 {
		w.accept(w.propose(0, w.psk(nil)))
	}
	w.refuse(mls.RuleStored, w.propose(0, w.psk(nil)))
	w.accept(w.propose(1, w.psk(nil)))
	w.accept(w.commit(0, commitOptions{}))
	if len(w.g.Proposals()) != 0 {
		t.Error("proposals outlive their epoch")
	}
}
