package client

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// ErrReplaced reports that another listener took over the mailbox.
var ErrReplaced = errors.New("client: another listener took over the mailbox")

func domainOf(audience string) string {
	_, d, _ := strings.Cut(audience, ":")
	return d
}

func parseNumber(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // names are our own
	return n
}

// createMailbox makes the client's queue, without its account (SPEC.md ).
// The request is stored before it is sent, so that its repeat by the next process
// finds the mailbox that was made.
func (c *Client) createMailbox(ctx context.Context) error {
	if len(c.account.QueueID) > 0 {
		return nil
	}
	if len(c.account.QueueRequest) == 0 {
		key, err := primitive.GenerateSigningKey(primitive.Ed25519)
		if err != nil {
			return err
		}
		err = c.setAccount(func(a *accountState) { a.QueueKey, a.QueueRequest = key.Raw().Bytes(), random(16) })
		if err != nil {
			return err
		}
	}
	key, err := c.queueKey()
	if err != nil {
		return err
	}
	var res relayv1.QueueCreateResponse
	err = c.do(ctx, call{
		to: providerOf(c.account.Domain), method: seal.MethodQueueCreate, token: true, kind: seal.AuthQueue, signer: key, id: [16]byte(c.account.QueueRequest),
		body: &relayv1.QueueCreateRequest{ReadKey: key.Public().Bytes()},
	}, &res)
	if err != nil {
		return err
	}
	return c.setAccount(func(a *accountState) { a.QueueID, a.QueueRequest = res.GetQueueId(), nil })
}

// setAccount changes the account's state and stores it.
func (c *Client) setAccount(change func(*accountState)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.account)
	b := make(batch)
	if err := b.put(recAccount, c.account); err != nil {
		return err
	}
	return c.store.Write(b)
}

func (c *Client) queueKey() (*primitive.SigningKey, error) {
	raw, err := primitive.ParseSecret(c.account.QueueKey)
	if err != nil {
		return nil, err
	}
	return primitive.ParseSigningKey(primitive.Ed25519, raw)
}

// Listen reads the mailbox until ctx ends and calls handle for each event, in
// order, one at a time. An event is removed from the state when handle returns
// nil; after an error or a crash it is presented again. handle may call the
// client's methods. Listen connects again by itself; it returns ErrReplaced
// when another listener of this mailbox took over.
func (c *Client) Listen(ctx context.Context, handle func(Event) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := c.resume(ctx); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.deliver(ctx, handle); err != nil {
			cancel(err)
		}
	}()
	err := c.receive(ctx)
	cancel(err)
	<-done
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return ctx.Err()
}

// receive keeps a stream open and takes entries from it.
func (c *Client) receive(ctx context.Context) error {
	again := newInterval(time.Second, 5*time.Second)
	for ctx.Err() == nil {
		began := time.Now()
		err := c.stream(ctx)
		if errors.Is(err, ErrReplaced) {
			return err
		}
		if err := c.store.broken(); err != nil {
			return err
		}
		if ctx.Err() == nil {
			c.opts.log.Debug("mailbox stream ended, connecting again")
			if time.Since(began) > time.Minute {
				again.Reset()
			}
			sleep(ctx, again.after(err))
		}
	}
	return ctx.Err()
}

// Sync reads what the mailbox holds now and returns: for programs that run for
// a moment. Events stay in the state until Listen or Take presents them.
func (c *Client) Sync(ctx context.Context) error {
	if err := c.resume(ctx); err != nil {
		return err
	}
	for {
		err := c.streamUntil(ctx, true)
		if errors.Is(err, errUpToDate) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.upkeep(ctx, true)
		}
		if !errors.Is(err, errMore) {
			return err
		}
	}
}

var (
	errUpToDate = errors.New("client: mailbox read to its end")
	errMore     = errors.New("client: more may be in the mailbox")
)

func (c *Client) stream(ctx context.Context) error { return c.streamUntil(ctx, false) }

func (c *Client) streamUntil(ctx context.Context, once bool) error {
	ctx, cancel := context.WithCancel(impatient(ctx))
	var repairs sync.WaitGroup
	defer repairs.Wait() // nothing is written after the caller was told
	defer cancel()
	s, err := relayv1.NewMailboxServiceClient(c.t.anon).Listen(ctx)
	if err != nil {
		return err
	}
	if err := c.prove(s); err != nil {
		return err
	}
	repairs.Go(func() { c.watchGaps(ctx) })
	for {
		res, err := s.Recv()
		if err != nil {
			return err
		}
		switch m := res.GetMessage().(type) {
		case *relayv1.ListenResponse_Batch:
			if err := c.take(ctx, s, m.Batch); err != nil {
				return err
			}
			switch {
			case once && len(m.Batch.GetEntries()) == 0:
				return errUpToDate // the first batch is sent even if it is empty
			case once:
				return errMore
			}
		case *relayv1.ListenResponse_End:
			if m.End.GetReason() == relayv1.EndReason_END_REASON_REPLACED {
				return ErrReplaced
			}
			return nil
		}
	}
}

// prove opens the mailbox and answers the challenge.
func (c *Client) prove(s relayv1.MailboxService_ListenClient) error {
	c.mu.Lock()
	id, cursor := c.account.QueueID, c.mailbox.Cursor
	key, err := c.queueKey()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err := send(s, &relayv1.ListenRequest{Message: &relayv1.ListenRequest_Open{Open: &relayv1.ListenOpen{QueueId: id, After: cursor}}}); err != nil {
		return err
	}
	res, err := s.Recv()
	if err != nil {
		return err
	}
	proof := seal.ListenChallenge(c.account.Domain, id, res.GetChallenge().GetNonce())
	if err := proof.Sign(seal.AuthQueue, 0, key); err != nil {
		return err
	}
	return send(s, &relayv1.ListenRequest{Message: &relayv1.ListenRequest_Proof{Proof: &relayv1.ListenProof{Signature: proof.Auth.Signature}}})
}

// send sends on a mailbox stream. The error of a stream that has ended is what it
// ended with: gRPC's Send does not tell.
func send(s relayv1.MailboxService_ListenClient, m *relayv1.ListenRequest) error {
	err := s.Send(m)
	for errors.Is(err, io.EOF) {
		if _, end := s.Recv(); end != nil {
			return end
		}
	}
	return err
}

// take stores what a batch brought, then acknowledges it.
func (c *Client) take(ctx context.Context, s relayv1.MailboxService_ListenClient, b *relayv1.ListenBatch) error {
	for _, e := range b.GetEntries() {
		if err := c.envelope(ctx, e.GetId(), e.GetEnvelope()); err != nil {
			return err
		}
		if err := send(s, &relayv1.ListenRequest{Message: &relayv1.ListenRequest_Ack{Ack: &relayv1.ListenAck{UpTo: e.GetId()}}}); err != nil {
			return err
		}
	}
	return c.overflow(ctx, b.GetDropped())
}

// overflow notices that the mailbox refused envelopes and catches up in every
// room (SPEC.md R-76).
func (c *Client) overflow(ctx context.Context, dropped uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.overflown = max(c.overflown, dropped)
	return c.afterOverflow(ctx)
}

// afterOverflow catches up in every room, until that has worked once since the
// mailbox last refused something. mu is held.
func (c *Client) afterOverflow(ctx context.Context) error {
	dropped := c.overflown
	if dropped <= c.mailbox.Dropped {
		return nil
	}
	for _, r := range c.rooms {
		if err := c.catchUp(ctx, r); err != nil && !refused(err) {
			if err := c.store.broken(); err != nil {
				return err
			}
			c.opts.log.Warn("catching up did not work")
			return nil // again, see watchGaps
		}
	}
	c.mailbox.Dropped = dropped
	w := make(batch)
	if err := w.put(recMailbox, c.mailbox); err != nil {
		return err
	}
	return c.store.Write(w)
}

// watchGaps catches up in rooms whose next event has not come for a while, and
// repeats what did not work because a hub was out of reach.
func (c *Client) watchGaps(ctx context.Context) {
	retried := time.Now()
	for {
		sleep(ctx, max(c.opts.gapWait/4, 50*time.Millisecond))
		if ctx.Err() != nil || c.store.broken() != nil {
			return
		}
		c.mu.Lock()
		if time.Since(retried) >= c.opts.gapWait {
			retried = time.Now()
			if err := errors.Join(c.afterOverflow(ctx), c.retryFirst(ctx)); err != nil {
				c.opts.log.Warn("a repair did not work")
			}
		}
		if err := c.upkeep(ctx, false); err != nil {
			c.mu.Unlock()
			return
		}
		c.seekGone(ctx)
		now := time.Now()
		for _, r := range c.rooms {
			if r.st.GapSince != 0 && now.Sub(time.UnixMilli(r.st.GapSince)) >= c.opts.gapWait {
				if err := c.catchUp(ctx, r); err != nil {
					c.opts.log.Warn("catching up did not work")
					r.st.GapSince = now.UnixMilli()
				}
			}
		}
		c.mu.Unlock()
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
