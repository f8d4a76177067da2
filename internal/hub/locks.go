package hub

import (
	"hash/maphash"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// locks serialises the requests of one room within this process, so that they
// rarely collide at the store's compare-and-swap, which decides.
type locks struct {
	seed   maphash.Seed
	shards [256]sync.Mutex
}

func newLocks() *locks { return &locks{seed: maphash.MakeSeed()} }

func (l *locks) lock(groupID []byte) (unlock func()) {
	m := &l.shards[maphash.Bytes(l.seed, groupID)%uint64(len(l.shards))]
	m.Lock()
	return m.Unlock
}

// rates holds the token buckets of leaves, by room and leaf index.
type rates struct {
	cfg Rates

	mu sync.Mutex // guards by
	by map[string]*leafRate
}

type leafRate struct{ requests, commits *rate.Limiter }

// maxRates bounds the table; when it is full the buckets that have refilled go.
const maxRates = 100_000

func newRates(cfg Rates) *rates { return &rates{cfg: cfg, by: make(map[string]*leafRate)} }

func (r *rates) allow(groupID []byte, leaf uint32, commit bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := string(groupID) + strconv.FormatUint(uint64(leaf), 10)
	l := r.by[key]
	if l == nil {
		if len(r.by) >= maxRates {
			for k, x := range r.by {
				if x.requests.Tokens() >= float64(x.requests.Burst()) {
					delete(r.by, k)
				}
			}
		}
		l = &leafRate{
			requests: rate.NewLimiter(rate.Limit(float64(r.cfg.Requests)/60), r.cfg.Requests),
			commits:  rate.NewLimiter(rate.Limit(float64(r.cfg.Commits)/60), r.cfg.Commits),
		}
		r.by[key] = l
	}
	return l.requests.Allow() && (!commit || l.commits.Allow())
}

// keyRates limits requests by a key: by code per room (SPEC.md R-125), resyncs
// per client.
type keyRates struct {
	n   int
	per time.Duration

	mu sync.Mutex // guards by
	by map[string]*rate.Limiter
}

func newKeyRates(n int, per time.Duration) *keyRates {
	return &keyRates{n: n, per: per, by: make(map[string]*rate.Limiter)}
}

// makeRoom forgets the buckets that have refilled, and if those are few, some
// others: whoever fills the table cannot refill one bucket at will.
func (c *keyRates) makeRoom() {
	for k, l := range c.by {
		if l.Tokens() >= float64(l.Burst()) {
			delete(c.by, k)
		}
	}
	for k := range c.by { // in random order
		if len(c.by) <= maxRates*15/16 {
			return
		}
		delete(c.by, k)
	}
}

// Allow takes one from the key's allowance.
func (c *keyRates) Allow(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.by[key]
	if l == nil {
		if len(c.by) >= maxRates {
			c.makeRoom()
		}
		l = rate.NewLimiter(rate.Limit(float64(c.n)/c.per.Seconds()), c.n)
		c.by[key] = l
	}
	return l.Allow()
}

// allowCode takes one from a room's allowance of requests by code. There need
// not be a room.
func (h *Hub) allowCode(groupID []byte) bool {
	// No room has an id of another size, and everybody knows.
	return len(groupID) != groupIDSize || h.codes.Allow(string(groupID))
}
