// Package redact is the last line of defence of the logs: a slog.Handler that
// lets only a closed list of attribute keys through. What mmrelay logs is a
// security property: no identifier of a person, room, queue or peer may appear
// (STYLE.md rule 4), so a key that nobody has argued for is dropped.
package redact

import (
	"context"
	"io"
	"log/slog"
	"slices"
)

// Keys is the closed list of attribute keys. None of their values depends on
// who the users are: methods, codes and classes are constants of the program,
// durations are buckets, addresses are the daemon's own.
var Keys = []string{
	"backend",    // storage backend: memory, pebble, redis
	"code",       // gRPC or mmr code
	"component",  // part of the daemon
	"count",      // number of things a maintenance job handled
	"dur_bucket", // duration rounded up to a power of ten
	"err_class",  // class of an internal error, never its text
	"listen",     // the daemon's own listening address
	"method",     // full gRPC method
	"reason",     // constant text
	"signal",     // name of the signal received
	"version",    // the build
}

// Handler drops every attribute whose key is not in Keys, and all groups.
type Handler struct{ next slog.Handler }

var _ slog.Handler = (*Handler)(nil)

// NewLogger returns a logger that writes JSON lines to w through a Handler.
func NewLogger(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})))
}

// New wraps next.
func New(next slog.Handler) *Handler { return &Handler{next} }

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if allowed(a) {
			out.AddAttrs(a)
		}
		return true
	})
	return h.next.Handle(ctx, out)
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(as []slog.Attr) slog.Handler {
	return &Handler{h.next.WithAttrs(slices.DeleteFunc(slices.Clone(as), func(a slog.Attr) bool { return !allowed(a) }))}
}

// WithGroup implements slog.Handler. Groups are not used: they would hide keys
// from the list.
func (h *Handler) WithGroup(string) slog.Handler { return h }

func allowed(a slog.Attr) bool {
	return a.Value.Kind() != slog.KindGroup && slices.Contains(Keys, a.Key)
}
