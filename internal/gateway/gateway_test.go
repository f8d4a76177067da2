package gateway

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// TestForgetful: a gateway whose memory of requests began with its process
// refuses those from before (SPEC.md R-65); one that remembers does not.
func TestForgetful(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)
	request := func(at time.Time) []byte {
		t.Helper()
		r := &seal.Request{Audience: "hub:hub.example", Method: "m", Timestamp: seal.Timestamp(at), Auth: seal.RequestAuth{Kind: seal.AuthNone}}
		b, err := r.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name  string
		began time.Time
		at    time.Time
		want  error
	}{
		{"remembers", time.Time{}, now.Add(-90 * time.Second), nil},
		{"from before", now.Add(-time.Second), now.Add(-90 * time.Second), mmrerr.Stale},
		{"from since", now.Add(-100 * time.Second), now.Add(-90 * time.Second), nil},
		{"of the same thirty seconds", now.Add(-time.Second), now, nil},
		{"too old for all", time.Time{}, now.Add(-10 * time.Minute), mmrerr.Stale},
	} {
		t.Run(c.name, func(t *testing.T) {
			served := 0
			g := New(Config{
				Audience: "hub:hub.example", Replay: kv.NewMemory(), ForgetsSince: c.began, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
				Methods: map[string]Method{"m": {Handle: func(context.Context, *Call) ([]byte, error) { served++; return nil, nil }}},
			})
			_, _, err := g.serve(t.Context(), request(c.at), [16]byte{1}, now)
			if !errors.Is(err, c.want) || (served == 1) != (c.want == nil) {
				t.Errorf("served %d times, error %v, want %v", served, err, c.want)
			}
		})
	}
}
