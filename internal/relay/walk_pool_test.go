package relay_test

import (
	"slices"
	"testing"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

const suite = mls.CipherSuite(1)

// pool is a client's pool of a connection, with one slot.
type pool struct {
	id, slot []byte
	token    primitive.Secret
	key      *primitive.SigningKey
	owner    *user
	sent     []string // packages that were uploaded
	last     []string // those of last-resort sets
}

// newPool draws what a pool needs; it is not created.
func (w *world) newPool() *pool {
	w.t.Helper()
	p := &pool{slot: random(16), token: primitive.NewSecret(), key: newKey(w), owner: w.user("anna")}
	id := pseudonym.PoolID(p.token)
	p.id = id[:]
	return p
}

func (w *world) create(p *pool) *ask {
	w.t.Helper()
	return w.ask(seal.MethodPoolCreate, seal.AuthPool, p.key, true,
		&relayv1.PoolCreateRequest{PoolId: p.id, UploadKey: p.key.Public().Bytes(), Slots: [][]byte{p.slot}}, new(relayv1.PoolCreateResponse))
}

func convert[T ~uint16](xs []uint16) []T {
	out := make([]T, len(xs))
	for i, x := range xs {
		out[i] = T(x)
	}
	return out
}

// set makes a set of KeyPackages with one member.
func (w *world) set(p *pool, lastResort bool) *relayv1.PoolSet {
	w.t.Helper()
	id, err := pseudonym.NewID(own, pseudonym.User)
	w.must(err)
	return w.setOf(p, id, lastResort)
}

func (w *world) setOf(p *pool, as pseudonym.ID, lastResort bool) *relayv1.PoolSet {
	w.t.Helper()
	signer, err := member.GenerateSigner(suite)
	w.must(err)
	tbs := pseudonym.TBS{User: as, Key: signer.Public()}
	tbs.Client, err = pseudonym.NewID(own, pseudonym.Client)
	w.must(err)
	cred, err := pseudonym.NewCredential(tbs, primitive.NewSecret(), p.owner.real)
	w.must(err)
	body, err := cred.AppendBinary(nil)
	w.must(err)
	published, err := w.keys.Published(time.Now())
	w.must(err)
	config, err := seal.ParseKeyConfig(published.GetQueueKeys()[0].GetConfig())
	w.must(err)
	delivery, err := primitive.GenerateKEMKey(primitive.X25519)
	w.must(err)
	d, err := seal.NewDelivery(config.Key, own, config.ID, seal.QueueConfig{NotAfterDay: seal.Day(time.Now()) + 30}, delivery.Public())
	w.must(err)
	data, err := d.AppendBinary(nil)
	w.must(err)
	u := pseudonym.UniformLeaf(uint16(suite))
	id := &member.Identity{
		Suite: suite, Credential: mls.CustomCredential(mls.CredentialType(pseudonym.CredentialPseudonymous), body), Signer: signer,
		Capabilities: mls.Capabilities{
			Versions: convert[mls.ProtocolVersion](u.Versions), Suites: convert[mls.CipherSuite](u.CipherSuites),
			Extensions: convert[mls.ExtensionType](u.Extensions), Credentials: convert[mls.CredentialType](u.Credentials),
		},
		Extensions: []mls.Extension{{Type: mls.ExtensionType(pseudonym.ExtensionDelivery), Data: data}},
	}
	o := member.KeyPackageOptions{}
	o.Lifetime.NotBefore, o.Lifetime.NotAfter = pseudonym.Lifetime(time.Now())
	if lastResort {
		o.Extensions = []mls.Extension{{Type: mls.ExtensionType(pseudonym.ExtensionLastResort), Data: []byte{}}}
	}
	kp, err := member.NewKeyPackage(id, o)
	w.must(err)
	if lastResort {
		p.last = append(p.last, string(kp.Message()))
	} else {
		p.sent = append(p.sent, string(kp.Message()))
	}
	return &relayv1.PoolSet{UserPseudonym: tbs.User.String(), LastResort: lastResort, Packages: []*relayv1.PoolPackage{{Slot: p.slot, KeyPackage: kp.Message()}}}
}

// upload makes n sets and a last-resort one.
func (w *world) upload(p *pool, n int) (*ask, *relayv1.PoolUploadResponse) {
	w.t.Helper()
	req := &relayv1.PoolUploadRequest{PoolId: p.id}
	for range n {
		req.Sets = append(req.Sets, w.set(p, false))
	}
	req.Sets = append(req.Sets, w.set(p, true))
	res := new(relayv1.PoolUploadResponse)
	return w.ask(seal.MethodPoolUpload, seal.AuthPool, p.key, true, req, res), res
}

// pool makes a pool with n sets and a last-resort one.
func (w *world) pool(n int) *pool {
	w.t.Helper()
	p := w.newPool()
	w.mustAsk(w.create(p))
	a, _ := w.upload(p, n)
	w.mustAsk(a)
	return p
}

// adder is somebody's request for KeyPackages.
func (w *world) adder(p *pool) (*ask, *relayv1.FetchKeyPackagesResponse) {
	w.t.Helper()
	res := new(relayv1.FetchKeyPackagesResponse)
	return w.ask(seal.MethodFetchKeyPackages, seal.AuthNone, nil, true, &relayv1.FetchKeyPackagesRequest{
		ConnectionToken: p.token.Bytes(), CipherSuite: uint32(suite), CredentialTypes: []uint32{uint32(pseudonym.CredentialPseudonymous)},
	}, res), res
}

// adders fetch until a last-resort set comes, and return the others.
func (w *world) adders(p *pool) (got []string) {
	w.t.Helper()
	for {
		a, res := w.adder(p)
		w.mustAsk(a)
		if len(res.GetKeyPackages()) != 1 || res.GetPartial() {
			w.t.Fatalf("a set has %d packages", len(res.GetKeyPackages()))
		}
		kp := string(res.GetKeyPackages()[0])
		if res.GetLastResort() {
			if !slices.Contains(p.last, kp) {
				w.t.Error("a last-resort package is nobody's")
			}
			return got
		}
		if !slices.Contains(p.sent, kp) || slices.Contains(got, kp) {
			w.t.Error("a package was served twice, or is nobody's")
		}
		got = append(got, kp)
	}
}

// poolWalks: what owners do with pools, and what adders are served.
var poolWalks = map[string]func(w *world) walked{
	seal.MethodPoolCreate: func(w *world) walked {
		p := w.newPool()
		return walked{send: w.create(p).send, after: func(w *world, _ bool) {
			a, res := w.upload(p, 2)
			w.mustAsk(a)
			if res.GetAvailable() != 2 {
				w.t.Errorf("%d sets are available, want 2", res.GetAvailable())
			}
		}}
	},
	seal.MethodPoolSlots: func(w *world) walked {
		p := w.pool(1)
		a := w.ask(seal.MethodPoolSlots, seal.AuthPool, p.key, false, &relayv1.PoolSlotsRequest{PoolId: p.id, Slots: [][]byte{p.slot, random(16)}}, new(relayv1.PoolSlotsResponse))
		return walked{send: a.send, after: func(w *world, _ bool) {
			f, res := w.adder(p)
			w.mustAsk(f)
			if !res.GetPartial() {
				w.t.Error("a set lacks a package for a new slot and is called complete")
			}
		}}
	},
	seal.MethodPoolList: func(w *world) walked {
		p, res := w.pool(1), new(relayv1.PoolListResponse)
		a := w.ask(seal.MethodPoolList, seal.AuthPool, p.key, false, &relayv1.PoolListRequest{PoolId: p.id}, res)
		return walked{send: a.send, after: func(w *world, _ bool) {
			if len(res.GetSets()) != 2 {
				w.t.Errorf("%d sets are listed, want 2", len(res.GetSets()))
			}
		}}
	},
	seal.MethodPoolUpload: func(w *world) walked {
		p := w.pool(1)
		a, res := w.upload(p, 2)
		return walked{send: a.send, after: func(w *world, _ bool) {
			if res.GetAvailable() != 3 {
				w.t.Errorf("%d sets are available, want 3", res.GetAvailable())
			}
			if got := w.adders(p); len(got) != 3 {
				w.t.Errorf("%d sets were served, want 3", len(got))
			}
		}}
	},
	seal.MethodFetchKeyPackages: func(w *world) walked {
		p := w.pool(3)
		a, res := w.adder(p)
		return walked{send: a.send, after: func(w *world, _ bool) {
			// The repeat is served the same set (SPEC.md R-66): none is lost.
			got := w.adders(p)
			if len(res.GetKeyPackages()) != 1 || len(got) != 2 || slices.Contains(got, string(res.GetKeyPackages()[0])) {
				w.t.Errorf("%d sets were served to others, want the 2 that are left", len(got))
			}
		}}
	},
	seal.MethodFetchKeyPackages + " of last resort": func(w *world) walked {
		p := w.pool(0)
		a, res := w.adder(p)
		return walked{send: a.send, after: func(w *world, _ bool) {
			if !res.GetLastResort() || len(w.adders(p)) != 0 {
				w.t.Error("what is of last resort does not last")
			}
		}}
	},
	seal.MethodPoolDelete: func(w *world) walked {
		p := w.pool(2)
		f, _ := w.adder(p)
		w.mustAsk(f)
		a := w.ask(seal.MethodPoolDelete, seal.AuthPool, p.key, false, &relayv1.PoolDeleteRequest{PoolId: p.id}, new(relayv1.PoolDeleteResponse))
		// Whose answer was lost is told no-consent, as for a pool that never was.
		return walked{send: a.send, refused: []mmrerr.Code{mmrerr.NoConsent}, after: func(w *world, _ bool) {
			if n := len(w.records(w.packages, relay.PoolGroup(p.id), "")); n != 0 {
				w.t.Errorf("%d records of the pool are left", n)
			}
			f, _ := w.adder(p)
			if err := f.send(w); codeOf(err) != mmrerr.NoConsent {
				w.t.Errorf("an adder is answered %v", err)
			}
		}}
	},
}

// TestUploadAgain: an upload whose answer was lost comes again when a set of it has
// been served. It is taken as done; another package in the place of one that was
// served is refused.
func TestUploadAgain(t *testing.T) {
	w := newWorld(t)
	p := w.newPool()
	w.mustAsk(w.create(p))
	a, res := w.upload(p, 2)
	w.mustAsk(a)
	f, served := w.adder(p)
	w.mustAsk(f)
	w.mustAsk(a)
	if res.GetAvailable() != 1 {
		t.Errorf("%d sets are available, want 1", res.GetAvailable())
	}
	if got := w.adders(p); len(got) != 1 || got[0] == string(served.GetKeyPackages()[0]) {
		t.Errorf("%d sets were served to others, want the other one", len(got))
	}
	for i, set := range a.body.(*relayv1.PoolUploadRequest).GetSets() { // all were served, one of them as a last resort
		as, err := pseudonym.ParseID(set.GetUserPseudonym())
		w.must(err)
		req := &relayv1.PoolUploadRequest{PoolId: p.id, Sets: []*relayv1.PoolSet{w.setOf(p, as, set.GetLastResort())}}
		if err := w.ask(seal.MethodPoolUpload, seal.AuthPool, p.key, true, req, res).send(w); codeOf(err) != mmrerr.PackageInvalid {
			t.Errorf("another package for set %d: %v", i, err)
		}
	}
}

// TestForwardToken: a token that a partner relay has recorded is spent, whether
// the client had an answer or not: it comes again with another one. One that was
// not recorded is good.
func TestForwardToken(t *testing.T) {
	for _, persist := range []bool{false, true} {
		for _, halt := range []bool{false, true} {
			p := noFault()
			p.N, p.Persist, p.Halt = 1, persist, halt
			t.Run(p.String(), func(t *testing.T) {
				w := newWorld(t)
				w.restart(p)
				tok := w.token(seal.RelayAudience(own))
				forward := func(tok []byte) error {
					_, err := relayv1.NewForwardServiceClient(w.dial(w.clients, nil)).Forward(t.Context(), &relayv1.ForwardRequest{
						TargetDomain: partner, Role: relayv1.Role_ROLE_PROVIDER, Encapsulated: random(512), Token: tok,
					})
					return err
				}
				if err := forward(tok); !passing(err) || !p.Hit() {
					t.Fatalf("a token that cannot be recorded: %v", err)
				}
				p.Heal()
				want := mmrerr.OK
				if persist {
					want = mmrerr.TokenSpent
				}
				if err := forward(tok); codeOf(err) != want || want == mmrerr.OK && err != nil {
					t.Errorf("the same token again: %v, want %s", err, want)
				}
				if err := forward(w.token(seal.RelayAudience(own))); err != nil {
					t.Errorf("another token: %v", err)
				}
				if err := forward(tok); codeOf(err) != mmrerr.TokenSpent {
					t.Errorf("a token that was used: %v", err)
				}
				w.sound()
			})
		}
	}
}
