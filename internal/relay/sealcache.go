package relay

import (
	"container/list"
	"crypto/sha256"
	"sync"

	"github.com/mmrelay/mmrelay/pkg/seal"
)

// sealCache remembers which address opened to which mailbox, so that a leaf's
// constant address costs one HPKE opening and not one per envelope (PERF.md
// section 3). It is bounded, least recently used first out, and never on disk
// (SPEC.md R-52).
type sealCache struct {
	mu    sync.Mutex // guards all below
	max   int
	order *list.List // of *cachedSeal, newest first
	byKey map[[sha256.Size]byte]*list.Element
}

type cachedSeal struct {
	key    [sha256.Size]byte
	config seal.QueueConfig
}

func newSealCache(max int) *sealCache {
	return &sealCache{max: max, order: list.New(), byKey: make(map[[sha256.Size]byte]*list.Element)}
}

func sealKey(keyID uint8, sealed []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte{keyID})
	h.Write(sealed)
	return [sha256.Size]byte(h.Sum(nil))
}

func (c *sealCache) get(key [sha256.Size]byte) (seal.QueueConfig, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return seal.QueueConfig{}, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedSeal).config, true
}

func (c *sealCache) put(key [sha256.Size]byte, q seal.QueueConfig) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byKey[key]; ok {
		return
	}
	c.byKey[key] = c.order.PushFront(&cachedSeal{key, q})
	for c.order.Len() > c.max {
		e := c.order.Back()
		s := c.order.Remove(e).(*cachedSeal)
		delete(c.byKey, s.key)
		s.config = seal.QueueConfig{} // an evicted address leaves nothing behind
	}
}
