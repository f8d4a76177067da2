package mls_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/wire"
)

// recorder notes what the engine asks, and refuses in one phase.
type recorder struct {
	mls.OpenRules
	asked  *[]string
	refuse mls.Phase
}

func (r recorder) note(format string, args ...any) {
	*r.asked = append(*r.asked, fmt.Sprintf(format, args...))
}

func (r recorder) Credential(_ mls.Credential, _ []byte, at mls.Place) error {
	r.note("credential at %d", at)
	return nil
}

func (r recorder) Successor(old, next *mls.LeafNode) error {
	r.note("successor")
	return r.OpenRules.Successor(old, next)
}

func (r recorder) Commit(v *mls.CommitView) error {
	r.note("phase %d: %d proposals, %d unused, removed %d, updated %d, added %d, new %v",
		v.Phase, len(v.Proposals), len(v.Unused), v.Removed, v.Updated, v.Added, v.New != nil)
	if v.Phase >= mls.PhaseApplied && v.New.Epoch() != v.Old.Epoch()+1 {
		r.note("wrong epochs")
	}
	if v.Phase == r.refuse {
		return errPolicy
	}
	return nil
}

func TestPhases(t *testing.T) {
	w := newWorld(t, 1, 5)
	ref := w.store(w.propose(2, update(w.updateLeaf(2, nil))))
	w.store(w.propose(2, mls.RemoveProposal(4)))
	var asked []string
	w.opts.Rules = recorder{asked: &asked}
	w.g = w.reload()
	list := append(values(mls.AddProposal(w.keyPackage(nil)), mls.RemoveProposal(3)), ref)
	msg := w.commit(0, commitOptions{list: list, aad: []byte("a")})
	e := w.accept(msg)
	want := []string{
		"phase 1: 0 proposals, 0 unused, removed [], updated [], added [], new false",
		"phase 2: 3 proposals, 1 unused, removed [3], updated [2], added [], new false",
		"phase 3: 3 proposals, 1 unused, removed [3], updated [2], added [3], new true",
		"credential at 3",
		"credential at 5",
		"successor",
		"phase 4: 3 proposals, 1 unused, removed [3], updated [2], added [3], new true",
	}
	if d := cmp.Diff(want, asked); d != "" {
		t.Errorf("asked (-want +got):\n%s", d)
	}
	if v := e.Commit; v.Committer != 0 || v.External || !v.HasPath || string(v.AAD) != "a" ||
		!bytes.Equal(v.New.Context().Raw(), w.g.Context().Raw()) || v.Old.Epoch() != w.g.Epoch()-1 {
		t.Error("the event's view is wrong")
	}
	for i, p := range e.Commit.Proposals {
		if (p.Ref != nil) != (i == 2) || p.Sender.Index != []uint32{0, 0, 2}[i] {
			t.Errorf("proposal %d: wrong author or reference", i)
		}
	}
	// Each phase can refuse, with the application's error.
	for phase := mls.PhaseSigned; phase <= mls.PhaseComplete; phase++ {
		asked = nil
		w.opts.Rules = recorder{asked: &asked, refuse: phase}
		w.g = w.reload()
		msg := w.commit(1, commitOptions{})
		w.refuse(mls.RulePolicy, msg)
		if _, _, err := w.g.Process(msg, timeZero); !errors.Is(err, errPolicy) {
			t.Errorf("phase %d: the application's error is lost", phase)
		}
		if n := len(asked); n < int(phase) {
			t.Errorf("phase %d: asked %d times", phase, n)
		}
	}
}

// TestPhasesAreInOrder: a message that violates everything is refused for the
// first thing, so that a server answers in the order of its specification.
func TestPhasesAreInOrder(t *testing.T) {
	w := newWorld(t, 1, 3)
	bad := w.keyPackage(func(p *mls.KeyPackage) { p.Signature = w.random(64) })
	all := func() commitOptions {
		return commitOptions{
			list: values(mls.AddProposal(bad), mls.RemoveProposal(1)),
			path: func(p *wire.UpdatePath) { p.Nodes[0].Secrets = nil },
		}
	}
	self := values(mls.RemoveProposal(0))
	steps := []struct {
		rule mls.Rule
		fix  func(o *commitOptions)
	}{
		{mls.RuleRemoveCommitter, func(o *commitOptions) { o.list = append(o.list, self...) }},
		{mls.RuleKeyPackageSignature, func(*commitOptions) {}},
		{mls.RulePathShape, func(o *commitOptions) { o.list = values(mls.RemoveProposal(1)) }},
	}
	for _, s := range steps {
		o := all()
		s.fix(&o)
		w.refuse(s.rule, w.commit(0, o))
		o.content = func(c *wire.FramedContent) { c.Epoch = 77 }
		w.refuse(mls.RuleEpoch, w.commit(0, o))
		o.content = func(c *wire.FramedContent) { c.Epoch, c.GroupID = 77, []byte("x") }
		w.refuse(mls.RuleGroupID, w.commit(0, o))
	}
	last := mls.Step(0)
	for _, r := range []mls.Rule{
		mls.RuleMalformed, mls.RuleGroupID, mls.RuleEpoch, mls.RuleSignature, mls.RuleRemoveCommitter,
		mls.RuleKeyPackageSignature, mls.RulePathShape,
	} {
		if r.Step() <= last {
			t.Errorf("step of %s is not after %d", r, last)
		}
		last = r.Step()
	}
}

func TestNoRules(t *testing.T) {
	w := newWorld(t, 1, 1)
	info := w.groupInfo(w.state(), 0, nil).Message()
	for _, o := range []*mls.Options{nil, {}} {
		if g, err := mls.NewPublicGroup(info, nil, o); !errors.Is(err, mls.ErrNoRules) || g != nil {
			t.Errorf("got %v", err)
		}
		if g, err := mls.ParsePublicGroup(save(t, w.g), o); !errors.Is(err, mls.ErrNoRules) || g != nil {
			t.Errorf("got %v", err)
		}
	}
}

// TestNoAliasing changes everything the API hands out and everything it was
// given.
func TestNoAliasing(t *testing.T) {
	w := newWorld(t, 1, 4, mls.Extension{Type: groupExtension, Data: []byte("data")})
	ref := w.store(w.propose(2, mls.AddProposal(w.keyPackage(nil))))
	info := w.groupInfo(w.state(), 0, nil).Message()
	g, err := w.g.WithGroupInfo(info)
	w.check(err)
	want := save(t, g)
	spoil := func(b []byte) {
		for i := range b {
			b[i] ^= 0xff
		}
	}
	spoilLeaf := func(l *mls.LeafNode) {
		spoil(l.Raw())
		spoil(l.EncryptionKey)
		spoil(l.SignatureKey)
		l.Extensions = nil
		l.Capabilities.Credentials[0]++
	}
	spoilView := func(v *mls.CommitView) {
		spoil(v.AAD)
		spoilLeaf(v.PathLeaf)
		for _, p := range v.Proposals {
			spoil(p.Raw())
			p.Type = 99
		}
	}
	c := g.Context()
	spoil(c.Raw())
	spoil(c.TreeHash)
	spoil(c.Extensions[0].Data)
	data, _ := g.Extension(groupExtension)
	spoil(data)
	spoil(g.GroupID())
	spoil(g.TreeBytes())
	spoil(g.ConfirmationTag())
	spoil(g.InterimTranscriptHash())
	served, _ := g.GroupInfo()
	spoil(served)
	spoil(info)
	for _, l := range g.Members() {
		spoilLeaf(l)
	}
	spoilLeaf(g.Leaf(2))
	for _, p := range g.Proposals() {
		spoil(p.Raw())
		spoil(p.Ref)
		spoilLeaf(p.Add.Leaf)
	}
	if !bytes.Equal(save(t, g), want) {
		t.Fatal("a state can be changed through what it hands out")
	}
	msg := w.commit(1, commitOptions{list: append(values(mls.RemoveProposal(3), mls.ExtensionsProposal(
		[]mls.Extension{{Type: groupExtension, Data: []byte("other")}})), ref), aad: []byte("aad")})
	next, e, err := g.Process(msg, timeZero)
	w.check(err)
	after := save(t, next)
	spoil(msg)
	spoilView(e.Commit)
	spoil(e.AAD)
	if !bytes.Equal(save(t, g), want) || !bytes.Equal(save(t, next), after) {
		t.Error("a state can be changed through a message or an event")
	}
	saved := bytes.Clone(after)
	loaded, err := mls.ParsePublicGroup(saved, w.opts)
	w.check(err)
	spoil(saved)
	if !bytes.Equal(save(t, loaded), after) {
		t.Error("a state can be changed through the bytes it was loaded from")
	}
}

func TestVerify(t *testing.T) {
	w := newWorld(t, 1, 2)
	content := []byte("commit H of epoch e refused, rule R")
	signature := w.sign(w.g.Leaf(1).SignatureKey, "AppRequestTBS", content)
	if err := w.g.Verify(1, "AppRequestTBS", content, signature); err != nil {
		t.Error(err)
	}
	w.refused(mls.RuleSignature, w.g.Verify(0, "AppRequestTBS", content, signature))
	w.refused(mls.RuleSignature, w.g.Verify(1, "FramedContentTBS", content, signature))
	w.refused(mls.RuleSignature, w.g.Verify(1, "AppRequestTBS", content[1:], signature))
	w.refused(mls.RuleSender, w.g.Verify(2, "AppRequestTBS", content, signature))
	w.refused(mls.RuleSender, w.g.Verify(1<<31, "AppRequestTBS", content, signature))
}

// TestConcurrentUse is for the race detector: a state is read and advanced by
// many goroutines at once.
func TestConcurrentUse(t *testing.T) {
	w := newWorld(t, 1, 8)
	msg := w.commit(1, commitOptions{list: values(mls.RemoveProposal(3), mls.AddProposal(w.keyPackage(nil)))})
	done := make(chan []byte)
	for range 8 {
		go func() {
			next, _, err := w.g.Process(msg, time.Time{})
			if err != nil {
				done <- nil
				return
			}
			for range w.g.Members() {
			}
			b, _ := next.AppendBinary(nil)
			done <- b
		}()
	}
	var first []byte
	for range 8 {
		b := <-done
		if first == nil {
			first = b
		}
		if b == nil || !bytes.Equal(b, first) {
			t.Fatal("goroutines disagree")
		}
	}
}

// TestProvisionalContext: path secrets are encrypted under the new epoch,
// extensions and tree, and the old transcript (RFC 9420 §12.4.1).
func TestProvisionalContext(t *testing.T) {
	w := newWorld(t, 1, 4)
	es := []mls.Extension{{Type: groupExtension, Data: []byte("new")}}
	m, err := mls.ParseMessage(w.commit(1, commitOptions{list: values(mls.ExtensionsProposal(es))}), nil)
	w.check(err)
	st := w.state()
	p, err := st.Prepare(m.Public.Authenticated(), timeZero)
	w.check(err)
	c := p.PathContext
	data, _ := c.Extension(groupExtension)
	if c.Epoch != w.g.Epoch()+1 || string(data) != "new" || !bytes.Equal(c.TreeHash, p.NewTree.Hash()) {
		t.Error("not the new epoch, extensions and tree")
	}
	if !bytes.Equal(c.ConfirmedTranscriptHash, w.g.Context().ConfirmedTranscriptHash) {
		t.Error("not the old transcript")
	}
	if bytes.Equal(p.NewContext.ConfirmedTranscriptHash, c.ConfirmedTranscriptHash) || !bytes.Equal(p.NewContext.TreeHash, c.TreeHash) {
		t.Error("the new context is not as it should be")
	}
}
