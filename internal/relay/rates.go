package relay

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// rates limits accounts: a token bucket per account, with half a minute's
// allowance as burst. Idle buckets are full, so they are forgotten.
type rates struct {
	perMinute int

	mu    sync.Mutex // guards all below
	by    map[string]*rate.Limiter
	swept time.Time
}

func newRates(perMinute int) *rates {
	return &rates{perMinute: perMinute, by: make(map[string]*rate.Limiter), swept: time.Now()}
}

func (r *rates) allow(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.swept) > time.Minute {
		r.swept = now
		for k, l := range r.by {
			if l.TokensAt(now) >= float64(l.Burst()) {
				delete(r.by, k)
			}
		}
	}
	l := r.by[key]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(float64(r.perMinute)/60), max(r.perMinute/2, 1))
		r.by[key] = l
	}
	return l.Allow()
}
