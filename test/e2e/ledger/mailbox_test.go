package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	deliveryv1 "github.com/mmrelay/mmrelay/gen/mmr/delivery/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// mailbox is a mailbox at a provider, with what a hub needs to reach it and its
// owner to read it.
type mailbox struct {
	domain string
	id     []byte
	key    *primitive.SigningKey
	keyID  uint32
	sealed []byte
	event  seal.DeliveryKey
}

// newMailbox registers an account for its mailbox.
func (w *pair) newMailbox(t *testing.T, domain, partner string) *mailbox {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	state := client.NewMemoryStore()
	c, err := client.Register(t.Context(), state, client.Account{
		User: "box", Device: "phone", Domain: domain, Relay: w.d.clients[domain].addr(), Code: "let-me-in",
		PartnerDomain: partner, Partner: w.d.clients[partner].addr(),
	}, w.d.trust)
	must(err)
	must(c.Close())
	records, err := state.Load()
	must(err)
	var account struct{ QueueID, QueueKey []byte }
	must(json.Unmarshal(records["account"], &account))
	m := &mailbox{domain: domain, id: account.QueueID, event: seal.StoredDeliveryKey(1, primitive.NewSecret())}
	secret, err := primitive.ParseSecret(account.QueueKey)
	must(err)
	m.key, err = primitive.ParseSigningKey(primitive.Ed25519, secret)
	must(err)
	conn := w.d.dial(t, w.d.clients[domain].backends[0], credentials.NewClientTLSFromCert(w.d.trust.Operators, domain))
	res, err := relayv1.NewForwardServiceClient(conn).GetPublishedKeys(t.Context(), &relayv1.GetPublishedKeysRequest{TargetDomain: domain, Role: relayv1.Role_ROLE_PROVIDER})
	must(err)
	for _, k := range res.GetKeys().GetQueueKeys() {
		kc, err := seal.ParseKeyConfig(k.GetConfig())
		must(err)
		if kc.ValidAt(time.Now()) {
			q := seal.QueueConfig{QueueID: [16]byte(m.id), NotAfterDay: seal.Day(time.Unix(int64(kc.NotAfter), 0))}
			m.keyID = uint32(kc.ID)
			m.sealed, err = seal.SealQueue(kc.Key, domain, kc.ID, q)
			must(err)
			return m
		}
	}
	t.Fatal("the provider publishes no queue key")
	return nil
}

// dial connects to the address in a file.
func (d *deployment) dial(t *testing.T, file string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	addr, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(string(addr), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// edge is a mailbox as hub and owner see it through one replica of its relay: what
// the hub appends, and what the owner reads and acknowledges.
type edge struct {
	queue.Store // nil: nothing else is called
	m           *mailbox
	hub, owner  *grpc.ClientConn
}

// AppendBatch implements queue.Store as a hub delivers. The relay does not say under
// which number.
func (e *edge) AppendBatch(ctx context.Context, batch []queue.Append) ([]queue.Result, error) {
	req := new(deliveryv1.DeliverRequest)
	for _, a := range batch {
		env, err := seal.SealEnvelope(e.m.event, a.Entry)
		if err != nil {
			return nil, err
		}
		id := primitive.Hash(a.Dedup)
		if a.Dedup == nil {
			id = primitive.Hash(env)
		}
		req.Items = append(req.Items, &deliveryv1.Item{ItemId: id[:16], KeyId: e.m.keyID, Sealed: e.m.sealed, Envelope: env})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := deliveryv1.NewDeliveryServiceClient(e.hub).Deliver(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Send(req); err != nil {
		return nil, err
	}
	res, err := s.Recv()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(res.GetStatus(), make([]byte, len(batch))) {
		return nil, fmt.Errorf("statuses %v", res.GetStatus())
	}
	return make([]queue.Result, len(batch)), nil
}

// open opens a stream, proves the owner's key and returns the first page.
func (e *edge) open(ctx context.Context, after queue.Seq) (relayv1.MailboxService_ListenClient, []*relayv1.ListenEntry, error) {
	s, err := relayv1.NewMailboxServiceClient(e.owner).Listen(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := s.Send(&relayv1.ListenRequest{Message: &relayv1.ListenRequest_Open{Open: &relayv1.ListenOpen{QueueId: e.m.id, After: uint64(after)}}}); err != nil {
		return nil, nil, err
	}
	res, err := s.Recv()
	if err != nil {
		return nil, nil, err
	}
	proof := seal.ListenChallenge(e.m.domain, e.m.id, res.GetChallenge().GetNonce())
	if err := proof.Sign(seal.AuthQueue, 0, e.m.key); err != nil {
		return nil, nil, err
	}
	if err := s.Send(&relayv1.ListenRequest{Message: &relayv1.ListenRequest_Proof{Proof: &relayv1.ListenProof{Signature: proof.Auth.Signature}}}); err != nil {
		return nil, nil, err
	}
	if res, err = s.Recv(); err != nil {
		return nil, nil, err
	}
	if res.GetBatch() == nil {
		return nil, nil, errors.New("no first page")
	}
	return s, res.GetBatch().GetEntries(), nil
}

// Read implements queue.Store as the owner reads: the first page of a stream.
func (e *edge) Read(ctx context.Context, _ queue.ID, after queue.Seq, most int) ([]queue.Entry, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_, page, err := e.open(ctx, after)
	if err != nil {
		return nil, err
	}
	var out []queue.Entry
	for _, x := range page[:min(most, len(page))] {
		data, err := seal.OpenEnvelope(e.m.event, x.GetEnvelope())
		if err != nil {
			return nil, err
		}
		out = append(out, queue.Entry{Seq: queue.Seq(x.GetId()), Data: data})
	}
	return out, nil
}

// errReplaced reports that another listener took over before the outcome was known.
var errReplaced = errors.New("replaced")

// Ack implements queue.Store as the owner acknowledges, again if another listener
// takes over.
func (e *edge) Ack(ctx context.Context, _ queue.ID, upTo queue.Seq) error {
	for {
		if err := e.ack(ctx, upTo); !errors.Is(err, errReplaced) {
			return err
		}
	}
}

// ack acknowledges once. The relay ends the stream in good order after it has
// carried out what was sent before the client's end.
func (e *edge) ack(ctx context.Context, upTo queue.Seq) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, _, err := e.open(ctx, 0)
	if err != nil {
		return err
	}
	if err := s.Send(&relayv1.ListenRequest{Message: &relayv1.ListenRequest_Ack{Ack: &relayv1.ListenAck{UpTo: uint64(upTo)}}}); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		res, err := s.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case res.GetEnd() != nil:
			return errReplaced
		}
	}
}

// call makes one call. Reads show nearly all of the mailbox, since appends do not
// tell their place: it is what bounds the search for an order.
func call(ctx context.Context, q queue.Store, r *rand.Rand, name string) {
	const id = queue.ID("the mailbox")
	switch r.IntN(6) {
	case 0, 1, 2:
		a := queue.Append{Queue: id, Entry: []byte(name), Dedup: []byte(name)}
		if r.IntN(4) == 0 {
			a.Dedup = fmt.Append(nil, "shared ", r.IntN(4)) // several race to it
		}
		_, _ = q.AppendBatch(ctx, []queue.Append{a}) // recorded, whatever comes
	case 3:
		_ = q.Ack(ctx, id, queue.Seq(r.IntN(6))) // recorded
	default:
		_, _ = q.Read(ctx, id, queue.Seq(r.IntN(4)), 64) // recorded
	}
}

// mailboxes: what hub and owner do with a mailbox through two replicas of its relay
// at once is linearizable (porcupine).
func (w *pair) mailboxes(t *testing.T) {
	m := w.newMailbox(t, bDomain, aDomain)
	s, err := makeShared()
	if err != nil {
		t.Fatal(err)
	}
	keys := s.Keys(hubDomain)
	cert, err := grpcserver.LoadCertificate(filepath.Join(keys, "tls.crt"), filepath.Join(keys, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	h := &queuetest.History{Untold: true}
	var wg sync.WaitGroup
	const people, calls = 4, 24
	for i := range people {
		replica := i % 2
		e := &edge{
			m:     m,
			hub:   w.d.dial(t, w.d.link(hubDomain, bDomain).backends[replica], credentials.NewTLS(cert.ClientTLS(w.d.trust.Operators, bDomain))),
			owner: w.d.dial(t, w.d.clients[bDomain].backends[replica], credentials.NewClientTLSFromCert(w.d.trust.Operators, bDomain)),
		}
		q := h.Client(e)
		r := rand.New(rand.NewPCG(uint64(i), 7))
		wg.Go(func() {
			for n := range calls {
				call(t.Context(), q, r, fmt.Sprint(i, " ", n))
			}
		})
	}
	wg.Wait()
	h.Check(t)
	all, unknown := h.Ops()
	t.Logf("%d calls, %d with unknown outcome", all, unknown)
	if all-unknown < people*calls/2 {
		t.Error("most calls failed")
	}
}
