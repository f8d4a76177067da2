package relay

import "github.com/prometheus/client_golang/prometheus"

// metrics of a relay. Labels come from closed sets; there is no series per
// mailbox, user, hub or target.
type metrics struct {
	listeners prometheus.Gauge
	delivered *prometheus.CounterVec
	forwarded *prometheus.CounterVec
	sealCache *prometheus.CounterVec
	tokens    prometheus.Counter
	pushes    *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		listeners: prometheus.NewGauge(prometheus.GaugeOpts{Name: "listeners", Help: "Mailboxes being listened to."}),
		delivered: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "delivered_total", Help: "Envelopes from hubs by answer."}, []string{"status"}),
		forwarded: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "forwarded_total", Help: "Requests forwarded for clients by result."}, []string{"result"}),
		sealCache: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "seal_cache_total", Help: "Sealed addresses looked up in the cache by result."}, []string{"result"}),
		tokens:    prometheus.NewCounter(prometheus.CounterOpts{Name: "tokens_issued_total", Help: "Blind signatures issued."}),
	}
	m.pushes = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "push_requests_total", Help: "Requests to the push webhook by result."}, []string{"result"})
	r.MustRegister(m.listeners, m.delivered, m.forwarded, m.sealCache, m.tokens, m.pushes)
	return m
}
