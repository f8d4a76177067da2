package hub

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// shuffle orders a batch by lanes in random order; rows of a lane keep theirs.
func shuffle(batch []due) []due {
	order := make(map[[16]byte]uint64)
	for _, b := range batch {
		if _, ok := order[b.row.lane]; !ok {
			var x [8]byte
			_, _ = rand.Read(x[:]) // never fails
			order[b.row.lane] = binary.BigEndian.Uint64(x[:])
		}
	}
	slices.SortStableFunc(batch, func(a, b due) int { return cmp.Compare(order[a.row.lane], order[b.row.lane]) })
	return batch
}

// newBackoff is the pace of attempts to reach a relay that does not answer.
func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 200 * time.Millisecond
	b.MaxInterval = 30 * time.Second
	return b
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
