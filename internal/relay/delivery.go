package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	deliveryv1 "github.com/mmrelay/mmrelay/gen/mmr/delivery/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// The answers of SPEC.md R-53.
const (
	statusOK    = 0
	statusGone  = 1
	statusBad   = 2
	statusLater = 3
)

var statusNames = [...]string{"ok", "gone", "bad", "later"}

// maxBatch is the most items of one batch (SPEC.md R-52).
const maxBatch = 256

// DeliveryService implements mmr.delivery.v1.DeliveryService (SPEC.md ).
type DeliveryService struct {
	deliveryv1.UnimplementedDeliveryServiceServer
	r *Relay
}

// Deliver implements the service. The answer of a batch is sent when everything
// in it is stored, and not before the minimum latency: it must not tell a full
// mailbox, a blocked handle or a listening client from any other. A relay that
// stops ends the stream between two batches, so that the hub goes to another
// replica at once.
func (s *DeliveryService) Deliver(stream deliveryv1.DeliveryService_DeliverServer) error {
	domain, ok := peer.DomainOf(stream.Context())
	if !ok || !s.r.cfg.Peers.Has(peer.Name{Role: peer.Hub, Domain: domain}) {
		return mmrerr.NoConsent
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	reqs, failed := receive(ctx, stream)
	for {
		var req *deliveryv1.DeliverRequest
		select {
		case <-s.r.stopping:
			return mmrerr.Unavailable
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case req = <-reqs:
		}
		if n := len(req.GetItems()); n == 0 || n > maxBatch {
			return &grpcserver.FieldError{Field: "items", Rule: "must hold 1 to 256 items"}
		}
		status, err := s.atLeast(stream.Context(), func(ctx context.Context) ([]byte, error) {
			return s.r.deliver(ctx, domain, req.GetItems())
		})
		if err != nil {
			return err
		}
		for _, st := range status {
			s.r.metrics.delivered.WithLabelValues(statusNames[st]).Inc()
		}
		if err := stream.Send(&deliveryv1.DeliverResponse{Status: status}); err != nil {
			return err
		}
	}
}

// receive reads the stream until it ends, one batch ahead, for callers that wait
// for something else too. It gives up when ctx ends.
func receive(ctx context.Context, stream deliveryv1.DeliveryService_DeliverServer) (<-chan *deliveryv1.DeliverRequest, <-chan error) {
	reqs, failed := make(chan *deliveryv1.DeliverRequest), make(chan error, 1)
	go func() {
		for {
			req, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case reqs <- req:
			case <-ctx.Done():
				return
			}
		}
	}()
	return reqs, failed
}

// atLeast runs f and waits until the minimum latency has passed.
func (s *DeliveryService) atLeast(ctx context.Context, f func(context.Context) ([]byte, error)) ([]byte, error) {
	t := time.NewTimer(s.r.cfg.DeliverLatency)
	defer t.Stop()
	status, err := f(ctx)
	select {
	case <-t.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return status, err
}

// deliver stores a batch and returns one status per item.
func (r *Relay) deliver(ctx context.Context, hub string, items []*deliveryv1.Item) ([]byte, error) {
	status := make([]byte, len(items))
	batch := make([]queue.Append, 0, len(items))
	at := make([]int, 0, len(items)) // batch index -> item index
	late := make(map[queue.ID]bool)  // nothing may overtake what comes again (SPEC.md R-52)
	now := time.Now()
	for i, it := range items {
		q, ok := r.open(it, now)
		if !ok {
			status[i] = statusBad
			continue
		}
		id := queue.ID(q.QueueID[:])
		if late[id] {
			status[i] = statusLater
			continue
		}
		f, day, err := r.fateOf(ctx, q)
		switch {
		case err != nil:
			status[i], late[id] = statusLater, true
		case f == gone:
			status[i] = r.goneStatus(it.GetSealed(), day, now)
		case f == drop:
			status[i] = statusOK
		default:
			batch = append(batch, queue.Append{Queue: id, Entry: it.GetEnvelope(), Dedup: dedupKey(hub, it.GetItemId())})
			at = append(at, i)
		}
	}
	full := make(map[queue.ID]bool)
	rs, err := r.cfg.Queues.AppendBatch(ctx, batch)
	if err != nil {
		for _, i := range at {
			status[i] = statusLater
		}
		return status, nil
	}
	for j, res := range rs {
		switch {
		case res.Err == nil, errors.Is(res.Err, queue.ErrFull):
			if res.Err == nil {
				r.push.add(batch[j].Queue)
			} else {
				full[batch[j].Queue] = true
			}
			status[at[j]] = statusOK // full: the owner sees it, the hub does not (SPEC.md R-53)
		case errors.Is(res.Err, queue.ErrNotFound):
			status[at[j]] = r.missingStatus(ctx, batch[j].Queue, items[at[j]].GetSealed(), now)
		case errors.Is(res.Err, queue.ErrInvalid):
			status[at[j]] = statusBad
		default:
			status[at[j]] = statusLater
		}
	}
	for id := range full { // who listens is told at once that something was refused
		if err := r.cfg.Queues.Wake(ctx, id); err != nil {
			r.cfg.Logger.Warn("a listener was not told of a full mailbox", "err_class", "store")
		}
	}
	return status, nil
}

// open checks an item's form and opens its address, from the cache if it can.
func (r *Relay) open(it *deliveryv1.Item, now time.Time) (seal.QueueConfig, bool) {
	if len(it.GetItemId()) != 16 || it.GetKeyId() > 255 || !primitive.IsBucket(len(it.GetEnvelope())) {
		return seal.QueueConfig{}, false
	}
	if _, err := seal.EnvelopeForm(it.GetEnvelope()); err != nil {
		return seal.QueueConfig{}, false
	}
	id := uint8(it.GetKeyId())
	key, ok := r.cfg.Keys.QueueKey(id, now)
	if !ok {
		return seal.QueueConfig{}, false
	}
	digest := sealKey(id, it.GetSealed())
	q, hit := r.seals.get(digest)
	if !hit {
		var err error
		if q, err = seal.OpenQueue(key, r.cfg.Domain, id, it.GetSealed()); err != nil {
			r.metrics.sealCache.WithLabelValues("bad").Inc()
			return seal.QueueConfig{}, false
		}
		r.seals.put(digest, q)
		r.metrics.sealCache.WithLabelValues("miss").Inc()
	} else {
		r.metrics.sealCache.WithLabelValues("hit").Inc()
	}
	return q, seal.Day(now) <= q.NotAfterDay
}

// goneStatus answers for a deleted mailbox: ok until a number of days has
// passed that differs per address, so that a hub cannot see that addresses in
// several rooms disappear together (SPEC.md R-53).
func (r *Relay) goneStatus(sealed []byte, day uint32, now time.Time) byte {
	prf := primitive.HMAC(r.cfg.Keys.DelayKey(), sealed)
	delay := 1 + binary.BigEndian.Uint32(prf[:4])%14
	if seal.Day(now) < day+delay {
		return statusOK
	}
	return statusGone
}

// missingStatus answers for an address that opens and names no queue. Either the
// mailbox was deleted since its fate was looked up, and is answered for like any
// deleted one; or it is beyond memory, and its client long gone.
func (r *Relay) missingStatus(ctx context.Context, id queue.ID, sealed []byte, now time.Time) byte {
	switch f, day, err := r.fateOf(ctx, seal.QueueConfig{QueueID: [queueIDSize]byte([]byte(id))}); {
	case err != nil:
		return statusLater
	case f == gone:
		return r.goneStatus(sealed, day, now)
	}
	return statusGone
}

// dedupKey keeps hubs from disturbing each other: item ids are per peer.
func dedupKey(hub string, itemID []byte) []byte {
	h := primitive.Hash([]byte(hub), []byte{0}, itemID)
	return h[:16]
}
