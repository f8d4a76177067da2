package e2e_test

import (
	"context"
	"crypto/tls"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// partner is a partner relay between the clients and the one of b.example, which
// has another copy of what is published.
type partner struct {
	relayv1.UnimplementedForwardServiceServer
	next  relayv1.ForwardServiceClient
	edit  func(*relayv1.GetPublishedKeysResponse)
	asked int
}

func (p *partner) Forward(ctx context.Context, req *relayv1.ForwardRequest) (*relayv1.ForwardResponse, error) {
	return p.next.Forward(ctx, req)
}

func (p *partner) GetPublishedKeys(ctx context.Context, req *relayv1.GetPublishedKeysRequest) (*relayv1.GetPublishedKeysResponse, error) {
	p.asked++
	res, err := p.next.GetPublishedKeys(ctx, req)
	if err == nil && p.edit != nil {
		res = proto.CloneOf(res)
		p.edit(res)
	}
	return res, err
}

// startPartner serves p as b.example and returns its address.
func (w *world) startPartner(t *testing.T, p *partner) string {
	t.Helper()
	dir := filepath.Join(w.dir, "b.example")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(w.relays["b.example"].clientAddr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: w.trust.Operators, ServerName: "b.example",
	})))
	if err != nil {
		t.Fatal(err)
	}
	p.next = relayv1.NewForwardServiceClient(conn)
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}})))
	relayv1.RegisterForwardServiceServer(srv, p)
	lis := listen(t)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := errors.Join(<-done, conn.Close()); err != nil {
			t.Error(err)
		}
	})
	return lis.Addr().String()
}

// TestSecondCopy: no token is taken under a key of which the partner relay has
// another copy, or none: the own relay is the issuer's, and might give each account
// a key of its own (SPEC.md R-83).
func TestSecondCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other, err := keys.Load(filepath.Join(w.dir, "b.example"), keys.Provider, "b.example")
	if err != nil {
		t.Fatal(err)
	}
	for user, edit := range map[string]func(*relayv1.GetPublishedKeysResponse){
		"same": nil,
		"other": func(r *relayv1.GetPublishedKeysResponse) {
			r.Keys.TokenKeys = other.TokenKeys(time.Now())
		},
		"none": func(r *relayv1.GetPublishedKeysResponse) { r.Keys.TokenKeys = nil },
	} {
		t.Run(user, func(t *testing.T) {
			p := &partner{edit: edit}
			store := client.NewMemoryStore()
			c, err := client.Register(t.Context(), store, client.Account{
				User: user, Device: user + "-phone", Domain: "a.example", Relay: w.relays["a.example"].clientAddr, Code: "let-me-in",
				PartnerDomain: "b.example", Partner: w.startPartner(t, p),
			}, w.trust)
			if c != nil {
				defer c.Close()
			}
			switch {
			case edit == nil && err != nil:
				t.Fatal(err)
			case edit != nil && !errors.Is(err, token.ErrInconsistent):
				t.Errorf("registering: %v", err)
			}
			state, err := store.Load()
			if err != nil {
				t.Fatal(err)
			}
			if _, kept := state["issuer"]; kept != (edit == nil) {
				t.Errorf("the issuer's list is kept: %v", kept) // what comes later must continue it
			}
			if p.asked != 1 {
				t.Errorf("the partner was asked %d times", p.asked)
			}
		})
	}
}
