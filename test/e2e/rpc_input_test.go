package e2e_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	deliveryv1 "github.com/mmrelay/mmrelay/gen/mmr/delivery/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// answer is what a caller of a plain RPC sees of a refusal.
type answer struct {
	Status codes.Code
	Code   mmrerr.Code
	Text   string
}

func answerOf(err error) answer {
	return answer{status.Code(err), grpcserver.CodeOf(err), status.Convert(err).Message()}
}

func csr(tb testing.TB) []byte {
	tb.Helper()
	k, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := pseudonym.NewCSR(k)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// removed returns a connection on a session certificate of an account that does
// not exist (any more).
func (r raw) removed(relay *service) *grpc.ClientConn {
	r.tb.Helper()
	ks, err := keys.Load(filepath.Join(r.w.dir, relay.domain), keys.Provider, relay.domain)
	if err != nil {
		r.tb.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		r.tb.Fatal(err)
	}
	s, err := primitive.SigningKeyOf(key)
	if err != nil {
		r.tb.Fatal(err)
	}
	req, err := pseudonym.NewCSR(s)
	if err != nil {
		r.tb.Fatal(err)
	}
	chain, err := ks.IssueSession(req, "ghost", "ghost-phone", time.Now())
	if err != nil {
		r.tb.Fatal(err)
	}
	return r.dial(relay.clientAddr, relay.domain, &tls.Certificate{Certificate: chain, PrivateKey: key})
}

// TestBadInputAccounts: the identified service of a provider.
func TestBadInputAccounts(t *testing.T) {
	t.Parallel()
	w := newBadWorld(t)
	r := raw{t, w.world}
	relayA := w.relays["a.example"]
	ctx := context.Background()
	alice := relayv1.NewAccountServiceClient(r.session(w.alice, relayA))
	good := &relayv1.RegisterRequest{User: "mallory", Client: "mallory-phone", CredentialCsr: csr(t), SessionCsr: csr(t), RegistrationCode: "let-me-in"}
	tampered := flip(csr(t))
	var foreign []byte // a genuine connection package, but of another user
	for _, e := range relayA.atRest(t) {
		if e.place == "accounts" && e.group == "aalice" && e.name == "cplast" {
			foreign = []byte(e.value)
		}
	}
	if len(foreign) == 0 {
		t.Fatal("alice has no connection package")
	}
	// The registration of a second account works, so that the refusals below are
	// not those of a broken table.
	dave := func() relayv1.AccountServiceClient {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s, err := primitive.SigningKeyOf(key)
		if err != nil {
			t.Fatal(err)
		}
		req, err := pseudonym.NewCSR(s)
		if err != nil {
			t.Fatal(err)
		}
		res, err := relayv1.NewAccountServiceClient(r.anonymous(relayA)).Register(ctx, &relayv1.RegisterRequest{
			User: "dave", Client: "dave-phone", CredentialCsr: csr(t), SessionCsr: req, RegistrationCode: "let-me-in",
		})
		if err != nil {
			t.Fatal(err)
		}
		return relayv1.NewAccountServiceClient(r.dial(relayA.clientAddr, relayA.domain, &tls.Certificate{Certificate: res.GetSession(), PrivateKey: key}))
	}()
	type call struct {
		name string
		want mmrerr.Code
		do   func(relayv1.AccountServiceClient) error
	}
	register := func(name string, want mmrerr.Code, f func(*relayv1.RegisterRequest)) call {
		m := change(good, f)().(*relayv1.RegisterRequest)
		return call{"Register: " + name, want, func(c relayv1.AccountServiceClient) error { _, err := c.Register(ctx, m); return err }}
	}
	renew := func(name string, want mmrerr.Code, m *relayv1.RenewRequest) call {
		return call{"Renew: " + name, want, func(c relayv1.AccountServiceClient) error { _, err := c.Renew(ctx, m); return err }}
	}
	issue := func(name string, want mmrerr.Code, m *relayv1.IssueTokensRequest) call {
		return call{"IssueTokens: " + name, want, func(c relayv1.AccountServiceClient) error { _, err := c.IssueTokens(ctx, m); return err }}
	}
	publish := func(name string, want mmrerr.Code, m *relayv1.PublishConnectionPackagesRequest) call {
		return call{"PublishConnectionPackages: " + name, want, func(c relayv1.AccountServiceClient) error {
			_, err := c.PublishConnectionPackages(ctx, m)
			return err
		}}
	}
	list := func(name string, want mmrerr.Code, m *relayv1.ListConnectionRequestsRequest) call {
		return call{"ListConnectionRequests: " + name, want, func(c relayv1.AccountServiceClient) error {
			_, err := c.ListConnectionRequests(ctx, m)
			return err
		}}
	}
	remove := func(name string, want mmrerr.Code, ids ...[]byte) call {
		return call{"DeleteConnectionRequests: " + name, want, func(c relayv1.AccountServiceClient) error {
			_, err := c.DeleteConnectionRequests(ctx, &relayv1.DeleteConnectionRequestsRequest{Ids: ids})
			return err
		}}
	}
	removeClient := func(name string, want mmrerr.Code, client string) call {
		return call{"RemoveClient: " + name, want, func(c relayv1.AccountServiceClient) error {
			_, err := c.RemoveClient(ctx, &relayv1.RemoveClientRequest{Client: client})
			return err
		}}
	}
	blinded := randomBytes(256)
	blinded[0] = 0 // below any modulus
	calls := []call{
		register("no code", mmrerr.NoConsent, func(m *relayv1.RegisterRequest) { m.RegistrationCode = "" }),
		register("wrong code", mmrerr.NoConsent, func(m *relayv1.RegisterRequest) { m.RegistrationCode = strings.Repeat("x", 1000) }),
		register("no user", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.User = "" }),
		register("upper case", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.User = "Mallory" }),
		register("slash", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.User = "a/b" }),
		register("NUL", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.Client = "a\x00b" }),
		register("long", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.Client = strings.Repeat("x", 65) }),
		register("user is taken", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.User = "dave" }),
		register("client is taken", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.Client = "alice-phone" }),
		register("no credential request", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.CredentialCsr = nil }),
		register("garbage credential request", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.CredentialCsr = randomBytes(400) }),
		register("oversized credential request", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.CredentialCsr = make([]byte, 5000) }),
		register("credential request not signed by its key", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.CredentialCsr = tampered }),
		register("session request not signed by its key", mmrerr.Malformed, func(m *relayv1.RegisterRequest) { m.SessionCsr = tampered }),
		renew("nothing", mmrerr.Malformed, &relayv1.RenewRequest{}),
		renew("garbage", mmrerr.Malformed, &relayv1.RenewRequest{CredentialCsr: randomBytes(300), SessionCsr: csr(t)}),
		issue("nothing", mmrerr.Malformed, &relayv1.IssueTokensRequest{}),
		issue("65 messages", mmrerr.Malformed, &relayv1.IssueTokensRequest{Blinded: make([][]byte, 65)}),
		issue("short message", mmrerr.Malformed, &relayv1.IssueTokensRequest{Blinded: [][]byte{randomBytes(255)}}),
		issue("number above the modulus", mmrerr.Malformed, &relayv1.IssueTokensRequest{TruncatedTokenKeyId: keyByte(t, r, relayA), Blinded: [][]byte{bytesOf(0xff, 256)}}),
		issue("key id above 255", mmrerr.Malformed, &relayv1.IssueTokensRequest{TruncatedTokenKeyId: 256, Blinded: [][]byte{blinded}}),
		issue("unknown key", mmrerr.TokenInvalid, &relayv1.IssueTokensRequest{TruncatedTokenKeyId: keyByte(t, r, relayA) ^ 0x55, Blinded: [][]byte{blinded}}),
		publish("nothing", mmrerr.Malformed, &relayv1.PublishConnectionPackagesRequest{}),
		publish("garbage", mmrerr.Malformed, &relayv1.PublishConnectionPackagesRequest{LastResort: randomBytes(500)}),
		publish("65 packages", mmrerr.Malformed, &relayv1.PublishConnectionPackagesRequest{Packages: make([][]byte, 65), LastResort: foreign}),
		publish("last-resort one among the others", mmrerr.Malformed, &relayv1.PublishConnectionPackagesRequest{Packages: [][]byte{foreign}, LastResort: foreign}),
		publish("oversized", mmrerr.Malformed, &relayv1.PublishConnectionPackagesRequest{LastResort: make([]byte, 8193)}),
		list("65", mmrerr.Malformed, &relayv1.ListConnectionRequestsRequest{Max: 65}),
		remove("short id", mmrerr.Malformed, []byte{1}),
		remove("65 ids", mmrerr.Malformed, make([][]byte, 65)...),
		remove("unknown id", mmrerr.OK, randomBytes(16)),
		removeClient("no name", mmrerr.Malformed, ""),
		removeClient("slash", mmrerr.Malformed, "a/b"),
		removeClient("another user's client", mmrerr.OK, "bob-phone"),
	}
	w.unchanged(t, func() {
		for _, c := range calls {
			if got := answerOf(c.do(alice)); got.Code != c.want || (got.Status == codes.OK) != (c.want == mmrerr.OK) {
				t.Errorf("%s: %v, want %s", c.name, got, c.want)
			}
		}
		// Anybody can fetch alice's package; nobody else can publish it.
		theft := publish("another user's package", mmrerr.Malformed, &relayv1.PublishConnectionPackagesRequest{LastResort: foreign})
		if got := answerOf(theft.do(dave)); got.Code != theft.want {
			t.Errorf("%s: %v", theft.name, got)
		}
		// Without a session, on one of an account that is gone, and on another
		// operator's certificate, everything but Register answers alike.
		anonymous := relayv1.NewAccountServiceClient(r.anonymous(relayA))
		ghost := relayv1.NewAccountServiceClient(r.removed(relayA))
		for _, c := range calls {
			if strings.HasPrefix(c.name, "Register") {
				continue
			}
			a, b := answerOf(c.do(anonymous)), answerOf(c.do(ghost))
			if a != b || a.Code != mmrerr.NoConsent {
				t.Errorf("%s: %v without a session, %v without an account", c.name, a, b)
			}
		}
	})
}

func bytesOf(b byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}

// keyByte returns the truncated id of a relay's current token key.
func keyByte(t *testing.T, r raw, relay *service) uint32 {
	t.Helper()
	ks, err := keys.Load(filepath.Join(r.w.dir, relay.domain), keys.Provider, relay.domain)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(ks.Issuer().Published(time.Now())[0].Key.ID().Truncated())
}

// TestBadInputForward: forwarding to the wrong places, by the wrong people.
func TestBadInputForward(t *testing.T) {
	t.Parallel()
	w := newBadWorld(t)
	r := raw{t, w.world}
	relayA, relayB := w.relays["a.example"], w.relays["b.example"]
	ctx := context.Background()
	session := r.session(w.alice, relayA)
	member, stranger := relayv1.NewForwardServiceClient(session), relayv1.NewForwardServiceClient(r.anonymous(relayA))
	// Bob's provider is B, so he is a stranger with a token at A.
	tokens := r.tokens(r.session(w.bob, relayB), relayB, seal.RelayAudience("a.example"), 4)
	elsewhere := r.tokens(r.session(w.bob, relayB), relayB, seal.HubAudience("hub.example"), 1)[0]
	hub := func(token []byte) *relayv1.ForwardRequest {
		return &relayv1.ForwardRequest{TargetDomain: "hub.example", Role: relayv1.Role_ROLE_HUB, Encapsulated: make([]byte, 512), Token: token}
	}
	with := func(m *relayv1.ForwardRequest, f func(*relayv1.ForwardRequest)) *relayv1.ForwardRequest {
		f(m)
		return m
	}
	w.unchanged(t, func() {
		for _, c := range []struct {
			name string
			by   relayv1.ForwardServiceClient
			m    *relayv1.ForwardRequest
			want mmrerr.Code
		}{
			{"nothing", member, &relayv1.ForwardRequest{}, mmrerr.Malformed},
			{"unknown target", member, with(hub(nil), func(m *relayv1.ForwardRequest) { m.TargetDomain = "evil.example" }), mmrerr.Malformed},
			{"an address as target", member, with(hub(nil), func(m *relayv1.ForwardRequest) { m.TargetDomain = w.hub.peerAddr }), mmrerr.Malformed},
			{"long target", member, with(hub(nil), func(m *relayv1.ForwardRequest) { m.TargetDomain = strings.Repeat("x", 100_000) }), mmrerr.Malformed},
			{"a provider that is a hub", member, with(hub(nil), func(m *relayv1.ForwardRequest) { m.Role = relayv1.Role_ROLE_PROVIDER }), mmrerr.Malformed},
			{"no such role", member, with(hub(nil), func(m *relayv1.ForwardRequest) { m.Role = 77 }), mmrerr.Malformed},
			{"own provider", member, with(hub(nil), func(m *relayv1.ForwardRequest) { m.TargetDomain, m.Role = "a.example", relayv1.Role_ROLE_PROVIDER }), mmrerr.Malformed},
			{"no bucket", member, with(hub(nil), func(m *relayv1.ForwardRequest) { m.Encapsulated = make([]byte, 513) }), mmrerr.PaddingBucket},
			{"nothing to forward", member, with(hub(nil), func(m *relayv1.ForwardRequest) { m.Encapsulated = nil }), mmrerr.PaddingBucket},
			{"token on a session", member, hub(tokens[0]), mmrerr.Malformed},
			{"no token", stranger, hub(nil), mmrerr.TokenRequired},
			{"garbage token", stranger, hub(randomBytes(354)), mmrerr.TokenInvalid},
			{"short token", stranger, hub(tokens[0][:100]), mmrerr.TokenInvalid},
			{"token for another service", stranger, hub(elsewhere), mmrerr.TokenInvalid},
			{"garbage arrives and is refused there", stranger, hub(tokens[1]), mmrerr.Malformed},
			{"spent token", stranger, hub(tokens[1]), mmrerr.TokenSpent},
			{"a refused target spends no token", stranger, with(hub(tokens[2]), func(m *relayv1.ForwardRequest) { m.TargetDomain = "evil.example" }), mmrerr.Malformed},
			{"so it is good here", stranger, hub(tokens[2]), mmrerr.Malformed},
		} {
			_, err := c.by.Forward(ctx, c.m)
			if got := answerOf(err); got.Status == codes.OK || got.Code != c.want {
				t.Errorf("%s: %v, want %s", c.name, got, c.want)
			}
		}
		for _, m := range []*relayv1.GetPublishedKeysRequest{
			{}, {TargetDomain: "hub.example"}, {TargetDomain: "evil.example", Role: relayv1.Role_ROLE_HUB}, {TargetDomain: "hub.example", Role: 9},
		} {
			_, err := stranger.GetPublishedKeys(ctx, m)
			if got := answerOf(err); got.Code != mmrerr.Malformed {
				t.Errorf("keys of %v: %v", m, got)
			}
		}
	})
}

// TestBadInputListen: reading a mailbox without its key.
func TestBadInputListen(t *testing.T) {
	t.Parallel()
	w := newBadWorld(t)
	r := raw{t, w.world}
	relayB := w.relays["b.example"]
	bob, carol := w.bob.secrets().Account, w.carol.secrets().Account
	key, other := signingKey(t, bob.QueueKey), signingKey(t, carol.QueueKey)
	c := relayv1.NewMailboxServiceClient(r.anonymous(relayB))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	open := func(id []byte) *relayv1.ListenRequest {
		return &relayv1.ListenRequest{Message: &relayv1.ListenRequest_Open{Open: &relayv1.ListenOpen{QueueId: id}}}
	}
	prove := func(id, nonce []byte, k *primitive.SigningKey, domain string) *relayv1.ListenRequest {
		q := seal.ListenChallenge(domain, id, nonce)
		if err := q.Sign(seal.AuthQueue, 0, k); err != nil {
			t.Fatal(err)
		}
		return &relayv1.ListenRequest{Message: &relayv1.ListenRequest_Proof{Proof: &relayv1.ListenProof{Signature: q.Auth.Signature}}}
	}
	// try opens id and answers the challenge; it returns how the stream ends, or
	// "" and the first batch.
	var lastProof *relayv1.ListenRequest
	try := func(id []byte, second func(nonce []byte) *relayv1.ListenRequest) answer {
		t.Helper()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s, err := c.Listen(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(open(id)); err != nil {
			t.Fatal(err)
		}
		res, err := s.Recv()
		if err != nil {
			return answerOf(err)
		}
		lastProof = second(res.GetChallenge().GetNonce())
		if err := s.Send(lastProof); err != nil {
			t.Fatal(err)
		}
		_, err = s.Recv()
		return answerOf(err)
	}
	w.unchanged(t, func() {
		for _, id := range [][]byte{nil, randomBytes(15), randomBytes(17), randomBytes(4000)} {
			if got := try(id, nil); got.Code != mmrerr.Malformed {
				t.Errorf("id of %d bytes: %v", len(id), got)
			}
		}
		unknownID := randomBytes(16)
		unknown := try(unknownID, func(n []byte) *relayv1.ListenRequest { return prove(unknownID, n, key, "b.example") })
		if unknown.Code != mmrerr.NoConsent {
			t.Errorf("unknown mailbox: %v", unknown)
		}
		for name, second := range map[string]func([]byte) *relayv1.ListenRequest{
			"another mailbox's key":     func(n []byte) *relayv1.ListenRequest { return prove(bob.QueueID, n, other, "b.example") },
			"another relay's challenge": func(n []byte) *relayv1.ListenRequest { return prove(bob.QueueID, n, key, "a.example") },
			"another mailbox's proof":   func(n []byte) *relayv1.ListenRequest { return prove(carol.QueueID, n, key, "b.example") },
			"an old challenge":          func([]byte) *relayv1.ListenRequest { return prove(bob.QueueID, randomBytes(32), key, "b.example") },
			"half a challenge": func(n []byte) *relayv1.ListenRequest {
				return prove(bob.QueueID, append(n[:16:16], randomBytes(16)...), key, "b.example")
			},
			"no proof": func([]byte) *relayv1.ListenRequest { return &relayv1.ListenRequest{} },
			"an ack instead": func([]byte) *relayv1.ListenRequest {
				return &relayv1.ListenRequest{Message: &relayv1.ListenRequest_Ack{Ack: &relayv1.ListenAck{UpTo: 1 << 60}}}
			},
			"open again": func([]byte) *relayv1.ListenRequest { return open(bob.QueueID) },
		} {
			if got := try(bob.QueueID, second); got != unknown {
				t.Errorf("%s: %v, but an unknown mailbox: %v", name, got, unknown)
			}
		}
		if got := try(bob.QueueID, func(n []byte) *relayv1.ListenRequest { return prove(bob.QueueID, n, key, "b.example") }); got.Status != codes.OK {
			t.Errorf("right: %v", got)
		}
		replay := lastProof
		if got := try(bob.QueueID, func([]byte) *relayv1.ListenRequest { return replay }); got != unknown {
			t.Errorf("replayed proof: %v, but an unknown mailbox: %v", got, unknown)
		}
		// A stream whose client says something else than acks after the proof ends.
		s, err := c.Listen(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(open(bob.QueueID)); err != nil {
			t.Fatal(err)
		}
		res, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*relayv1.ListenRequest{prove(bob.QueueID, res.GetChallenge().GetNonce(), key, "b.example"), open(bob.QueueID)} {
			if err := s.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		for err == nil {
			_, err = s.Recv()
		}
		if got := answerOf(err); got.Code != mmrerr.Malformed {
			t.Errorf("open after the proof: %v", got)
		}
	})
}

// TestBadInputDeliver: deliveries by those who may not, and of what cannot be.
func TestBadInputDeliver(t *testing.T) {
	t.Parallel()
	w := newBadWorld(t)
	r := raw{t, w.world}
	relayB := w.relays["b.example"]
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	deliver := func(as string, items ...*deliveryv1.Item) ([]byte, answer) {
		t.Helper()
		s, err := deliveryv1.NewDeliveryServiceClient(r.peer(as, relayB)).Deliver(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Send(&deliveryv1.DeliverRequest{Items: items}) // the answer tells
		res, err := s.Recv()
		return res.GetStatus(), answerOf(err)
	}
	env := append([]byte{2}, randomBytes(511)...)
	item := func(f func(*deliveryv1.Item)) *deliveryv1.Item {
		i := &deliveryv1.Item{ItemId: randomBytes(16), KeyId: 1, Sealed: randomBytes(130), Envelope: env}
		f(i)
		return i
	}
	asIs := func(*deliveryv1.Item) {}
	w.unchanged(t, func() {
		if _, got := deliver("a.example", item(asIs)); got.Code != mmrerr.NoConsent {
			t.Errorf("a provider delivers: %v", got)
		}
		for name, n := range map[string]int{"no items": 0, "257 items": 257} {
			items := make([]*deliveryv1.Item, n)
			for i := range items {
				items[i] = item(asIs)
			}
			if _, got := deliver("hub.example", items...); got.Code != mmrerr.Malformed {
				t.Errorf("%s: %v", name, got)
			}
		}
		bad := []*deliveryv1.Item{
			item(asIs),
			{},
			item(func(i *deliveryv1.Item) { i.ItemId = nil }),
			item(func(i *deliveryv1.Item) { i.ItemId = randomBytes(17) }),
			item(func(i *deliveryv1.Item) { i.KeyId = 200 }),
			item(func(i *deliveryv1.Item) { i.KeyId = 256 + 1 }),
			item(func(i *deliveryv1.Item) { i.Sealed = nil }),
			item(func(i *deliveryv1.Item) { i.Sealed = randomBytes(100_000) }),
			item(func(i *deliveryv1.Item) { i.Envelope = nil }),
			item(func(i *deliveryv1.Item) { i.Envelope = env[:511] }),
			item(func(i *deliveryv1.Item) { i.Envelope = append([]byte{3}, env[1:]...) }),
			item(func(i *deliveryv1.Item) { i.Envelope = make([]byte, 2<<20) }),
		}
		got, a := deliver("hub.example", bad...)
		if a.Status != codes.OK || string(got) != string(bytesOf(2, len(bad))) {
			t.Errorf("bad items: %v %v", got, a)
		}
	})
}
