package main

import (
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
)

func (c *client) commit(r request) (answer, error) {
	g, err := c.active()
	if err != nil {
		return nil, err
	}
	if c.joining != nil {
		return nil, member.ErrPending
	}
	o := member.CommitOptions{
		AAD: r.bytes("aad"), Private: r.flag("private"), Now: time.Now(),
		Welcome: member.WelcomeOptions{Extensions: r.extensions("gi_exts"), WithoutTree: r.flag("no_tree")},
	}
	if o.ByValue, err = c.byValue(g, r); err != nil {
		return nil, err
	}
	next, staged, err := g.Stage(o)
	if err != nil {
		return nil, err
	}
	a := answer{}
	a.set("commit", staged.Commit())
	a.set("ratchet_tree", staged.Public().TreeBytes())
	if w := staged.Welcome(); w != nil {
		a.set("welcome", w)
	}
	if !r.flag("stage") {
		if next, err = confirmed(next); err != nil {
			return nil, err
		}
	}
	c.adopt(next)
	return c.withState(a)
}

// byValue makes a commit's own proposals: remove, add, gce, psks.
func (c *client) byValue(g *member.Group, r request) ([]*mls.ProposalBody, error) {
	var list []*mls.ProposalBody
	for _, w := range items[any](r, "remove") {
		i, err := resolve(g, w)
		if err != nil {
			return nil, err
		}
		list = append(list, mls.RemoveProposal(i))
	}
	for _, b := range items[[]byte](r, "add") {
		m, err := parseAs(b, mls.FormatKeyPackage)
		if err != nil {
			return nil, err
		}
		list = append(list, mls.AddProposal(m.KeyPackage))
	}
	if r.has("gce") {
		list = append(list, mls.ExtensionsProposal(r.extensions("gce")))
	}
	for _, id := range items[[]byte](r, "psks") {
		p, err := member.ExternalPSKProposal(c.suite, id)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// resolve finds the leaf that a who names.
func resolve(g *member.Group, w any) (mls.LeafIndex, error) {
	if i, ok := w.(mls.LeafIndex); ok {
		return i, nil
	}
	for i, leaf := range g.Public().Members() {
		if identityOf(leaf.Credential) == w {
			return i, nil
		}
	}
	return 0, fail("invalid", "no such member")
}

func (c *client) withState(a answer) (answer, error) {
	s, err := c.state()
	if err != nil {
		return nil, err
	}
	return a.with(s), nil
}

// confirmed confirms g, and retires it: nobody else has seen it.
func confirmed(g *member.Group) (*member.Group, error) {
	next, _, err := g.Confirm()
	if err != nil {
		return nil, err
	}
	g.Retire(next)
	return next, nil
}

func (c *client) confirm(_ request) (answer, error) {
	if c.joining != nil {
		next, _, err := c.joining.Confirm()
		if err != nil {
			return nil, err
		}
		if c.group != nil {
			c.group.Retire(nil)
		}
		c.joining.Retire(next)
		c.group, c.joining = next, nil
		return c.state()
	}
	g, err := c.active()
	if err != nil {
		return nil, fail("no_pending", "nothing is staged")
	}
	next, _, err := g.Confirm()
	if err != nil {
		return nil, err
	}
	c.adopt(next)
	return c.state()
}

func (c *client) discard(_ request) (answer, error) {
	if c.joining != nil {
		c.joining.Retire(nil)
		c.joining = nil
		if c.group == nil {
			return nil, nil
		}
		return c.state()
	}
	g, err := c.active()
	if err != nil {
		return nil, fail("no_pending", "nothing is staged")
	}
	next, err := g.Discard()
	if err != nil {
		return nil, err
	}
	c.adopt(next)
	return c.state()
}

func (c *client) propose(r request) (answer, error) {
	given := 0
	for _, name := range []string{"add", "remove", "gce"} {
		if r.has(name) {
			given++
		}
	}
	if r.flag("update") {
		given++
	}
	if given != 1 {
		return nil, badRequest("one of add, remove, update, gce")
	}
	g, err := c.active()
	if err != nil {
		return nil, err
	}
	next, msg, err := c.proposal(g, r)
	if err != nil {
		return nil, err
	}
	a := answer{}
	a.set("message", msg)
	known := map[string]bool{}
	for _, p := range g.Public().Proposals() {
		known[string(p.Ref)] = true
	}
	for _, p := range next.Public().Proposals() {
		if !known[string(p.Ref)] {
			a.set("ref", p.Ref)
		}
	}
	c.adopt(next)
	return a, nil
}

func (c *client) proposal(g *member.Group, r request) (*member.Group, []byte, error) {
	o := member.SendOptions{AAD: r.bytes("aad"), Private: r.flag("private")}
	switch {
	case r.flag("update"):
		var leaf *member.LeafOptions
		if r.has("leaf_exts") {
			leaf = &member.LeafOptions{Extensions: r.extensions("leaf_exts")}
		}
		return g.ProposeUpdate(leaf, o)
	case r.has("gce"):
		return g.Propose(mls.ExtensionsProposal(r.extensions("gce")), o)
	case r.has("remove"):
		i, err := resolve(g, r["remove"])
		if err != nil {
			return nil, nil, err
		}
		return g.Propose(mls.RemoveProposal(i), o)
	}
	m, err := parseAs(r.bytes("add"), mls.FormatKeyPackage)
	if err != nil {
		return nil, nil, err
	}
	// A proposal's lifetime is not looked at by the engine's Propose.
	if err := mls.VerifyKeyPackage(m.KeyPackage, time.Now(), nil); err != nil {
		return nil, nil, err
	}
	return g.Propose(mls.AddProposal(m.KeyPackage), o)
}

func (c *client) groupInfo(r request) (answer, error) {
	g, err := c.active()
	if err != nil {
		return nil, err
	}
	info, err := g.GroupInfo(member.GroupInfoOptions{Extensions: r.extensions("gi_exts"), WithoutTree: r.flag("no_tree")})
	if err != nil {
		return nil, err
	}
	a := answer{}
	a.set("group_info", info)
	a.set("ratchet_tree", g.Public().TreeBytes())
	return a, nil
}

func (c *client) process(r request) (answer, error) {
	if err := r.need("message"); err != nil {
		return nil, err
	}
	g, err := c.active()
	if err != nil {
		return nil, err
	}
	if _, err := parseAs(r.bytes("message"), mls.FormatPublicMessage, mls.FormatPrivateMessage); err != nil {
		return nil, err
	}
	next, event, err := g.Process(r.bytes("message"))
	if err != nil {
		return nil, err
	}
	c.adopt(next)
	if event.Kind == mls.KindCommit && c.joining != nil { // A lost race.
		c.joining.Retire(nil)
		c.joining = nil
	}
	return c.withState(eventJSON(event))
}

func eventJSON(e *mls.Event) answer {
	a := answer{"kind": map[mls.Kind]string{
		mls.KindProposal: "proposal", mls.KindCommit: "commit", mls.KindApplication: "application",
	}[e.Kind]}
	a.set("aad", e.AAD)
	if e.Sender.Type == mls.SenderMember {
		a["sender"] = e.Sender.Index
	}
	if e.Kind == mls.KindApplication {
		a.set("data", e.Data)
	}
	return a
}

func (c *client) send(r request) (answer, error) {
	if err := r.need("data"); err != nil {
		return nil, err
	}
	g, err := c.active()
	if err != nil {
		return nil, err
	}
	next, msg, err := g.Send(r.bytes("data"), member.SendOptions{AAD: r.bytes("aad")})
	if err != nil {
		return nil, err
	}
	c.adopt(next)
	a := answer{}
	a.set("message", msg)
	return a, nil
}

func (c *client) export(r request) (answer, error) {
	if err := r.need("label", "context", "length"); err != nil {
		return nil, err
	}
	g, err := c.active()
	if err != nil {
		return nil, err
	}
	n := r.int("length")
	if n > 1<<20 {
		return nil, fail("limit", "length too large")
	}
	secret, err := g.Export(r.str("label"), r.bytes("context"), int(n))
	if err != nil {
		return nil, err
	}
	a := answer{}
	a.set("secret", secret)
	return a, nil
}

func (c *client) info(_ request) (answer, error) { return c.state() }
