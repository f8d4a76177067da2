package limits_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// listenJob is what a process of listeners is told on standard input. It listens
// until that ends.
type listenJob struct {
	Addr, Roots string
	Boxes       []*mailbox
}

// listenAll listens to mailboxes over one connection each. It writes "listening"
// when all do, and then "heard" for each envelope.
func listenAll(in io.Reader, out, errs io.Writer) int {
	var job listenJob
	d := json.NewDecoder(in)
	if err := d.Decode(&job); err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, in) // its end is what counts
	}()
	roots, err := keys.Pool(job.Roots)
	if err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	creds := credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: aDomain})
	heard := make(chan int, 100)
	var eg errgroup.Group
	eg.SetLimit(16)
	var conns []io.Closer
	var mu sync.Mutex // guards conns
	for _, m := range job.Boxes {
		eg.Go(func() error {
			c, err := grpc.NewClient(job.Addr, grpc.WithTransportCredentials(creds), grpc.WithReadBufferSize(2048), grpc.WithWriteBufferSize(2048))
			if err != nil {
				return err
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			s, err := listenTo(ctx, c, m)
			if err != nil {
				return err
			}
			go func() { // ends with the process
				for {
					res, err := s.Recv()
					if err != nil || res.GetEnd() != nil {
						heard <- -1
						return
					}
					heard <- len(res.GetBatch().GetEntries())
				}
			}()
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	fmt.Fprintln(out, "listening")
	for {
		select {
		case <-ctx.Done():
			return 0
		case n := <-heard:
			if n < 0 && ctx.Err() == nil {
				fmt.Fprintln(out, "lost")
			}
			for range n {
				fmt.Fprintln(out, "heard")
			}
		}
	}
}

// listenTo opens a stream, proves the owner's key and reads the first page.
func listenTo(ctx context.Context, c *grpc.ClientConn, m *mailbox) (relayv1.MailboxService_ListenClient, error) {
	s, err := relayv1.NewMailboxServiceClient(c).Listen(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.Send(&relayv1.ListenRequest{Message: &relayv1.ListenRequest_Open{Open: &relayv1.ListenOpen{QueueId: m.ID}}}); err != nil {
		return nil, err
	}
	res, err := s.Recv()
	if err != nil {
		return nil, err
	}
	secret, err := primitive.ParseSecret(m.Key)
	if err != nil {
		return nil, err
	}
	key, err := primitive.ParseSigningKey(primitive.Ed25519, secret)
	if err != nil {
		return nil, err
	}
	proof := seal.ListenChallenge(aDomain, m.ID, res.GetChallenge().GetNonce())
	if err := proof.Sign(seal.AuthQueue, 0, key); err != nil {
		return nil, err
	}
	if err := s.Send(&relayv1.ListenRequest{Message: &relayv1.ListenRequest_Proof{Proof: &relayv1.ListenProof{Signature: proof.Auth.Signature}}}); err != nil {
		return nil, err
	}
	res, err = s.Recv()
	if err != nil {
		return nil, err
	}
	if res.GetBatch() == nil {
		return nil, fmt.Errorf("no first page")
	}
	return s, nil
}
