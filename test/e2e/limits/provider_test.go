package limits_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	deliveryv1 "github.com/mmrelay/mmrelay/gen/mmr/delivery/v1"
	gatewayv1 "github.com/mmrelay/mmrelay/gen/mmr/gateway/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// mailbox is a mailbox at a provider with what its owner and a hub need.
type mailbox struct {
	ID, Key []byte // the key is the owner's
	keyID   uint32
	sealed  []byte
}

// provider is a running relay as its users and a hub see it.
type provider struct {
	*daemon
	trust   *client.Trust
	session *grpc.ClientConn // of an account
	anon    *grpc.ClientConn
	hub     *grpc.ClientConn
	hubs    []*grpc.ClientConn // of the same
	keys    *typesv1.PublishedKeys
}

func startProvider(t *testing.T, store string, args ...string) *provider {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Contains(args, "--peer") { // a hub that is never called
		args = append(args, "--peer", "hub:"+hubDomain+"=127.0.0.1:1")
	}
	p := &provider{daemon: start(t, aDomain, store, args...)}
	s, err := makeShared()
	must(err)
	p.trust, err = client.LoadTrust(s.Trust())
	must(err)
	state := client.NewMemoryStore()
	c, err := client.Register(t.Context(), state, client.Account{User: "owner", Device: "phone", Domain: aDomain, Relay: p.address(t, "addr")}, p.trust)
	must(err)
	must(c.Close())
	records, err := state.Load()
	must(err)
	var account struct {
		Session    [][]byte
		SessionKey []byte
	}
	must(json.Unmarshal(records["account"], &account))
	key, err := x509.ParsePKCS8PrivateKey(account.SessionKey)
	must(err)
	operator, err := tls.LoadX509KeyPair(filepath.Join(s.Keys(hubDomain), "tls.crt"), filepath.Join(s.Keys(hubDomain), "tls.key"))
	must(err)
	p.session = p.dial(t, "addr", tls.Certificate{Certificate: account.Session, PrivateKey: key})
	p.anon = p.dial(t, "addr")
	for range flooders {
		p.hubs = append(p.hubs, p.dial(t, "peer", operator))
	}
	p.hub = p.hubs[0]
	res, err := gatewayv1.NewGatewayServiceClient(p.anon).GetPublishedKeys(t.Context(), &gatewayv1.GetPublishedKeysRequest{})
	must(err)
	p.keys = res.GetKeys()
	return p
}

// dial connects to one of the provider's addresses.
func (p *provider) dial(t *testing.T, file string, certs ...tls.Certificate) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(p.address(t, file), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: p.trust.Operators, ServerName: aDomain, Certificates: certs,
	})), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8*mib)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// mailboxes makes n mailboxes as clients do, each with a token.
func (p *provider) mailboxes(t *testing.T, n int) []*mailbox {
	t.Helper()
	const batch = 50
	var (
		mu  sync.Mutex // guards all
		all []*mailbox
	)
	eg, ctx := errgroup.WithContext(t.Context())
	eg.SetLimit(8)
	for left := n; left > 0; left -= batch {
		some := min(left, batch)
		eg.Go(func() error {
			ts, err := p.tokens(ctx, some)
			if err != nil {
				return err
			}
			for _, tok := range ts {
				m, err := p.mailbox(ctx, tok)
				if err != nil {
					return err
				}
				mu.Lock()
				all = append(all, m)
				mu.Unlock()
			}
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
	return all
}

func (p *provider) tokens(ctx context.Context, n int) ([][]byte, error) {
	var pub *token.PublicKey
	for _, k := range p.keys.GetTokenKeys() {
		if token.Epoch(k.GetEpoch()) != token.EpochOf(time.Now()) {
			continue
		}
		var err error
		if pub, err = token.ParsePublicKey(k.GetSpki()); err != nil {
			return nil, err
		}
	}
	in := &relayv1.IssueTokensRequest{TruncatedTokenKeyId: uint32(pub.ID().Truncated())}
	var reqs []*token.Request
	for range n {
		r, err := token.NewRequest(pub, token.Challenge{Issuer: aDomain, Audience: seal.ProviderAudience(aDomain)})
		if err != nil {
			return nil, err
		}
		reqs, in.Blinded = append(reqs, r), append(in.Blinded, r.Blinded())
	}
	res, err := relayv1.NewAccountServiceClient(p.session).IssueTokens(ctx, in)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for i, sig := range res.GetBlindSignatures() {
		tok, err := reqs[i].Finalize(sig)
		if err != nil {
			return nil, err
		}
		b, err := tok.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// mailbox makes one mailbox with a token.
func (p *provider) mailbox(ctx context.Context, tok []byte) (*mailbox, error) {
	key, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		return nil, err
	}
	body := &relayv1.QueueCreateRequest{ReadKey: key.Public().Bytes()}
	res := new(relayv1.QueueCreateResponse)
	if err := p.call(ctx, seal.MethodQueueCreate, tok, key, body, res); err != nil {
		return nil, err
	}
	m := &mailbox{ID: res.GetQueueId(), Key: key.Raw().Bytes()}
	for _, k := range p.keys.GetQueueKeys() {
		kc, err := seal.ParseKeyConfig(k.GetConfig())
		if err != nil {
			return nil, err
		}
		if !kc.ValidAt(time.Now()) {
			continue
		}
		q := seal.QueueConfig{QueueID: [16]byte(m.ID), NotAfterDay: seal.Day(time.Unix(int64(kc.NotAfter), 0))}
		m.keyID = uint32(kc.ID)
		if m.sealed, err = seal.SealQueue(kc.Key, aDomain, kc.ID, q); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// deliver stores an envelope of some bytes in each mailbox, as a hub does.
func deliver(ctx context.Context, hub *grpc.ClientConn, size int, boxes ...*mailbox) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := deliveryv1.NewDeliveryServiceClient(hub).Deliver(ctx)
	if err != nil {
		return err
	}
	return send(s, size, boxes...)
}

// call makes an encapsulated request of the owner of a key.
func (p *provider) call(ctx context.Context, method string, tok []byte, key *primitive.SigningKey, body, out proto.Message) error {
	b, err := proto.Marshal(body)
	if err != nil {
		return err
	}
	req := &seal.Request{Audience: seal.ProviderAudience(aDomain), Method: method, Timestamp: seal.Timestamp(time.Now()), Token: tok, Body: b}
	_, _ = rand.Read(req.RequestID[:]) // never fails
	if err := req.Sign(seal.AuthQueue, 0, key); err != nil {
		return err
	}
	if b, err = req.AppendBinary(nil); err != nil {
		return err
	}
	config, err := seal.ParseKeyConfig(p.keys.GetGatewayKeys()[0].GetConfig())
	if err != nil {
		return err
	}
	enc, opener, err := seal.Encapsulate(config, b)
	if err != nil {
		return err
	}
	raw, err := gatewayv1.NewGatewayServiceClient(p.anon).Call(ctx, &gatewayv1.CallRequest{Encapsulated: enc})
	if err != nil {
		return err
	}
	if b, err = opener.Open(raw.GetEncapsulated()); err != nil {
		return err
	}
	res, err := seal.ParseResponse(b)
	if err != nil {
		return err
	}
	if err := res.Err(); err != nil {
		return err
	}
	return proto.Unmarshal(res.Body, out)
}

// stat returns what a mailbox's owner is told about it.
func (p *provider) stat(t *testing.T, m *mailbox) *relayv1.QueueStatResponse {
	t.Helper()
	secret, err := primitive.ParseSecret(m.Key)
	if err != nil {
		t.Fatal(err)
	}
	key, err := primitive.ParseSigningKey(primitive.Ed25519, secret)
	if err != nil {
		t.Fatal(err)
	}
	res := new(relayv1.QueueStatResponse)
	if err := p.call(t.Context(), seal.MethodQueueStat, nil, key, &relayv1.QueueStatRequest{QueueId: m.ID}, res); err != nil {
		t.Fatal(err)
	}
	return res
}

type deliverStream = deliveryv1.DeliveryService_DeliverClient

// send delivers a batch with an envelope of size bytes to each mailbox.
func send(s deliverStream, size int, boxes ...*mailbox) error {
	req := new(deliveryv1.DeliverRequest)
	for _, m := range boxes {
		env := make([]byte, size)
		env[0] = byte(seal.FormRatchet)
		id := make([]byte, 16)
		_, _ = rand.Read(id) // never fails
		req.Items = append(req.Items, &deliveryv1.Item{ItemId: id, KeyId: m.keyID, Sealed: m.sealed, Envelope: env})
	}
	if err := s.Send(req); err != nil {
		return err
	}
	res, err := s.Recv()
	if err != nil {
		return err
	}
	if !bytes.Equal(res.GetStatus(), make([]byte, len(boxes))) {
		return fmt.Errorf("statuses %v", res.GetStatus())
	}
	return nil
}
