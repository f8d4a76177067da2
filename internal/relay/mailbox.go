package relay

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

const (
	// handshakeTimeout bounds the time from opening a stream to its proof.
	handshakeTimeout = 10 * time.Second
	// listenPage is how many entries are read and sent at once.
	listenPage = 64
	// takeoverCheck is how often a listener that gets entries asks whether another
	// replica has a newer one. Any other asks whenever it is woken.
	takeoverCheck = 5 * time.Second
)

// MailboxService implements mmr.relay.v1.MailboxService: reading a mailbox with
// its read key, without an account (SPEC.md R-54).
type MailboxService struct {
	relayv1.UnimplementedMailboxServiceServer
	r *Relay

	mu        sync.Mutex // guards listeners
	listeners map[queue.ID]*listener
}

// listener is the newest reader of a mailbox in this process.
type listener struct {
	id   []byte
	gone chan struct{} // closed when a newer one took over
	once sync.Once
}

func (l *listener) replace() { l.once.Do(func() { close(l.gone) }) }

func newMailboxService(r *Relay) *MailboxService {
	return &MailboxService{r: r, listeners: make(map[queue.ID]*listener)}
}

type listenStream = relayv1.MailboxService_ListenServer

// Listen implements the service.
func (s *MailboxService) Listen(stream listenStream) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	var open *relayv1.ListenOpen
	var me *listener
	err := aside(func() (err error) {
		if open, err = s.handshake(stream); err != nil {
			return err
		}
		me, err = s.take(ctx, queue.ID(open.GetQueueId()))
		return err
	})
	if err != nil {
		return err
	}
	id := queue.ID(open.GetQueueId())
	defer s.leave(id, me)
	s.r.metrics.listeners.Inc()
	defer s.r.metrics.listeners.Dec()

	// The reader ends with the stream, which ends when this function returns: a
	// client that is told to go need not say goodbye first.
	acks := make(chan error, 1)
	go func() { acks <- s.readAcks(ctx, stream, id) }()
	return s.serve(ctx, stream, id, queue.Seq(open.GetAfter()), me, acks)
}

// aside runs f on a goroutine of its own and waits for it. The stack that f needs is
// given back with that; the caller's, which waits for hours, stays small.
func aside(f func() error) (err error) {
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		err = f()
	}()
	<-done
	if panicked != nil {
		panic(panicked) // where it is recovered
	}
	return err
}

// handshake reads Open, sends the challenge and checks the proof. A mailbox
// that does not exist and a wrong key answer alike, after the same work (SPEC.md R-67).
func (s *MailboxService) handshake(stream listenStream) (*relayv1.ListenOpen, error) {
	watchdog := newWatchdog(stream.Context(), handshakeTimeout)
	defer watchdog.stop()
	req, err := watchdog.recv(stream)
	if err != nil {
		return nil, err
	}
	open := req.GetOpen()
	if open == nil || len(open.GetQueueId()) != 16 {
		return nil, &grpcserver.FieldError{Field: "open.queue_id", Rule: "must be 16 bytes"}
	}
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails
	if err := stream.Send(&relayv1.ListenResponse{Message: &relayv1.ListenResponse_Challenge{Challenge: &relayv1.ListenChallenge{Nonce: nonce}}}); err != nil {
		return nil, err
	}
	if req, err = watchdog.recv(stream); err != nil {
		return nil, err
	}
	meta, err := s.r.queueMeta(stream.Context(), queue.ID(open.GetQueueId()))
	if err != nil {
		return nil, err
	}
	proof := seal.ListenChallenge(s.r.cfg.Domain, open.GetQueueId(), nonce)
	proof.Auth = seal.RequestAuth{Kind: seal.AuthQueue, Signature: req.GetProof().GetSignature()}
	if proof.Verify(meta.readKey) != nil || !meta.exists {
		return nil, mmrerr.NoConsent
	}
	return open, nil
}

// take makes this stream the mailbox's only reader: here at once, at other
// replicas when their reader is woken.
func (s *MailboxService) take(ctx context.Context, id queue.ID) (*listener, error) {
	me := &listener{id: make([]byte, 16), gone: make(chan struct{})}
	_, _ = rand.Read(me.id) // never fails
	if _, err := s.r.cfg.Mailboxes.Apply(ctx, []kv.Op{{Key: listenerKey(id), Value: me.id, TTL: 48 * time.Hour}}); err != nil {
		return nil, err
	}
	if err := s.r.cfg.Queues.Wake(ctx, id); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.listeners[id]; old != nil {
		old.replace()
	}
	s.listeners[id] = me
	return me, nil
}

func (s *MailboxService) leave(id queue.ID, me *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listeners[id] == me {
		delete(s.listeners, id)
	}
}

// replaced asks the store whether a newer listener registered anywhere.
func (s *MailboxService) replaced(ctx context.Context, id queue.ID, me *listener) bool {
	rec, err := s.r.cfg.Mailboxes.Get(ctx, listenerKey(id))
	return err == nil && string(rec.Value) != string(me.id)
}

func (s *MailboxService) readAcks(ctx context.Context, stream listenStream, id queue.ID) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if req.GetAck() == nil {
			return &grpcserver.FieldError{Field: "message", Rule: "must be an ack after the proof"}
		}
		if err := s.r.cfg.Queues.Ack(ctx, id, queue.Seq(req.GetAck().GetUpTo())); err != nil && !errors.Is(err, queue.ErrNotFound) {
			return err
		}
	}
}

// serve sends entries until the client leaves, a newer listener takes over, the
// mailbox is deleted, or the relay stops. It has no clock of its own: a store that
// others share wakes it now and then, and that is when it looks for a newer
// listener elsewhere.
func (s *MailboxService) serve(ctx context.Context, stream listenStream, id queue.ID, after queue.Seq, me *listener, acks <-chan error) error {
	wake, err := s.r.cfg.Queues.Watch(ctx, id)
	if err != nil {
		return err
	}
	first, woken, checked := true, false, time.Now()
	told := uint64(0) // refusals that the client knows of
	for {
		var sent, replaced bool
		err := aside(func() (err error) {
			sent, err = s.page(ctx, stream, id, &after, &told, first, woken)
			if err == nil && woken && (!sent || time.Since(checked) >= takeoverCheck) {
				checked = time.Now()
				replaced = s.replaced(ctx, id, me)
			}
			return err
		})
		if errors.Is(err, queue.ErrNotFound) { // deleted meanwhile
			_ = kv.Delete(ctx, s.r.cfg.Mailboxes, listenerKey(id)) // written after that, perhaps; it expires too
			return mmrerr.NoConsent
		}
		if err != nil {
			return err
		}
		if replaced {
			return endStream(stream, relayv1.EndReason_END_REASON_REPLACED)
		}
		first, woken = false, false
		if sent {
			select { // more may be waiting; but leave when told to
			case <-me.gone:
				return endStream(stream, relayv1.EndReason_END_REASON_REPLACED)
			case err := <-acks:
				return err
			default:
				continue
			}
		}
		select {
		case <-me.gone:
			return endStream(stream, relayv1.EndReason_END_REASON_REPLACED)
		case <-s.r.stopping:
			return endStream(stream, relayv1.EndReason_END_REASON_DRAINING)
		case err := <-acks:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case _, ok := <-wake:
			if !ok {
				return queue.ErrClosed
			}
			woken = true
		}
	}
}

// page sends the next entries. It reports whether there may be more at once.
// The first page is sent even when empty: it tells the client that it is up to date.
// So is one after a wake-up that has refusals to tell of (SPEC.md R-53).
func (s *MailboxService) page(ctx context.Context, stream listenStream, id queue.ID, after *queue.Seq, told *uint64, always, woken bool) (more bool, err error) {
	es, err := s.r.cfg.Queues.Read(ctx, id, *after, listenPage)
	if err != nil {
		return false, err
	}
	if len(es) == 0 && !always && !woken {
		return false, nil
	}
	st, err := s.r.cfg.Queues.Stat(ctx, id)
	if err != nil {
		return false, err
	}
	if len(es) == 0 && !always && st.Dropped == *told {
		return false, nil
	}
	*told = st.Dropped
	b := &relayv1.ListenBatch{Dropped: st.Dropped, Entries: make([]*relayv1.ListenEntry, len(es))}
	for i, e := range es {
		b.Entries[i] = &relayv1.ListenEntry{Id: uint64(e.Seq), Envelope: e.Data}
		*after = e.Seq
	}
	return len(es) > 0, stream.Send(&relayv1.ListenResponse{Message: &relayv1.ListenResponse_Batch{Batch: b}})
}

func endStream(stream listenStream, why relayv1.EndReason) error {
	return stream.Send(&relayv1.ListenResponse{Message: &relayv1.ListenResponse_End{End: &relayv1.ListenEnd{Reason: why}}})
}

// watchdog bounds the handshake: a stream whose client stays silent ends.
type watchdog struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func newWatchdog(ctx context.Context, d time.Duration) *watchdog {
	ctx, cancel := context.WithTimeout(ctx, d)
	return &watchdog{ctx, cancel}
}

func (w *watchdog) stop() { w.cancel() }

// recv reads one message or gives up at the deadline. The abandoned read ends
// with the stream, which ends when the handler returns.
func (w *watchdog) recv(stream listenStream) (*relayv1.ListenRequest, error) {
	type result struct {
		req *relayv1.ListenRequest
		err error
	}
	c := make(chan result, 1)
	go func() {
		req, err := stream.Recv()
		c <- result{req, err}
	}()
	select {
	case r := <-c:
		return r.req, r.err
	case <-w.ctx.Done():
		return nil, w.ctx.Err()
	}
}
