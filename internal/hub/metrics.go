package hub

import "github.com/prometheus/client_golang/prometheus"

// metrics of a hub. Labels come from closed sets; there is no series per room,
// destination or member.
type metrics struct {
	events  *prometheus.CounterVec
	sent    *prometheus.CounterVec
	dropped *prometheus.CounterVec
	swept   prometheus.Counter
	rooms   *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		events:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "events_total", Help: "Events accepted by kind."}, []string{"kind"}),
		sent:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "deliveries_total", Help: "Envelopes sent to relays by answer."}, []string{"status"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "envelopes_dropped_total", Help: "Envelopes given up, by reason."}, []string{"reason"}),
		swept:   prometheus.NewCounter(prometheus.CounterOpts{Name: "swept_total", Help: "Accepted events whose hand-over to the outbox a sweep repeated."}),
	}
	m.rooms = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rooms_ended_total", Help: "Rooms that ended: idle ones, and those whose rows are deleted."}, []string{"reason"})
	r.MustRegister(m.events, m.sent, m.dropped, m.swept, m.rooms)
	return m
}
