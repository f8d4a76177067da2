package mls_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// FuzzPublicState: a saved state that loads is saved as the same bytes, and
// then serves whatever is asked of it.
func FuzzPublicState(f *testing.F) {
	w := newWorld(f, 1, 3, mls.Extension{Type: groupExtension, Data: []byte("x")})
	f.Add(save(f, w.g))
	g, err := w.g.WithGroupInfo(w.groupInfo(w.state(), 1, nil).Message())
	w.check(err)
	f.Add(save(f, g))
	w.store(w.propose(1, mls.RemoveProposal(2)))
	w.store(w.propose(1, mls.AddProposal(w.keyPackage(nil))))
	f.Add(save(f, w.g))
	msg := w.commit(0, commitOptions{})
	opts := w.opts
	f.Fuzz(func(t *testing.T, b []byte) {
		var g *mls.PublicGroup
		var err error
		mlstest.Bounded(t, len(b), func() { g, err = mls.ParsePublicGroup(b, opts) })
		if err != nil {
			if g != nil {
				t.Fatal("a value with an error")
			}
			return
		}
		if !bytes.Equal(save(t, g), b) {
			t.Fatal("saved as other bytes")
		}
		for i, leaf := range g.Members() {
			if leaf == nil || g.Leaf(i) == nil {
				t.Fatal("a member without a leaf")
			}
		}
		g.GroupInfo()
		for _, p := range g.Proposals() {
			if p.Proposal == nil {
				t.Fatal("a proposal without a body")
			}
		}
		if next, _, err := g.Process(msg, timeZero); err != nil && next != nil {
			t.Fatal("a state with an error")
		}
	})
}
