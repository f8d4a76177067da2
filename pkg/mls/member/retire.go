package member

import (
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/secret"
	"github.com/mmrelay/mmrelay/pkg/mls/internal/suite"
)

// Retire clears the secrets that g holds and next does not (RFC 9420 §9.2). Call
// it when next, which came from g by one step or several, was stored and
// adopted; a nil next clears everything. Neither g nor other Groups that came
// from it can be used afterwards: what they share with it may be gone.
//
// Clearing is best effort: the runtime may have copied a secret, and the
// Signer's key and KeyPackages are the caller's to clear.
func (g *Group) Retire(next *Group) {
	if g == next || g.retired.Swap(true) {
		return
	}
	kept := map[suite.Secret]bool{} // Keyed by address, not by content.
	trees := map[mls.Epoch]*secret.Tree{}
	if next != nil {
		next.secrets(func(s suite.Secret) { kept[s] = true })
		next.trees(func(n mls.Epoch, t *secret.Tree) { trees[n] = t })
	}
	g.secrets(func(s suite.Secret) {
		if !kept[s] {
			s.Wipe()
		}
	})
	// Epochs of one number are the same epoch, or share nothing.
	g.trees(func(n mls.Epoch, t *secret.Tree) { secret.RetireTree(t, trees[n]) })
}

// secrets calls f for every secret held, those in secret trees excepted.
func (g *Group) secrets(f func(suite.Secret)) {
	if g.cur != nil {
		g.cur.visit(f)
	}
	if g.pending != nil {
		g.pending.next.visit(f)
	}
	for _, p := range g.past {
		f(p.senderData)
	}
	for _, r := range g.resumption {
		f(r.secret)
	}
}

func (e *epoch) visit(f func(suite.Secret)) {
	for _, s := range e.secrets.Secrets() {
		f(s)
	}
	e.keys.Secrets(f)
	for _, u := range e.updates {
		f(u.private)
	}
}

// trees calls f for every secret tree held.
func (g *Group) trees(f func(mls.Epoch, *secret.Tree)) {
	if g.cur != nil {
		f(g.cur.pub.Context().Epoch, g.cur.tree)
	}
	if g.pending != nil {
		f(g.pending.Epoch(), g.pending.next.tree)
	}
	for _, p := range g.past {
		f(p.context.Epoch, p.tree)
	}
}
