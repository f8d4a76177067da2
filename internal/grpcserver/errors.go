package grpcserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// grpcCode maps the codes of SPEC.md §19 to gRPC codes. Whatever is not listed
// is a request the server will never accept as it is.
var grpcCode = map[mmrerr.Code]codes.Code{
	mmrerr.RateLimited:   codes.ResourceExhausted,
	mmrerr.Unavailable:   codes.Unavailable,
	mmrerr.TokenRequired: codes.Unauthenticated,
	mmrerr.TokenInvalid:  codes.Unauthenticated,
	mmrerr.TokenSpent:    codes.Unauthenticated,
	mmrerr.NoConsent:     codes.PermissionDenied,
	mmrerr.NoRoom:        codes.PermissionDenied,
	mmrerr.TooLarge:      codes.OutOfRange,
}

// StatusFrom is the one place where an error becomes a gRPC status. Errors with
// an mmrerr.Code cross the wire with that code as a detail and its name as
// text; everything else is "internal error" and is logged by class only.
func StatusFrom(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return status.Error(codes.Canceled, "cancelled")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return status.Error(codes.DeadlineExceeded, "deadline exceeded")
	}
	if m, ok := mmrerr.Of(err); ok {
		c, ok := grpcCode[m]
		if !ok {
			c = codes.InvalidArgument
		}
		return withCode(c, m.String(), m)
	}
	if f, ok := errors.AsType[*FieldError](err); ok {
		return withCode(codes.InvalidArgument, f.Error(), mmrerr.Malformed)
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Internal, "internal error")
}

// retryAfter is when somebody who came too often or at a bad time may try again:
// a constant, since how full the server is is nobody's business.
const retryAfter = time.Second

func withCode(c codes.Code, text string, m mmrerr.Code) error {
	s := status.New(c, text)
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(&typesv1.Error{Code: uint32(m)})}
	if m == mmrerr.RateLimited {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)}))
	}
	if d, err := s.WithDetails(details...); err == nil {
		s = d
	}
	return s.Err()
}

// CodeOf returns the mmr code a status carries, or OK if it carries none.
func CodeOf(err error) mmrerr.Code {
	for _, d := range status.Convert(err).Details() {
		if e, ok := d.(*typesv1.Error); ok {
			return mmrerr.Code(e.GetCode())
		}
	}
	return mmrerr.OK
}

// RetryAfter returns how long the refusal of a peer asks to stay away, within a
// minute; 0 if it does not ask.
func RetryAfter(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return min(max(r.GetRetryDelay().AsDuration(), 0), time.Minute)
		}
	}
	return 0
}

// FieldError refuses a request because of one field. Its text names the field
// and the rule, never the value.
type FieldError struct {
	Field string // as in the .proto file
	Rule  string // e.g. "must be 16 bytes"
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Rule) }

// errClass names an internal error for the log by where it comes from.
func errClass(err error) string {
	switch {
	case errors.Is(err, kv.ErrClosed), errors.Is(err, queue.ErrClosed):
		return "store-closed"
	case errors.Is(err, kv.ErrConflict):
		return "store-conflict"
	case errors.Is(err, kv.ErrInvalid), errors.Is(err, queue.ErrInvalid):
		return "store-argument"
	case errors.Is(err, kv.ErrNotFound), errors.Is(err, queue.ErrNotFound):
		return "store-missing"
	default:
		return fmt.Sprintf("%T", rootCause(err))
	}
}

func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
