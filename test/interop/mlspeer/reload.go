package main

import (
	"encoding/json"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
)

// saved is everything that a client holds.
type saved struct {
	Suite          mls.CipherSuite
	Signer         []byte
	Unused         [][]byte
	PSKs           []savedPSK
	Group, Joining *savedGroup
}

type savedPSK struct{ ID, Secret []byte }

type savedGroup struct{ Public, Private []byte }

func saveGroup(g *member.Group) (*savedGroup, error) {
	if g == nil {
		return nil, nil
	}
	s := &savedGroup{}
	var err error
	if s.Public, err = g.AppendPublic(nil); err != nil {
		return nil, err
	}
	s.Private, err = g.AppendPrivate(nil)
	return s, err
}

func (c *client) save() (*saved, error) {
	s := &saved{Suite: c.suite, Signer: c.signer.Private()}
	for _, k := range c.unused {
		b, err := k.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		s.Unused = append(s.Unused, b)
	}
	for id, secret := range c.psks {
		s.PSKs = append(s.PSKs, savedPSK{[]byte(id), secret})
	}
	var err error
	if s.Group, err = saveGroup(c.group); err != nil {
		return nil, err
	}
	s.Joining, err = saveGroup(c.joining)
	return s, err
}

func (c *client) loadGroup(s *savedGroup) (*member.Group, error) {
	if s == nil {
		return nil, nil
	}
	o := c.options()
	return member.ParseGroup(s.Public, s.Private, member.Signers(c.signer), &o)
}

// load makes a client of its bytes alone.
func load(name string, b []byte) (*client, error) {
	var s saved
	err := json.Unmarshal(b, &s)
	if err != nil {
		return nil, err
	}
	c := &client{name: name, suite: s.Suite, psks: map[string][]byte{}}
	if c.signer, err = member.NewSigner(s.Suite, s.Signer); err != nil {
		return nil, err
	}
	for _, b := range s.Unused {
		k, err := member.ParseKeyPackage(b, c.signer)
		if err != nil {
			return nil, err
		}
		c.unused = append(c.unused, k)
	}
	for _, p := range s.PSKs {
		c.psks[string(p.ID)] = p.Secret
	}
	if c.group, err = c.loadGroup(s.Group); err != nil {
		return nil, err
	}
	c.joining, err = c.loadGroup(s.Joining)
	return c, err
}

func (c *client) wipe() {
	for _, g := range []*member.Group{c.group, c.joining} {
		if g != nil {
			g.Retire(nil)
		}
	}
	for _, k := range c.unused {
		k.Wipe()
	}
	c.signer.Wipe()
}

func (c *client) reload(_ request) (answer, error) {
	s, err := c.save()
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	next, err := load(c.name, b)
	if err != nil {
		return nil, err
	}
	c.wipe()
	*c = *next
	// The options of the groups ask the client that they were loaded for.
	a := answer{"bytes": 0}
	for _, g := range []*savedGroup{s.Group, s.Joining} {
		if g != nil {
			a["bytes"] = a["bytes"].(int) + len(g.Public) + len(g.Private) //nolint:forcetypeassert // Set above.
		}
	}
	if c.group == nil {
		return a, nil
	}
	return c.withState(a)
}
