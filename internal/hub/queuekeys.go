package hub

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mmrelay/mmrelay/internal/peer"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// queueKeyTable knows which queue keys the providers publish (SPEC.md ).
type queueKeyTable struct {
	mu sync.Mutex // guards by
	by map[string]publishedIDs
}

type publishedIDs struct {
	ids []uint8
	at  time.Time
}

// queueKeysFor is how long a provider's list is used.
const queueKeysFor = 5 * time.Minute

func newQueueKeyTable() *queueKeyTable { return &queueKeyTable{by: make(map[string]publishedIDs)} }

// queueKey reports whether a domain is a configured provider that publishes a
// queue key of that id. The list is asked again when an id is new, at most
// every few seconds.
func (h *Hub) queueKey(domain string, id uint8) bool {
	if !h.cfg.Peers.Has(peer.Name{Role: peer.Provider, Domain: domain}) {
		return false
	}
	t := h.queueKeys
	t.mu.Lock()
	p := t.by[domain]
	t.mu.Unlock()
	age := time.Since(p.at)
	if known := slices.Contains(p.ids, id); known && age < queueKeysFor || !known && age < 10*time.Second {
		return known
	}
	ids, err := h.fetchQueueKeys(domain)
	if err != nil {
		// Out of reach: what was known stays known for a day.
		return slices.Contains(p.ids, id) && age < 24*time.Hour
	}
	t.mu.Lock()
	t.by[domain] = publishedIDs{ids, time.Now()}
	t.mu.Unlock()
	return slices.Contains(ids, id)
}

// fetchQueueKeys reads and verifies a provider's published queue keys.
func (h *Hub) fetchQueueKeys(domain string) ([]uint8, error) {
	ctx, cancel := context.WithTimeout(h.ctx, 5*time.Second)
	defer cancel()
	name := peer.Name{Role: peer.Provider, Domain: domain}
	h.cfg.Peers.Forget(name)
	published, err := h.cfg.Peers.PublishedKeys(ctx, name)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	key, err := pseudonym.VerifyService(published.GetCertificates(), domain, h.cfg.Peers.Roots(), now)
	if err != nil {
		return nil, err
	}
	var ids []uint8
	for _, k := range published.GetQueueKeys() {
		if c, err := seal.VerifyKeyConfig(k.GetConfig(), k.GetSignature(), key, seal.QueueAudience(domain), now); err == nil {
			ids = append(ids, c.ID)
		}
	}
	return ids, nil
}
