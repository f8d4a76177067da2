package limits_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	deliveryv1 "github.com/mmrelay/mmrelay/gen/mmr/delivery/v1"
	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/redistest"
)

const (
	flooders   = 4                    // connections of hubs
	floodBatch = 28                   // envelopes of a batch
	floodSize  = 128 << 10            // bytes of an envelope: a batch is just below the peers' message limit
	floodPart  = 256 * mib            // what is delivered before memory is looked at first
	boxEntries = 200                  // of the mailbox
	boxBytes   = boxEntries * 1 << 16 // which is full after half of that many envelopes
)

// floodNeeds is what a relay needs at most while hubs flood one mailbox: each stream
// has a message under way and one read ahead, of 4 MiB each, and all that once more
// while it is decoded; the listener a page of 4 MiB, in both forms. Pebble has its
// block cache and its memtables besides. The relay is told to keep to it, so that
// what the garbage collector would let lie about hides nothing.
func floodNeeds(empty int64, backend string) int64 {
	const message = 4 * mib
	n := empty + flooders*4*message + 2*message
	if backend == "pebble" {
		n += (64 + 3*64) * mib
	}
	return n
}

// floodSlack is what a process has resident besides: its program, and what the
// runtime cannot give back at once.
const floodSlack = 48 * mib

// TestMailboxFlood: hubs that deliver without end to one mailbox, which is full,
// or whose listener reads nothing, or is slow, cost the relay a bounded memory: it
// does not grow with what was delivered.
func TestMailboxFlood(t *testing.T) {
	for _, backend := range []string{"pebble", "redis"} {
		t.Run(backend, func(t *testing.T) {
			store := "pebble:" + t.TempDir()
			if backend == "redis" {
				store = redistest.Start(t, redistest.Options{}).URL()
			}
			needs := floodNeeds(24*mib, backend)
			t.Setenv("GOMEMLIMIT", strconv.FormatInt(needs, 10))
			bound := needs + floodSlack
			p := startProvider(t, store, "--queue-entries", strconv.Itoa(boxEntries), "--queue-bytes", strconv.Itoa(boxBytes))
			for _, x := range []struct {
				name   string
				listen func(context.Context, *testing.T, *provider, *mailbox)
			}{{"nobody listens", nil}, {"reads nothing", readNothing}, {"reads slowly", readSlowly}} {
				t.Run(x.name, func(t *testing.T) {
					box := p.mailboxes(t, 1)[0]
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if x.listen != nil {
						x.listen(ctx, t, p, box)
					}
					p.flood(t, box, floodPart)
					_, first := p.memory(t)
					p.flood(t, box, 3*floodPart)
					now, peak := p.memory(t)
					t.Logf("delivered %d MiB: at most %d MiB resident; delivered %d MiB: at most %d (now %d); %d are allowed", floodPart/mib, first/mib, 4*floodPart/mib, peak/mib, now/mib, bound/mib)
					if peak > bound {
						t.Errorf("the relay had %d MiB, %d are allowed", peak/mib, bound/mib)
					}
					if st := p.stat(t, box); st.GetEntries() > boxEntries || st.GetEntries()*floodSize > boxBytes || st.GetDropped() == 0 {
						t.Errorf("the mailbox has %d envelopes and refused %d", st.GetEntries(), st.GetDropped())
					}
				})
			}
		})
	}
}

// flood delivers that many bytes to a mailbox, over several connections at once.
func (p *provider) flood(t *testing.T, box *mailbox, bytes int) {
	t.Helper()
	items := make([]*mailbox, floodBatch)
	for i := range items {
		items[i] = box
	}
	eg, ctx := errgroup.WithContext(t.Context())
	for i := range flooders {
		conn := p.hubs[i]
		eg.Go(func() error {
			s, err := deliveryv1.NewDeliveryServiceClient(conn).Deliver(ctx)
			if err != nil {
				return err
			}
			for sent := 0; sent < bytes/flooders; sent += floodBatch * floodSize {
				if err := send(s, floodSize, items...); err != nil {
					return err
				}
			}
			return s.CloseSend()
		})
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
}

// readNothing listens and never reads, so that flow control stops the relay.
func readNothing(ctx context.Context, t *testing.T, p *provider, box *mailbox) {
	t.Helper()
	if _, err := listenTo(ctx, p.dial(t, "addr"), box); err != nil {
		t.Fatal(err)
	}
}

// readSlowly reads a page and acknowledges it, ten times a second, so that there
// is always room for some.
func readSlowly(ctx context.Context, t *testing.T, p *provider, box *mailbox) {
	t.Helper()
	s, err := listenTo(ctx, p.dial(t, "addr"), box)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with ctx
		for {
			res, err := s.Recv()
			if err != nil {
				return
			}
			es := res.GetBatch().GetEntries()
			if len(es) == 0 {
				continue
			}
			ack := &relayv1.ListenRequest{Message: &relayv1.ListenRequest_Ack{Ack: &relayv1.ListenAck{UpTo: es[len(es)-1].GetId()}}}
			if s.Send(ack) != nil {
				return
			}
			time.Sleep(100 * time.Millisecond) // that it is slow is the point
		}
	}()
}
