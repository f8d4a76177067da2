package relay_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
	"github.com/mmrelay/mmrelay/pkg/token"
)

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// token has a token signed, as IssueTokens does.
func (w *world) token(audience string) []byte {
	w.t.Helper()
	now := time.Now()
	pub := w.keys.Issuer().Published(now)[0].Key
	req, err := token.NewRequest(pub, token.Challenge{Issuer: own, Audience: audience})
	w.must(err)
	sigs, err := w.keys.Issuer().Issue(now, pub.ID().Truncated(), [][]byte{req.Blinded()})
	w.must(err)
	tok, err := req.Finalize(sigs[0])
	w.must(err)
	b, err := tok.AppendBinary(nil)
	w.must(err)
	return b
}

// ask is a request to a method behind the gateway. It is repeated as clients do:
// the same request id, token and body in a new encapsulation (SPEC.md R-66).
type ask struct {
	method string
	kind   seal.AuthKind
	signer *primitive.SigningKey
	token  []byte
	id     [16]byte
	body   proto.Message
	res    proto.Message
}

func (w *world) ask(method string, kind seal.AuthKind, signer *primitive.SigningKey, withToken bool, body, res proto.Message) *ask {
	w.t.Helper()
	a := &ask{method: method, kind: kind, signer: signer, id: [16]byte(random(16)), body: body, res: res}
	if withToken {
		a.token = w.token(seal.ProviderAudience(own))
	}
	return a
}

// send sends the request once, on a connection of its own.
func (a *ask) send(w *world) error {
	w.t.Helper()
	body, err := proto.Marshal(a.body)
	w.must(err)
	q := &seal.Request{Audience: seal.ProviderAudience(own), Method: a.method, Timestamp: seal.Timestamp(time.Now()), RequestID: a.id, Token: a.token, Body: body, Auth: seal.RequestAuth{Kind: seal.AuthNone}}
	if a.kind != seal.AuthNone {
		w.must(q.Sign(a.kind, 0, a.signer))
	}
	b, err := q.AppendBinary(nil)
	w.must(err)
	enc, opener, err := seal.Encapsulate(w.gatewayKey(), b)
	w.must(err)
	in := &gatewayv1.CallRequest{Encapsulated: enc}
	out, err := gatewayv1.NewGatewayServiceClient(w.dial(w.clients, nil)).Call(w.t.Context(), in)
	if err != nil {
		return err
	}
	pt, err := opener.Open(out.GetEncapsulated())
	w.must(err)
	res, err := seal.ParseResponse(pt)
	w.must(err)
	if res.Code != mmrerr.OK {
		return res.Err()
	}
	proto.Reset(a.res)
	return proto.Unmarshal(res.Body, a.res)
}

// codeOf is the code of a refusal, inside or outside of an encapsulation.
func codeOf(err error) mmrerr.Code {
	if c, ok := mmrerr.Of(err); ok {
		return c
	}
	return grpcserver.CodeOf(err)
}

// errLater is a delivery of which a part is to be repeated.
var errLater = errors.New("later")

// passing reports whether a client repeats a request that failed so.
func passing(err error) bool {
	return errors.Is(err, errLater) || codeOf(err) == mmrerr.Unavailable || status.Code(err) == codes.Internal || status.Code(err) == codes.Unavailable
}

// must sends a request that has to be answered.
func (w *world) mustAsk(a *ask) {
	w.t.Helper()
	w.must(a.send(w))
}

// mailbox is a client's mailbox.
type mailbox struct {
	id  []byte
	key *primitive.SigningKey
}

func newKey(w *world) *primitive.SigningKey {
	w.t.Helper()
	k, err := primitive.GenerateSigningKey(primitive.Ed25519)
	w.must(err)
	return k
}

// mailbox makes a mailbox.
func (w *world) mailbox() *mailbox {
	w.t.Helper()
	m := &mailbox{key: newKey(w)}
	var res relayv1.QueueCreateResponse
	w.mustAsk(w.ask(seal.MethodQueueCreate, seal.AuthQueue, m.key, true, &relayv1.QueueCreateRequest{ReadKey: m.key.Public().Bytes()}, &res))
	m.id = res.GetQueueId()
	return m
}

func (w *world) block(m *mailbox, handle [16]byte) *ask {
	w.t.Helper()
	return w.ask(seal.MethodQueueBlock, seal.AuthQueue, m.key, false, &relayv1.QueueBlockRequest{QueueId: m.id, Handle: handle[:]}, new(relayv1.QueueBlockResponse))
}

func (w *world) setPush(m *mailbox, tok []byte) *ask {
	w.t.Helper()
	return w.ask(seal.MethodQueueSetPush, seal.AuthQueue, m.key, false, &relayv1.QueueSetPushRequest{QueueId: m.id, Token: tok}, new(relayv1.QueueSetPushResponse))
}

func (w *world) deleteBox(m *mailbox) *ask {
	w.t.Helper()
	return w.ask(seal.MethodQueueDelete, seal.AuthQueue, m.key, false, &relayv1.QueueDeleteRequest{QueueId: m.id}, new(relayv1.QueueDeleteResponse))
}

// user is somebody with an account, and one client.
type user struct {
	name, client string
	real         pseudonym.RealIdentity
	session      *tls.Certificate
}

// registration is a Register of a user in the making.
func (w *world) registration(name, client string) (*user, *relayv1.RegisterRequest, ed25519.PrivateKey) {
	w.t.Helper()
	key := newKey(w)
	cred, err := pseudonym.NewCSR(key)
	w.must(err)
	_, sk, err := ed25519.GenerateKey(nil)
	w.must(err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, sk)
	w.must(err)
	return &user{name: name, client: client, real: pseudonym.RealIdentity{Key: key}}, &relayv1.RegisterRequest{User: name, Client: client, CredentialCsr: cred, SessionCsr: csr}, sk
}

// certified takes the certificates of a registration.
func (u *user) certified(res *relayv1.RegisterResponse, sk ed25519.PrivateKey) *user {
	u.real.Chain = res.GetCredential()
	u.session = &tls.Certificate{Certificate: res.GetSession(), PrivateKey: sk}
	return u
}

// user registers a user.
func (w *world) user(name string) *user {
	w.t.Helper()
	u, req, sk := w.registration(name, name+"-phone")
	res, err := relayv1.NewAccountServiceClient(w.dial(w.clients, nil)).Register(w.t.Context(), req)
	w.must(err)
	return u.certified(res, sk)
}

// account is the account service on a user's session.
func (w *world) account(u *user) relayv1.AccountServiceClient {
	w.t.Helper()
	return relayv1.NewAccountServiceClient(w.dial(w.clients, u.session))
}
