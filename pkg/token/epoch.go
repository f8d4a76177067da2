package token

import (
	"math"
	"time"
)

// Epoch numbers the weeks of issuer keys: 7-day periods since Monday 1970-01-05
// 00:00 UTC (SPEC.md R-82).
type Epoch uint64

const (
	epochLength = 7 * 24 * 60 * 60
	epochZero   = 4 * 24 * 60 * 60 // Unix seconds of 1970-01-05
)

// EpochOf returns the epoch that t is in; times before epoch 0 are in it.
func EpochOf(t time.Time) Epoch {
	return Epoch(max(t.Unix()-epochZero, 0) / epochLength)
}

// Start returns the first instant of e.
func (e Epoch) Start() time.Time {
	e = min(e, math.MaxUint32) // later than anything, and no overflow
	return time.Unix(int64(e)*epochLength+epochZero, 0).UTC()
}

// Expires returns the instant from which tokens of e are not redeemed any more:
// the end of the epoch after it. Spent sets of e can be dropped then.
func (e Epoch) Expires() time.Time { return (e + 2).Start() }

// ValidAt reports whether tokens of e are issued and redeemed at now: e is the
// current or the previous epoch.
func (e Epoch) ValidAt(now time.Time) bool {
	c := EpochOf(now)
	return e == c || e+1 == c
}
