package relay_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// signedIn asserts that a user's certificates are those of a session.
func (w *world) signedIn(u *user, want mmrerr.Code) {
	w.t.Helper()
	_, err := w.account(u).ListConnectionRequests(w.t.Context(), &relayv1.ListConnectionRequestsRequest{})
	if codeOf(err) != want || want == mmrerr.OK && err != nil {
		w.t.Errorf("the session of a client is answered %v, want %s", err, want)
	}
}

func (w *world) signedInAs(u *user) { w.t.Helper(); w.signedIn(u, mmrerr.OK) }

// issue has one token signed on a user's session.
func (w *world) issue(u *user) {
	w.t.Helper()
	pub := w.keys.Issuer().Published(time.Now())[0].Key
	q, err := token.NewRequest(pub, token.Challenge{Issuer: own, Audience: seal.ProviderAudience(own)})
	w.must(err)
	_, err = w.account(u).IssueTokens(w.t.Context(), &relayv1.IssueTokensRequest{TruncatedTokenKeyId: uint32(pub.ID().Truncated()), Blinded: [][]byte{q.Blinded()}})
	w.must(err)
}

// taken asserts that nobody else can have the name of a client, now or later.
func (w *world) taken(client string) {
	w.t.Helper()
	w.advance(100 * 24 * time.Hour)
	_, req, _ := w.registration("somebody-else", client)
	if _, err := relayv1.NewAccountServiceClient(w.dial(w.clients, nil)).Register(w.t.Context(), req); codeOf(err) != mmrerr.Malformed {
		w.t.Errorf("the name of a client is given away: %v", err)
	}
}

// accountWalks: what users do on their account sessions.
var accountWalks = map[string]func(w *world) walked{
	"Register": func(w *world) walked {
		u, req, sk := w.registration("anna", "anna-phone")
		return walked{send: func(w *world) error {
			res, err := relayv1.NewAccountServiceClient(w.dial(w.clients, nil)).Register(w.t.Context(), req)
			u.certified(res, sk)
			return err
		}, after: func(w *world, _ bool) {
			w.signedIn(u, mmrerr.OK)
			w.taken("anna-phone")
			if n := len(w.records(w.accounts, relay.AccountGroup("anna"), "")); n != 2 {
				w.t.Errorf("the account has %d records, want 2", n)
			}
		}}
	},
	"Register of a further client": func(w *world) walked {
		first := w.user("anna")
		u, req, sk := w.registration("anna", "anna-laptop")
		return walked{send: func(w *world) error {
			res, err := w.account(first).Register(w.t.Context(), req)
			u.certified(res, sk)
			return err
		}, after: func(w *world, _ bool) {
			w.signedIn(u, mmrerr.OK)
			w.signedIn(first, mmrerr.OK)
			w.taken("anna-laptop")
		}}
	},
	"Register of a name that is taken": func(w *world) walked {
		first := w.user("anna")
		_, req, _ := w.registration("anna", "eve-phone")
		return walked{refused: []mmrerr.Code{mmrerr.Malformed}, send: func(w *world) error {
			_, err := relayv1.NewAccountServiceClient(w.dial(w.clients, nil)).Register(w.t.Context(), req)
			return err
		}, after: func(w *world, worked bool) {
			if worked {
				w.t.Error("the name of a user is given away")
			}
			w.signedIn(first, mmrerr.OK)
			w.advance(2 * time.Hour) // what was refused holds no name
			w.user("eve")
		}}
	},
	"RemoveClient": func(w *world) walked {
		first := w.user("anna")
		u, req, sk := w.registration("anna", "anna-laptop")
		res, err := w.account(first).Register(w.t.Context(), req)
		w.must(err)
		u.certified(res, sk)
		return walked{send: func(w *world) error {
			_, err := w.account(first).RemoveClient(w.t.Context(), &relayv1.RemoveClientRequest{Client: "anna-laptop"})
			return err
		}, after: func(w *world, _ bool) {
			w.signedIn(u, mmrerr.NoConsent)
			w.signedIn(first, mmrerr.OK)
			w.taken("anna-laptop")
		}}
	},
	"IssueTokens": func(w *world) walked {
		const n = 3
		u := w.user("anna")
		pub := w.keys.Issuer().Published(time.Now())[0].Key
		in := &relayv1.IssueTokensRequest{TruncatedTokenKeyId: uint32(pub.ID().Truncated())}
		reqs := make([]*token.Request, n)
		for i := range reqs {
			var err error
			reqs[i], err = token.NewRequest(pub, token.Challenge{Issuer: own, Audience: seal.ProviderAudience(own)})
			w.must(err)
			in.Blinded = append(in.Blinded, reqs[i].Blinded())
		}
		var res *relayv1.IssueTokensResponse
		return walked{send: func(w *world) (err error) {
			res, err = w.account(u).IssueTokens(w.t.Context(), in)
			return err
		}, after: func(w *world, _ bool) {
			for i, s := range res.GetBlindSignatures() {
				if _, err := reqs[i].Finalize(s); err != nil {
					w.t.Error(err)
				}
			}
			if len(res.GetBlindSignatures()) != n || res.GetRemaining() != 500-n {
				w.t.Errorf("%d tokens for the price of %d", len(res.GetBlindSignatures()), 500-res.GetRemaining())
			}
		}}
	},
}

// connectionPackages makes a publication of n one-time packages.
func (w *world) connectionPackages(u *user, n int) *relayv1.PublishConnectionPackagesRequest {
	w.t.Helper()
	req := new(relayv1.PublishConnectionPackagesRequest)
	from := time.Now().UTC().Truncate(24 * time.Hour)
	for i := range n + 1 {
		key, err := primitive.GenerateKEMKey(primitive.X25519)
		w.must(err)
		p, err := pseudonym.NewConnectionPackage(key.Public(), uint64(from.Unix()), uint64(from.Add(29*24*time.Hour).Unix()), i == n, u.real)
		w.must(err)
		raw, err := p.AppendBinary(nil)
		w.must(err)
		if i == n {
			req.LastResort = raw
		} else {
			req.Packages = append(req.Packages, raw)
		}
	}
	return req
}

func (w *world) publish(u *user, req *relayv1.PublishConnectionPackagesRequest) error {
	w.t.Helper()
	_, err := w.account(u).PublishConnectionPackages(w.t.Context(), req)
	return err
}

// fetch is somebody's request for a connection package of a user.
func (w *world) fetch(u *user) (*ask, *relayv1.FetchConnectionPackageResponse) {
	w.t.Helper()
	res := new(relayv1.FetchConnectionPackageResponse)
	return w.ask(seal.MethodFetchConnectionPackage, seal.AuthNone, nil, true, &relayv1.FetchConnectionPackageRequest{User: "mimi://" + own + "/u/" + u.name}, res), res
}

// fetchAll fetches until the last-resort package comes, and returns the others.
func (w *world) fetchAll(u *user, lastResort []byte) (got [][]byte) {
	w.t.Helper()
	for {
		a, res := w.fetch(u)
		w.mustAsk(a)
		if bytes.Equal(res.GetPackage(), lastResort) {
			return got
		}
		if got = append(got, res.GetPackage()); len(got) > 100 {
			w.t.Fatal("there is no end to the packages")
		}
	}
}

// once reports whether all are of some set, none twice.
func once(got, of [][]byte) bool {
	for i, p := range got {
		is := func(x []byte) bool { return bytes.Equal(x, p) }
		if !slices.ContainsFunc(of, is) || slices.ContainsFunc(got[:i], is) {
			return false
		}
	}
	return true
}

func (w *world) packageRef(raw []byte) []byte {
	w.t.Helper()
	p, err := pseudonym.ParseConnectionPackage(raw)
	w.must(err)
	h := p.Hash()
	return h[:]
}

// waiting are the requests in a user's box.
func (w *world) waiting(u *user) []*relayv1.ConnectionRequestEntry {
	w.t.Helper()
	res, err := w.account(u).ListConnectionRequests(w.t.Context(), &relayv1.ListConnectionRequestsRequest{Max: 64})
	w.must(err)
	return res.GetRequests()
}

func (w *world) request(ref []byte) *ask {
	w.t.Helper()
	return w.ask(seal.MethodSendConnectionRequest, seal.AuthNone, nil, true,
		&relayv1.SendConnectionRequestRequest{PackageRef: ref, Sealed: random(4200)}, new(relayv1.SendConnectionRequestResponse))
}

// connectionWalks: packages and requests of connections.
var connectionWalks = map[string]func(w *world) walked{
	"PublishConnectionPackages": func(w *world) walked {
		u := w.user("anna")
		req := w.connectionPackages(u, 3)
		return walked{send: func(w *world) error { return w.publish(u, req) }, after: func(w *world, _ bool) {
			if got := w.fetchAll(u, req.GetLastResort()); len(got) != 3 || !once(got, req.GetPackages()) {
				w.t.Errorf("%d packages were served, want 3, each once", len(got))
			}
		}}
	},
	seal.MethodFetchConnectionPackage: func(w *world) walked {
		u := w.user("anna")
		req := w.connectionPackages(u, 3)
		w.must(w.publish(u, req))
		a, res := w.fetch(u)
		return walked{send: a.send, after: func(w *world, _ bool) {
			got := append(w.fetchAll(u, req.GetLastResort()), res.GetPackage())
			// One may be lost with an answer, none is served twice.
			if len(got) < 2 || !once(got, req.GetPackages()) {
				w.t.Errorf("%d packages were served, want each once", len(got))
			}
		}}
	},
	seal.MethodSendConnectionRequest: func(w *world) walked {
		u := w.user("anna")
		req := w.connectionPackages(u, 1)
		w.must(w.publish(u, req))
		a := w.request(w.packageRef(req.GetPackages()[0]))
		return walked{send: a.send, after: func(w *world, _ bool) {
			if n := len(w.waiting(u)); n != 1 {
				w.t.Errorf("%d requests wait, want 1", n)
			}
		}}
	},
	"DeleteConnectionRequests": func(w *world) walked {
		u := w.user("anna")
		req := w.connectionPackages(u, 1)
		w.must(w.publish(u, req))
		for range 3 {
			w.mustAsk(w.request(w.packageRef(req.GetPackages()[0])))
		}
		in := new(relayv1.DeleteConnectionRequestsRequest)
		for _, r := range w.waiting(u)[:2] {
			in.Ids = append(in.Ids, r.GetId())
		}
		return walked{send: func(w *world) error {
			_, err := w.account(u).DeleteConnectionRequests(w.t.Context(), in)
			return err
		}, after: func(w *world, _ bool) {
			if n := len(w.waiting(u)); n != 1 {
				w.t.Errorf("%d requests wait, want 1", n)
			}
		}}
	},
}

// TestPublishAgain: a publication that comes again, since its answer was lost,
// does not bring back packages that were fetched meanwhile; others are added.
func TestPublishAgain(t *testing.T) {
	w := newWorld(t)
	u := w.user("anna")
	req := w.connectionPackages(u, 60)
	w.must(w.publish(u, req))
	a, res := w.fetch(u)
	w.mustAsk(a)
	for range 3 { // as often as a client likes: they do not count twice either
		w.must(w.publish(u, req))
	}
	got := append(w.fetchAll(u, req.GetLastResort()), res.GetPackage())
	if len(got) != 60 || !once(got, req.GetPackages()) {
		t.Errorf("%d packages were served, want 60, each once", len(got))
	}
	more := w.connectionPackages(u, 2)
	w.must(w.publish(u, more))
	if got := w.fetchAll(u, more.GetLastResort()); len(got) != 2 || !once(got, more.GetPackages()) {
		t.Errorf("of a further publication %d packages were served, want 2", len(got))
	}
}

// TestUnfinishedRegistration: a registration that is cut and never repeated holds
// the name of its client for an hour. Whoever has it then, has it alone.
func TestUnfinishedRegistration(t *testing.T) {
	for n := 1; ; n++ {
		w := newWorld(t)
		p := noFault()
		p.N, p.Persist, p.Halt = n, true, true
		w.restart(p)
		_, req, _ := w.registration("anna", "phone")
		_, err := relayv1.NewAccountServiceClient(w.dial(w.clients, nil)).Register(t.Context(), req)
		if !p.Hit() {
			w.must(err)
			break
		}
		if err == nil {
			t.Fatal("no error")
		}
		w.restart(noFault())
		register := func(req *relayv1.RegisterRequest) mmrerr.Code {
			_, err := relayv1.NewAccountServiceClient(w.dial(w.clients, nil)).Register(t.Context(), req)
			return codeOf(err)
		}
		_, other, _ := w.registration("bob", "phone")
		if c := register(other); c != mmrerr.Malformed {
			t.Errorf("write %d: within the hour another is answered %s", n, c)
		}
		w.advance(2 * time.Hour)
		if c := register(other); n < 3 && c != mmrerr.OK || n == 3 && c != mmrerr.Malformed {
			t.Errorf("write %d: afterwards another is answered %s", n, c)
		}
		if c := register(req); n < 3 && c != mmrerr.Malformed || n == 3 && c != mmrerr.OK {
			t.Errorf("write %d: the late repeat is answered %s", n, c)
		}
		w.sound()
	}
}

// TestSlowRegistration: a registration that takes longer than its name is kept
// for, while somebody else takes the name, is refused.
func TestSlowRegistration(t *testing.T) {
	w := newWorld(t)
	_, req, _ := w.registration("anna", "phone")
	bob, other, sk := w.registration("bob", "phone")
	register := func(req *relayv1.RegisterRequest) (*relayv1.RegisterResponse, error) {
		return relayv1.NewAccountServiceClient(w.dial(w.clients, nil)).Register(t.Context(), req)
	}
	w.meanwhile("Apply", 2, func() {
		w.advance(2 * time.Hour)
		res, err := register(other)
		if err != nil {
			t.Error(err)
		}
		bob.certified(res, sk)
	})
	if _, err := register(req); codeOf(err) != mmrerr.Malformed {
		t.Errorf("the slow one is answered %v", err)
	}
	w.signedIn(bob, mmrerr.OK)
	w.taken("phone")
}
