package kv

import (
	"context"
	"encoding/binary"
	"errors"
	"time"
)

// ErrLeased reports that somebody else holds the lease.
var ErrLeased = errors.New("kv: lease is held by another owner")

// Lease is a claim on a name for a time. Fence rises with every new holder, so
// that what an old holder still sends can be told from what the new one sends.
type Lease struct {
	Fence   uint64
	Version Version
}

// Acquire takes or renews the lease under key for owner (1 to 64 opaque bytes,
// different for every process) until ttl from now. ErrLeased if another owner
// holds it. A holder that renews keeps its fencing number.
//
// The record outlives the lease by a day, so that fencing numbers go on rising.
func Acquire(ctx context.Context, s Store, key Key, owner string, now time.Time, ttl time.Duration) (Lease, error) {
	r, err := s.Get(ctx, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Lease{}, err
	}
	fence, until, holder := parseLease(r.Value)
	if holder != owner {
		if holder != "" && now.Before(until) {
			return Lease{}, ErrLeased
		}
		fence++
	}
	v, err := Put(ctx, s, key, r.Version, formatLease(fence, now.Add(ttl), owner), ttl+24*time.Hour)
	if errors.Is(err, ErrConflict) {
		return Lease{}, ErrLeased
	}
	if err != nil {
		return Lease{}, err
	}
	return Lease{Fence: fence, Version: v}, nil
}

// Release gives a lease up, so that the next owner need not wait for its end.
// Releasing a lease that was lost changes nothing.
func Release(ctx context.Context, s Store, key Key, l Lease) error {
	_, err := s.Apply(ctx, []Op{{Key: key, Value: formatLease(l.Fence, time.Unix(0, 0), ""), TTL: 24 * time.Hour, Check: true, Old: l.Version}})
	if errors.Is(err, ErrConflict) {
		return nil
	}
	return err
}

func formatLease(fence uint64, until time.Time, owner string) []byte {
	b := binary.BigEndian.AppendUint64(nil, fence)
	b = binary.BigEndian.AppendUint64(b, uint64(until.UnixMilli()))
	return append(b, owner...)
}

func parseLease(b []byte) (fence uint64, until time.Time, owner string) {
	if len(b) < 16 {
		return 0, time.Time{}, ""
	}
	return binary.BigEndian.Uint64(b), time.UnixMilli(int64(binary.BigEndian.Uint64(b[8:]))), string(b[16:])
}
