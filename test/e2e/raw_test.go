package e2e_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// raw talks to services below the SDK: any bytes to any of them.
type raw struct {
	tb testing.TB
	w  *world
}

func (r raw) dial(addr, domain string, cert *tls.Certificate) *grpc.ClientConn {
	r.tb.Helper()
	t := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: r.w.trust.Operators, ServerName: domain}
	if cert != nil {
		t.Certificates = []tls.Certificate{*cert}
	}
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(t)), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8<<20), grpc.MaxCallSendMsgSize(8<<20)))
	if err != nil {
		r.tb.Fatal(err)
	}
	r.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// operator returns the TLS certificate of a service.
func (r raw) operator(domain string) *tls.Certificate {
	r.tb.Helper()
	dir := filepath.Join(r.w.dir, domain)
	c, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		r.tb.Fatal(err)
	}
	return &c
}

// peer connects to the peer listener of a service as another operator.
func (r raw) peer(as string, to *service) *grpc.ClientConn {
	return r.dial(to.peerAddr, to.domain, r.operator(as))
}

// anonymous connects to the client listener of a relay.
func (r raw) anonymous(to *service) *grpc.ClientConn { return r.dial(to.clientAddr, to.domain, nil) }

// secrets are what a client keeps in its store, as far as tests need it.
type secrets struct {
	Account struct {
		Session           [][]byte
		SessionKey        []byte
		QueueID, QueueKey []byte
		SlotID            []byte
	}
	Conns map[string]connSecrets
	Rooms map[string]roomSecrets
}

type connSecrets struct {
	OwnKey, OwnToken, UploadKey, Room []byte
	PeerToken                         []byte
}

type roomSecrets struct {
	GroupID []byte
	Hub     string
	Peer    string
	Wrapper []byte
	EAR     []byte
	Signers map[string][]byte
	Epoch   uint64
	Seq     uint64
}

func (p *person) secrets() secrets {
	p.tb.Helper()
	m, err := p.store.Load()
	if err != nil {
		p.tb.Fatal(err)
	}
	s := secrets{Conns: make(map[string]connSecrets), Rooms: make(map[string]roomSecrets)}
	read := func(data []byte, v any) {
		if err := json.Unmarshal(data, v); err != nil {
			p.tb.Fatal(err)
		}
	}
	read(m["account"], &s.Account)
	for k, v := range m {
		if peer, ok := strings.CutPrefix(k, "conn/"); ok {
			var c connSecrets
			read(v, &c)
			s.Conns[peer] = c
		}
		if _, ok := strings.CutPrefix(k, "room/"); ok {
			var x roomSecrets
			read(v, &x)
			s.Rooms[pseudonym.RoomURI(x.Hub, x.GroupID)] = x
		}
	}
	return s
}

func signingKey(tb testing.TB, rawKey []byte) *primitive.SigningKey {
	tb.Helper()
	s, err := primitive.ParseSecret(rawKey)
	if err != nil {
		tb.Fatal(err)
	}
	k, err := primitive.ParseSigningKey(primitive.Ed25519, s)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// leafKey returns the signer and index of a person's leaf in a room.
func (p *person) leafKey(room string) (*primitive.SigningKey, uint32) {
	p.tb.Helper()
	info, err := p.Room(room)
	if err != nil {
		p.tb.Fatal(err)
	}
	for _, m := range info.Members {
		if m.Own {
			for _, k := range p.secrets().Rooms[room].Signers {
				return signingKey(p.tb, k), m.Leaf
			}
		}
	}
	p.tb.Fatalf("%s has no leaf", p.name)
	return nil, 0
}

// ear returns the key at rest of a room.
func (p *person) ear(room string) primitive.Secret {
	p.tb.Helper()
	k, err := primitive.ParseSecret(p.secrets().Rooms[room].EAR)
	if err != nil {
		p.tb.Fatal(err)
	}
	return k
}

// session connects to a person's relay on its account session.
func (r raw) session(p *person, relay *service) *grpc.ClientConn {
	r.tb.Helper()
	a := p.secrets().Account
	key, err := x509.ParsePKCS8PrivateKey(a.SessionKey)
	if err != nil {
		r.tb.Fatal(err)
	}
	return r.dial(relay.clientAddr, relay.domain, &tls.Certificate{Certificate: a.Session, PrivateKey: key})
}

// tokens has tokens of a relay signed for an audience.
func (r raw) tokens(conn *grpc.ClientConn, relay *service, audience string, n int) [][]byte {
	r.tb.Helper()
	ctx := context.Background()
	keys, err := relayv1.NewForwardServiceClient(conn).GetPublishedKeys(ctx, &relayv1.GetPublishedKeysRequest{TargetDomain: relay.domain, Role: relayv1.Role_ROLE_PROVIDER})
	if err != nil {
		r.tb.Fatal(err)
	}
	var pub *token.PublicKey
	for _, k := range keys.GetKeys().GetTokenKeys() {
		if token.Epoch(k.GetEpoch()) == token.EpochOf(time.Now()) {
			if pub, err = token.ParsePublicKey(k.GetSpki()); err != nil {
				r.tb.Fatal(err)
			}
		}
	}
	reqs := make([]*token.Request, n)
	in := &relayv1.IssueTokensRequest{TruncatedTokenKeyId: uint32(pub.ID().Truncated())}
	for i := range reqs {
		if reqs[i], err = token.NewRequest(pub, token.Challenge{Issuer: relay.domain, Audience: audience}); err != nil {
			r.tb.Fatal(err)
		}
		in.Blinded = append(in.Blinded, reqs[i].Blinded())
	}
	res, err := relayv1.NewAccountServiceClient(conn).IssueTokens(ctx, in)
	if err != nil {
		r.tb.Fatal(err)
	}
	var out [][]byte
	for i, sig := range res.GetBlindSignatures() {
		t, err := reqs[i].Finalize(sig)
		if err != nil {
			r.tb.Fatal(err)
		}
		b, err := t.AppendBinary(nil)
		if err != nil {
			r.tb.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// gatewayKey returns the key that requests to a service are sealed to.
func (r raw) gatewayKey(conn *grpc.ClientConn) seal.KeyConfig {
	r.tb.Helper()
	res, err := gatewayv1.NewGatewayServiceClient(conn).GetPublishedKeys(context.Background(), &gatewayv1.GetPublishedKeysRequest{})
	if err != nil {
		r.tb.Fatal(err)
	}
	c, err := seal.ParseKeyConfig(res.GetKeys().GetGatewayKeys()[0].GetConfig())
	if err != nil {
		r.tb.Fatal(err)
	}
	return c
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func id16() (id [16]byte) { return [16]byte(randomBytes(16)) }
