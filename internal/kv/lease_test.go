package kv_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// TestClaimOutlastsWrongClock: a holder whose clock was hours ahead, and which is
// gone, keeps others waiting for as long as a lease lasts, and no longer; one that
// renews keeps it, whatever its clock says.
func TestClaimOutlastsWrongClock(t *testing.T) {
	t.Parallel()
	const ttl = 15 * time.Second
	ctx, s, key := t.Context(), kv.NewMemory(), kv.Key{Group: "lease", Name: "l"}
	start := time.Now()
	ahead := func(at time.Duration) time.Time { return start.Add(at + 3*time.Hour) }
	held, err := kv.Acquire(ctx, s, key, "ahead", ahead(0), ttl)
	if err != nil {
		t.Fatal(err)
	}
	var claim kv.Claim
	for at := time.Duration(0); at < time.Minute; at += ttl / 3 { // it renews
		if _, err := kv.Acquire(ctx, s, key, "ahead", ahead(at), ttl); err != nil {
			t.Fatal(err)
		}
		if _, err := claim.Acquire(ctx, s, key, "waiting", start.Add(at), ttl); !errors.Is(err, kv.ErrLeased) {
			t.Fatalf("taken from a holder that renews, after %v: %v", at, err)
		}
	}
	last := start.Add(time.Minute - ttl/3) // when its last renewal was seen
	if _, err := claim.Acquire(ctx, s, key, "waiting", last.Add(ttl-1), ttl); !errors.Is(err, kv.ErrLeased) {
		t.Errorf("taken before the lease can have ended: %v", err)
	}
	taken, err := claim.Acquire(ctx, s, key, "waiting", last.Add(ttl), ttl)
	if err != nil {
		t.Fatalf("not taken from a holder that has been gone for a lease's time: %v", err)
	}
	if taken.Fence <= held.Fence {
		t.Errorf("fencing number %d after %d", taken.Fence, held.Fence)
	}
	if _, err := kv.Acquire(ctx, s, key, "ahead", last.Add(ttl), ttl); !errors.Is(err, kv.ErrLeased) {
		t.Errorf("the old holder renews: %v", err)
	}
}
