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
	return new(Claim).Acquire(ctx, s, key, owner, now, ttl)
}

// Claim is who waits for one lease and tries again and again. It takes over from a
// holder that has not renewed for ttl by the clock of who waits: the end that the
// holder wrote is by its own, which may have been wrong by hours. The zero value is
// ready; it is not for concurrent use.
type Claim struct {
	seen  Version   // of the other holder's record
	since time.Time // when that was first seen
}

// Acquire is the function Acquire, with what was seen before.
func (c *Claim) Acquire(ctx context.Context, s Store, key Key, owner string, now time.Time, ttl time.Duration) (Lease, error) {
	r, err := s.Get(ctx, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Lease{}, err
	}
	fence, until, holder := parseLease(r.Value)
	if holder != owner {
		if holder != "" && now.Before(until) && !c.outlasted(r.Version, now, ttl) {
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

// outlasted reports whether the record has been the same for as long as a lease
// lasts.
func (c *Claim) outlasted(v Version, now time.Time, ttl time.Duration) bool {
	if c.seen != v || c.since.IsZero() {
		c.seen, c.since = v, now
	}
	return now.Sub(c.since) >= ttl
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
