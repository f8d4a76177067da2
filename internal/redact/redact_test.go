package redact_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/internal/redact"
)

func TestOnlyListedKeys(t *testing.T) {
	var b bytes.Buffer
	l := redact.NewLogger(&b, slog.LevelInfo)
	l.With("user", "alice").WithGroup("g").Info("hello", "method", "/x/Y", "queue_id", "secret-queue", slog.Group("method", "peer", "10.0.0.1"))
	got := b.String()
	if !strings.Contains(got, `"method":"/x/Y"`) {
		t.Errorf("a listed key was dropped: %s", got)
	}
	for _, s := range []string{"alice", "secret-queue", "10.0.0.1"} {
		if strings.Contains(got, s) {
			t.Errorf("%q reached the log: %s", s, got)
		}
	}
}
