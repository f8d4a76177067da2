package wire

// Rebuild returns the value encoded again from its fields, down to the last
// nested structure, instead of from the bytes it was parsed from.
func (n *LeafNode) Rebuild() *LeafNode {
	c := *n
	c.raw, c.caps, c.body = nil, nil, 0
	return c.Seal()
}

func (p *KeyPackage) Rebuild() *KeyPackage {
	c := *p
	c.raw, c.body = nil, 0
	c.Leaf = p.Leaf.Rebuild()
	return c.Seal()
}

func (p *Proposal) Rebuild() *Proposal {
	c := *p
	c.raw = nil
	if p.Add != nil {
		c.Add = p.Add.Rebuild()
	}
	if p.Update != nil {
		c.Update = p.Update.Rebuild()
	}
	return c.Seal()
}

func (c *Commit) Rebuild() *Commit {
	d := &Commit{}
	for _, p := range c.Proposals {
		if p.Proposal != nil {
			p.Proposal = p.Proposal.Rebuild()
		}
		d.Proposals = append(d.Proposals, p)
	}
	if c.Path != nil {
		d.Path = &UpdatePath{Leaf: c.Path.Leaf.Rebuild(), Nodes: c.Path.Nodes}
	}
	return d
}

func (c *FramedContent) Rebuild() *FramedContent {
	d := *c
	d.raw = nil
	if c.Proposal != nil {
		d.Proposal = c.Proposal.Rebuild()
	}
	if c.Commit != nil {
		d.Commit = c.Commit.Rebuild()
	}
	return d.Seal()
}

func (c *GroupContext) Rebuild() *GroupContext {
	d := *c
	d.raw = nil
	return d.Seal()
}

func (g *GroupInfo) Rebuild() *GroupInfo {
	d := *g
	d.raw, d.body = nil, 0
	d.Context = g.Context.Rebuild()
	return d.Seal()
}

func (m *Message) Rebuild() *Message {
	d := &Message{Format: m.Format, Private: m.Private, Welcome: m.Welcome}
	switch {
	case m.Public != nil:
		p := *m.Public
		p.Content = p.Content.Rebuild()
		d.Public = &p
	case m.GroupInfo != nil:
		d.GroupInfo = m.GroupInfo.Rebuild()
	case m.KeyPackage != nil:
		d.KeyPackage = m.KeyPackage.Rebuild()
	}
	return d
}
