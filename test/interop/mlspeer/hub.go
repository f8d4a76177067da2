package main

import (
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
)

var hubOptions = &mls.Options{Rules: mls.OpenRules{}}

func hubState(g *mls.PublicGroup) answer {
	a := publicState(g)
	a["proposals"] = len(g.Proposals())
	return a
}

func (p *peer) hub(name string) (*mls.PublicGroup, error) {
	g := p.hubs[name]
	if g == nil {
		return nil, fail("no_group", "no such hub")
	}
	return g, nil
}

func (p *peer) hubCreate(name string, r request) (answer, error) {
	if err := r.need("group_info"); err != nil {
		return nil, err
	}
	if _, err := parseAs(r.bytes("group_info"), mls.FormatGroupInfo); err != nil {
		return nil, err
	}
	g, err := mls.NewPublicGroup(r.bytes("group_info"), r.bytes("ratchet_tree"), hubOptions)
	if err != nil {
		return nil, err
	}
	p.hubs[name] = g
	return hubState(g), nil
}

func (p *peer) hubProcess(name string, r request) (answer, error) {
	if err := r.need("message"); err != nil {
		return nil, err
	}
	g, err := p.hub(name)
	if err != nil {
		return nil, err
	}
	if _, err := parseAs(r.bytes("message"), mls.FormatPublicMessage, mls.FormatPrivateMessage); err != nil {
		return nil, err
	}
	// Lifetimes are the adding client's to judge.
	next, event, err := g.Process(r.bytes("message"), time.Time{})
	if err != nil {
		return nil, err
	}
	p.hubs[name] = next
	a := hubState(next).with(eventJSON(event))
	if v := event.Commit; v != nil {
		added := append([]mls.LeafIndex{}, v.Added...)
		if v.External {
			added = append(added, v.Committer)
		}
		a["added"] = added
		a["removed"] = append([]mls.LeafIndex{}, v.Removed...)
	}
	return a, nil
}

func (p *peer) hubGroupInfo(name string, r request) (answer, error) {
	g, err := p.hub(name)
	if err != nil {
		return nil, err
	}
	if r.has("group_info") {
		if _, err := parseAs(r.bytes("group_info"), mls.FormatGroupInfo); err != nil {
			return nil, err
		}
		next, err := g.WithGroupInfo(r.bytes("group_info"))
		if err != nil {
			return nil, err
		}
		p.hubs[name] = next
		return hubState(next), nil
	}
	info, ok := g.GroupInfo()
	if !ok {
		return nil, fail("no_group", "no group info for this epoch")
	}
	a := answer{}
	a.set("group_info", info)
	a.set("ratchet_tree", g.TreeBytes())
	return a, nil
}

func (p *peer) hubInfo(name string, _ request) (answer, error) {
	g, err := p.hub(name)
	if err != nil {
		return nil, err
	}
	return hubState(g), nil
}

func (p *peer) hubReload(name string, _ request) (answer, error) {
	g, err := p.hub(name)
	if err != nil {
		return nil, err
	}
	b, err := g.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	next, err := mls.ParsePublicGroup(b, hubOptions)
	if err != nil {
		return nil, err
	}
	p.hubs[name] = next
	a := hubState(next)
	a["bytes"] = len(b)
	return a, nil
}
