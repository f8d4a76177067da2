package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// expiryWarning is how long before its end a certificate is warned of.
const expiryWarning = 30 * 24 * time.Hour

// expiries shows when the certificates of the key directory end: as a metric, and
// once a day in the log if one is near its end.
type expiries struct {
	b      *base
	gauge  *prometheus.GaugeVec
	warned time.Time
}

func newExpiries(b *base) *expiries {
	e := &expiries{b: b, gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mmr_certificate_expiration_timestamp_seconds", Help: "Unix time at which a certificate of the key directory expires.",
	}, []string{"certificate"})}
	b.registry.MustRegister(e.gauge)
	return e
}

// look reads the certificates.
func (e *expiries) look(now time.Time) error {
	xs, err := e.b.keys.Expiries()
	if err != nil {
		return err
	}
	warn := now.Sub(e.warned) >= 24*time.Hour
	for _, x := range xs {
		e.gauge.WithLabelValues(x.Name).Set(float64(x.NotAfter.Unix()))
		if left := x.NotAfter.Sub(now); warn && left < expiryWarning {
			e.warned = now
			e.b.log.Warn("certificate expires soon, in count days; renew it with mmr keygen renew", "component", x.Name, "count", max(0, int(left.Hours()/24)))
		}
	}
	return nil
}
