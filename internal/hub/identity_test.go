package hub_test

import (
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// leafSpec is a leaf in the making: zero fields are right.
type leafSpec struct {
	user       pseudonym.ID
	client     pseudonym.ID
	domain     string // of the provider
	keyID      uint8
	signer     *member.SigningKey
	tbsKey     []byte // in the credential, if not the signer's
	kind       mls.CredentialType
	body       func([]byte) []byte // changes the credential
	delivery   []byte              // extension data
	noDelivery bool
	caps       func(*mls.Capabilities)
	extensions []mls.Extension // besides
	suite      mls.CipherSuite
}

// identity is a leaf with all its secrets.
type identity struct {
	*member.Identity
	tbs      pseudonym.TBS
	signer   *member.SigningKey
	linkKey  primitive.Secret
	delivery *primitive.KEMPrivateKey
	ext      mls.Extension
}

func (w *world) id(host string, kind pseudonym.Kind) pseudonym.ID {
	w.t.Helper()
	id, err := pseudonym.NewID(host, kind)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) identity(s leafSpec) *identity {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	var err error
	if s.user.String() == "" {
		s.user = w.id("a.example", pseudonym.User)
	}
	if s.client.String() == "" {
		s.client = w.id(s.user.Host(), pseudonym.Client)
	}
	if s.domain == "" {
		s.domain = s.user.Host()
	}
	if s.keyID == 0 {
		s.keyID = 1
	}
	if s.suite == 0 {
		s.suite = suite
	}
	if s.signer == nil {
		s.signer, err = member.GenerateSigner(s.suite)
		must(err)
	}
	if s.kind == 0 {
		s.kind = mls.CredentialType(pseudonym.CredentialPseudonymous)
	}
	i := &identity{signer: s.signer, linkKey: primitive.NewSecret(), tbs: pseudonym.TBS{Client: s.client, User: s.user, Key: s.signer.Public()}}
	if s.tbsKey != nil {
		i.tbs.Key = s.tbsKey
	}
	w.ilks[i.tbs.Hash()] = i.linkKey
	cred, err := pseudonym.NewCredential(i.tbs, i.linkKey, w.real)
	must(err)
	body, err := cred.AppendBinary(nil)
	must(err)
	if s.body != nil {
		body = s.body(body)
	}
	i.delivery, err = primitive.GenerateKEMKey(primitive.X25519)
	must(err)
	d, err := seal.NewDelivery(w.queue.Public(), s.domain, s.keyID, seal.QueueConfig{QueueID: [16]byte{1}, NotAfterDay: seal.Day(time.Now()) + 30}, i.delivery.Public())
	must(err)
	data, err := d.AppendBinary(nil)
	must(err)
	if s.delivery != nil {
		data = s.delivery
	}
	i.ext = mls.Extension{Type: mls.ExtensionType(pseudonym.ExtensionDelivery), Data: data}
	caps := capabilities()
	caps.Suites = []mls.CipherSuite{s.suite}
	if s.caps != nil {
		s.caps(&caps)
	}
	var es []mls.Extension
	if !s.noDelivery {
		es = append(es, i.ext)
	}
	i.Identity = &member.Identity{Suite: s.suite, Credential: mls.CustomCredential(s.kind, body), Signer: s.signer, Capabilities: caps, Extensions: append(es, s.extensions...)}
	if s.kind == mls.CredentialBasic {
		i.Credential = mls.BasicCredential(body)
	}
	return i
}

func capabilities() mls.Capabilities {
	u := pseudonym.UniformLeaf(uint16(suite))
	return mls.Capabilities{
		Versions: convert[mls.ProtocolVersion](u.Versions), Suites: convert[mls.CipherSuite](u.CipherSuites),
		Extensions: convert[mls.ExtensionType](u.Extensions), Credentials: convert[mls.CredentialType](u.Credentials),
	}
}

func convert[T ~uint16](xs []uint16) []T {
	out := make([]T, len(xs))
	for i, x := range xs {
		out[i] = T(x)
	}
	return out
}

func lifetime() mls.Lifetime {
	nb, na := pseudonym.Lifetime(time.Now())
	return mls.Lifetime{NotBefore: nb, NotAfter: na}
}

// anything lets a member replace its credential by any other.
type anything struct{ mls.OpenRules }

func (anything) Successor(_, _ *mls.LeafNode) error { return nil }

// options let members do what they like: the hub is to be the judge.
func options() member.Options {
	return member.Options{Options: mls.Options{Rules: anything{}, Limits: mls.Limits{MaxLifetime: -1}}}
}

func (i *identity) key(t *testing.T) *primitive.SigningKey {
	t.Helper()
	return signingKey(t, i.signer)
}

func signingKey(t *testing.T, s *member.SigningKey) *primitive.SigningKey {
	t.Helper()
	secret, err := primitive.ParseSecret(s.Private())
	if err != nil {
		t.Fatal(err)
	}
	alg := primitive.Ed25519
	if len(s.Public()) > 32 {
		alg = primitive.ECDSAP256
	}
	k, err := primitive.ParseSigningKey(alg, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
