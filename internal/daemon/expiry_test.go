package daemon

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mmrelay/mmrelay/internal/keys"
	"github.com/mmrelay/mmrelay/internal/redact"
)

// TestExpiry asserts that the end of a certificate shows, and is warned of in time,
// once a day.
func TestExpiry(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	if err := keys.Generate(dir, keys.Hub, "hub.example", nil, now); err != nil {
		t.Fatal(err)
	}
	ks, err := keys.Load(dir, keys.Hub, "hub.example")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	b := &base{keys: ks, registry: prometheus.NewRegistry(), log: redact.NewLogger(&log, 0)}
	e := newExpiries(b)
	look := func(at time.Duration, want int) {
		t.Helper()
		log.Reset()
		if err := e.look(now.Add(at)); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "expires soon"); n != want {
			t.Errorf("after %v: %d warnings: %s", at, n, log.String())
		}
	}
	const day = 24 * time.Hour
	look(0, 0)
	families, err := b.registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	ends := make(map[string]time.Duration)
	for _, m := range families[0].GetMetric() {
		ends[m.GetLabel()[0].GetValue()] = time.Unix(int64(m.GetGauge().GetValue()), 0).Sub(now)
	}
	if ends["tls"] < 390*day || ends["tls"] > 400*day || len(ends) != 4 {
		t.Errorf("shown are %v", ends)
	}
	look(360*day, 0)
	look(380*day, 1)
	look(380*day+time.Hour, 0)
	look(381*day, 1)
	look(500*day, 1) // over
}
