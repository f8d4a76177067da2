package main

import (
	"bytes"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
)

// client is one client of the protocol.
type client struct {
	name    string
	suite   mls.CipherSuite
	signer  *member.SigningKey
	unused  []*member.KeyPackage
	psks    map[string][]byte
	group   *member.Group // nil: in no group; may be Removed
	joining *member.Group // an external join that is not confirmed
}

func newClient(name string, r request) (*client, error) {
	c := &client{name: name, suite: 1, psks: map[string][]byte{}}
	if r.has("suite") {
		n := r.int("suite")
		if n < 1 || n > 7 {
			return nil, fail("unsupported", "unknown cipher suite")
		}
		c.suite = mls.CipherSuite(n)
	}
	var err error
	c.signer, err = member.GenerateSigner(c.suite)
	return c, err
}

func (c *client) options() member.Options {
	return member.Options{
		Options: mls.Options{Rules: mls.OpenRules{}},
		PSK:     func(id []byte) []byte { return c.psks[string(id)] },
	}
}

// active returns the group that the client is in.
func (c *client) active() (*member.Group, error) {
	if c.group == nil || c.group.Status() != member.Active {
		return nil, errNoGroup
	}
	return c.group, nil
}

// adopt makes g the client's group.
func (c *client) adopt(g *member.Group) {
	if c.group != nil {
		c.group.Retire(g)
	}
	c.group = g
}

// identity reads the leaf fields of a request.
func (c *client) identity(r request) (*member.Identity, error) {
	id := &member.Identity{
		Suite:        c.suite,
		Credential:   mls.BasicCredential([]byte(c.name)),
		Signer:       c.signer,
		Capabilities: c.capabilities(r),
		Extensions:   r.extensions("leaf_exts"),
	}
	switch {
	case r.has("credential_type") != r.has("credential_body"):
		return nil, badRequest("credential_type and credential_body belong together")
	case r.has("credential_type"):
		t := r.int("credential_type")
		if t > 0xffff {
			return nil, errType
		}
		switch mls.CredentialType(t) {
		case mls.CredentialBasic:
			id.Credential = mls.BasicCredential(r.bytes("credential_body"))
		case mls.CredentialX509:
			return nil, fail("unsupported", "a certificate chain is no opaque body")
		default:
			id.Credential = mls.CustomCredential(mls.CredentialType(t), r.bytes("credential_body"))
		}
	case r.has("identity"):
		id.Credential = mls.BasicCredential([]byte(r.str("identity")))
	}
	return id, nil
}

func (c *client) capabilities(r request) mls.Capabilities {
	caps := member.DefaultCapabilities(c.suite)
	for _, t := range items[uint16](r, "cap_creds") {
		if !caps.SupportsCredential(mls.CredentialType(t)) {
			caps.Credentials = append(caps.Credentials, mls.CredentialType(t))
		}
	}
	for _, t := range items[uint16](r, "cap_exts") {
		caps.Extensions = append(caps.Extensions, mls.ExtensionType(t))
	}
	for _, t := range items[uint16](r, "cap_props") {
		caps.Proposals = append(caps.Proposals, mls.ProposalType(t))
	}
	return caps
}

// lifetime holds from yesterday for 90 days.
func lifetime() mls.Lifetime {
	const day = 24 * 3600
	now := uint64(time.Now().Unix()) //nolint:gosec // After 1970.
	return mls.Lifetime{NotBefore: now - day, NotAfter: now + 89*day}
}

func (c *client) keyPackage(r request) (answer, error) {
	id, err := c.identity(r)
	if err != nil {
		return nil, err
	}
	k, err := member.NewKeyPackage(id, member.KeyPackageOptions{Extensions: r.extensions("kp_exts"), Lifetime: lifetime()})
	if err != nil {
		return nil, err
	}
	c.unused = append(c.unused, k)
	a := answer{"identity": identityOf(id.Credential)}
	a.set("key_package", k.Message())
	a.set("ref", k.Ref())
	return a, nil
}

func (c *client) create(r request) (answer, error) {
	if err := r.need("group_id"); err != nil {
		return nil, err
	}
	if _, err := c.active(); err == nil || c.joining != nil {
		return nil, fail("invalid", "already in a group")
	}
	id, err := c.identity(r)
	if err != nil {
		return nil, err
	}
	g, err := member.Create(id, r.bytes("group_id"), member.CreateOptions{
		Options: c.options(), Extensions: r.extensions("gc_exts"), Lifetime: lifetime(),
	})
	if err != nil {
		return nil, err
	}
	c.adopt(g)
	return c.state()
}

func (c *client) psk(r request) (answer, error) {
	if err := r.need("id", "secret"); err != nil {
		return nil, err
	}
	c.psks[string(r.bytes("id"))] = r.bytes("secret")
	return nil, nil
}

func (c *client) join(r request) (answer, error) {
	if err := r.need("welcome"); err != nil {
		return nil, err
	}
	if _, err := parseAs(r.bytes("welcome"), mls.FormatWelcome); err != nil {
		return nil, err
	}
	if _, err := c.active(); err == nil || c.joining != nil {
		return nil, fail("invalid", "already in a group")
	}
	g, info, err := member.Join(r.bytes("welcome"), c.find, member.JoinOptions{Options: c.options(), Tree: r.bytes("ratchet_tree")})
	if err != nil {
		return nil, err
	}
	c.adopt(g)
	c.forget(info.KeyPackage)
	a, err := c.state()
	if err != nil {
		return nil, err
	}
	a["gi_exts"] = extensionsJSON(info.Extensions)
	return a, nil
}

func (c *client) find(ref []byte) *member.KeyPackage {
	for _, k := range c.unused {
		if bytes.Equal(k.Ref(), ref) {
			return k
		}
	}
	return nil
}

// forget deletes a key package that was used.
func (c *client) forget(used *member.KeyPackage) {
	for i, k := range c.unused {
		if k == used {
			c.unused = append(c.unused[:i:i], c.unused[i+1:]...)
			break
		}
	}
	used.Wipe()
}
