package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	deliveryv1 "github.com/mmrelay/mmrelay/gen/mmr/delivery/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

const (
	leaseFor     = 15 * time.Second
	maxItems     = 256       // of one batch (SPEC.md R-52)
	batchBytes   = 1_500_000 // below the peer's message limit, unless one envelope is larger
	batchTimeout = 30 * time.Second
	window       = 2048 // entries read ahead of the oldest unfinished one
)

// dispatch delivers one destination's outbox for as long as ctx lives. A lease
// makes it the work of one replica; should two believe they hold it, items are
// sent twice under the same item id and stored once.
func (h *Hub) dispatch(ctx context.Context, domain string) {
	key := kv.Key{Group: "lease", Name: string(outboxID(domain))}
	retry := newBackoff()
	var claim kv.Claim
	for ctx.Err() == nil {
		lease, err := claim.Acquire(ctx, h.cfg.Store, key, h.owner, time.Now(), leaseFor)
		if err != nil {
			sleep(ctx, leaseFor/3)
			continue
		}
		err = h.drain(ctx, domain, key, &lease, retry.Reset)
		// The lease is given up on every way out, also when ctx has ended.
		free, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		_ = kv.Release(free, h.cfg.Store, key, lease) // it ends by itself if this does not work
		cancel()
		if err != nil && ctx.Err() == nil {
			h.log.Warn("delivery interrupted, will be repeated", "err_class", "relay-out-of-reach")
			sleep(ctx, grpcserver.RetryAfter(err)+retry.NextBackOff())
		}
	}
}

// drain opens a stream to the destination and sends what is due until
// something fails or the lease is lost. lease is the one last held.
func (h *Hub) drain(ctx context.Context, domain string, leaseKey kv.Key, lease *kv.Lease, alive func()) error {
	conn, err := h.cfg.Peers.Conn(peer.Name{Role: peer.Provider, Domain: domain})
	if err != nil {
		return err
	}
	id := outboxID(domain)
	if err := h.cfg.Outbox.Create(ctx, id, outboxLimits); err != nil && !errors.Is(err, queue.ErrExists) {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake, err := h.cfg.Outbox.Watch(ctx, id)
	if err != nil {
		return err
	}
	stream, err := deliveryv1.NewDeliveryServiceClient(conn).Deliver(ctx)
	if err != nil {
		return err
	}
	d := &delivery{h: h, id: id, stream: stream, waiting: make(map[[16]byte]time.Time)}
	renew := time.NewTicker(leaseFor / 3)
	defer renew.Stop()
	poll := time.NewTicker(time.Second)
	defer poll.Stop()
	for {
		if err := d.release(ctx); err != nil {
			return err
		}
		alive()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-renew.C:
			renewed, err := kv.Acquire(ctx, h.cfg.Store, leaseKey, h.owner, time.Now(), leaseFor)
			if err != nil {
				return err
			}
			*lease = renewed
			continue
		case <-poll.C:
		case _, ok := <-wake:
			if !ok {
				return ctx.Err()
			}
		}
		if h.cfg.ReleaseInterval > 0 {
			// Collect what all rooms have until the next tick of a common clock.
			sleep(ctx, time.Until(time.Now().Truncate(h.cfg.ReleaseInterval).Add(h.cfg.ReleaseInterval)))
		}
	}
}

// delivery is the state of one stream.
type delivery struct {
	h       *Hub
	id      queue.ID
	stream  deliveryv1.DeliveryService_DeliverClient
	done    map[queue.Seq]bool     // finished entries beyond the first unfinished one
	waiting map[[16]byte]time.Time // lanes told "later": not before this time
}

// due is an entry that can be sent now.
type due struct {
	seq     queue.Seq
	row     outboxRow
	oneTime bool // to a one-time address
}

// release sends everything that is due. Rows of a lane keep their order and a
// lane has one row in flight: a lane that is told "later" waits, the others go on.
func (d *delivery) release(ctx context.Context) error {
	for {
		batch, more, err := d.collect(ctx)
		if err != nil || len(batch) == 0 {
			return err
		}
		if batch, err = d.withoutStopped(ctx, batch); err != nil {
			return err
		}
		if len(batch) == 0 {
			if err := d.ack(ctx); err != nil {
				return err
			}
			if !more {
				return nil
			}
			continue
		}
		if err := d.address(ctx, batch); err != nil {
			return err
		}
		status, err := d.send(ctx, batch)
		if err != nil {
			return err
		}
		if err := d.settle(ctx, batch, status); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
}

// collect reads the window and picks rows in order, skipping waiting lanes, up
// to a batch; then it shuffles by lane, so that the order within a batch does
// not tell which rows came from one event (SPEC.md R-78).
func (d *delivery) collect(ctx context.Context) (batch []due, more bool, err error) {
	now := time.Now()
	var after queue.Seq
	blocked := make(map[[16]byte]bool)
	size := 0
	for read := 0; read < window; {
		es, err := d.h.cfg.Outbox.Read(ctx, d.id, after, maxItems)
		if err != nil {
			return nil, false, err
		}
		if len(es) == 0 {
			break
		}
		read += len(es)
		for _, e := range es {
			after = e.Seq
			if d.done[e.Seq] {
				continue
			}
			r := codec.NewReader(e.Data)
			row := readOutboxRow(r)
			if r.Done() != nil {
				d.finish(e.Seq) // not written by this program
				continue
			}
			if blocked[row.lane] || now.Before(d.waiting[row.lane]) {
				blocked[row.lane] = true
				continue
			}
			if len(batch) == maxItems || (len(batch) > 0 && size+len(row.envelope) > batchBytes) {
				return shuffle(batch), true, nil
			}
			size += len(row.envelope)
			batch = append(batch, due{seq: e.Seq, row: row})
		}
	}
	return shuffle(batch), false, nil
}

// withoutStopped drops the rows of leaves that are leaving (SPEC.md R-113).
func (d *delivery) withoutStopped(ctx context.Context, batch []due) ([]due, error) {
	stopped, err := d.h.stoppedLanes(ctx, batch)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(batch, func(b due) bool {
		if !stopped[b.row.lane] {
			return false
		}
		d.h.metrics.dropped.WithLabelValues("leaving").Inc()
		d.finish(b.seq)
		return true
	}), nil
}

// send transmits a batch and waits for its answer.
func (d *delivery) send(ctx context.Context, batch []due) ([]byte, error) {
	req := &deliveryv1.DeliverRequest{Items: make([]*deliveryv1.Item, len(batch))}
	for i, b := range batch {
		req.Items[i] = &deliveryv1.Item{ItemId: b.row.itemID[:], KeyId: uint32(b.row.keyID), Sealed: b.row.sealed, Envelope: b.row.envelope}
	}
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	type answer struct {
		res *deliveryv1.DeliverResponse
		err error
	}
	c := make(chan answer, 1)
	go func() { // ends with the stream
		if err := d.stream.Send(req); err != nil {
			_, err = d.stream.Recv() // the status is there
			c <- answer{err: err}
			return
		}
		res, err := d.stream.Recv()
		c <- answer{res, err}
	}()
	select {
	case a := <-c:
		if a.err != nil {
			return nil, a.err
		}
		if len(a.res.GetStatus()) != len(batch) {
			return nil, errors.New("hub: relay answered another number of items")
		}
		return a.res.GetStatus(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// The answers of SPEC.md R-53.
const (
	statusOK    = 0
	statusGone  = 1
	statusBad   = 2
	statusLater = 3
)

// laterFor is how long a lane waits that was told "later".
const laterFor = 5 * time.Second

// settle records what became of a batch and acknowledges the finished prefix.
func (d *delivery) settle(ctx context.Context, batch []due, status []byte) error {
	for i, b := range batch {
		switch status[i] {
		case statusOK:
			d.h.metrics.sent.WithLabelValues("ok").Inc()
			d.finish(b.seq)
		case statusGone, statusBad:
			if b.oneTime {
				if err := d.h.dropSeals(ctx, b.row.lane); err != nil {
					return err
				}
				continue // it is due again
			}
			d.h.metrics.sent.WithLabelValues("gone").Inc()
			d.finish(b.seq)
			if err := d.h.reportGone(ctx, b.row.lane, time.Now()); err != nil {
				return err
			}
		default:
			d.h.metrics.sent.WithLabelValues("later").Inc()
			d.waiting[b.row.lane] = time.Now().Add(laterFor)
		}
	}
	now := time.Now()
	for l, t := range d.waiting {
		if now.After(t) {
			delete(d.waiting, l)
		}
	}
	return d.ack(ctx)
}

func (d *delivery) finish(s queue.Seq) {
	if d.done == nil {
		d.done = make(map[queue.Seq]bool)
	}
	d.done[s] = true
}

// ack acknowledges the longest run of finished entries at the outbox's head.
func (d *delivery) ack(ctx context.Context) error {
	st, err := d.h.cfg.Outbox.Stat(ctx, d.id)
	if err != nil {
		return err
	}
	upTo := st.Acked
	for d.done[upTo+1] {
		upTo++
		delete(d.done, upTo)
	}
	if upTo == st.Acked {
		return nil
	}
	return d.h.cfg.Outbox.Ack(ctx, d.id, upTo)
}
