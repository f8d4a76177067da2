package client

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

const (
	// maxRetryAfter bounds the time that a service can ask a client to stay away.
	maxRetryAfter = time.Minute
	// limitedFor is how long a client stays away that came too often and was not told
	// for how long: refusals inside an encapsulated response have no room for it.
	limitedFor = time.Second
)

// interval is a backoff that is never shorter than what a service asked for. The
// jittered interval comes on top, so that clients which were refused together do
// not come back together.
type interval struct {
	backoff.BackOff
	asked time.Duration
}

func newInterval(first, longest time.Duration) *interval {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = first, longest
	return &interval{BackOff: b}
}

// NextBackOff implements backoff.BackOff.
func (p *interval) NextBackOff() time.Duration { return p.asked + p.BackOff.NextBackOff() }

// after returns how long to wait after a failure.
func (p *interval) after(err error) time.Duration {
	p.asked = retryAfter(err)
	return p.NextBackOff()
}

// retryAfter returns how long a refusal asks to stay away, within bounds; 0 if it
// does not ask.
func retryAfter(err error) time.Duration {
	if s, ok := status.FromError(err); ok {
		for _, d := range s.Details() {
			if r, ok := d.(*errdetails.RetryInfo); ok {
				return min(max(r.GetRetryDelay().AsDuration(), 0), maxRetryAfter)
			}
		}
	}
	if c, _ := mmrerr.Of(err); c == mmrerr.RateLimited {
		return limitedFor
	}
	return 0
}

// retry repeats f with backoff and jitter while what fails may pass, for about max
// in all: it does not begin to wait for what would come later.
func retry[T any](ctx context.Context, max time.Duration, f func() (T, error)) (T, error) {
	p := newInterval(100*time.Millisecond, 5*time.Second)
	res, err := backoff.Retry(ctx, func() (T, error) {
		v, err := f()
		p.asked = retryAfter(err)
		if err != nil && !passing(err) {
			if _, ok := errors.AsType[*backoff.PermanentError](err); !ok {
				err = backoff.Permanent(err)
			}
		}
		return v, err
	}, backoff.WithBackOff(p), backoff.WithMaxElapsedTime(max))
	if p, ok := errors.AsType[*backoff.PermanentError](err); ok {
		err = p.Unwrap()
	}
	return res, err
}

// passing reports whether an error may go away by itself.
func passing(err error) bool {
	if _, ok := errors.AsType[*backoff.PermanentError](err); ok {
		return false
	}
	if c, ok := mmrerr.Of(err); ok {
		return c == mmrerr.Unavailable || c == mmrerr.RateLimited || c == mmrerr.Stale
	}
	if c := codeOf(err); c != mmrerr.OK {
		return c == mmrerr.Unavailable || c == mmrerr.RateLimited || c == mmrerr.Malformed || c == mmrerr.Replay
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.Internal: // the last one of a service whose store fails
		return true
	}
	return false
}

// codeOf returns the mmr code that a gRPC status carries, or OK.
func codeOf(err error) mmrerr.Code {
	s, ok := status.FromError(err)
	if !ok {
		return mmrerr.OK
	}
	for _, d := range s.Details() {
		if e, ok := d.(*typesv1.Error); ok {
			return mmrerr.Code(e.GetCode())
		}
	}
	return mmrerr.OK
}
