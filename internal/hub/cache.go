package hub

import (
	"container/list"
	"sync"
	"time"

	"github.com/mmrelay/mmrelay/pkg/mls"
)

// cacheFor is how long an opened room may stay in memory (SPEC.md R-101).
const cacheFor = 60 * time.Second

// cache keeps opened rosters and trees, so that a burst of messages does not
// decrypt and parse them each time. An entry is found by the random name of the
// row it was read from: a row never changes, so an entry is never stale, and
// the caller has just proven that it can open the head that names it.
type cache struct {
	mu    sync.Mutex // guards all below
	max   int
	order *list.List // of *cached, newest first
	byKey map[string]*list.Element
}

type cached struct {
	key   string
	until time.Time
	value any
}

func newCache(max int) *cache {
	return &cache{max: max, order: list.New(), byKey: make(map[string]*list.Element)}
}

func cacheKey(groupID []byte, row bigRow) string { return string(groupID) + row.name }

func (c *cache) get(key string) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return nil
	}
	v := e.Value.(*cached)
	if time.Now().After(v.until) {
		c.drop(e)
		return nil
	}
	return v.value
}

func (c *cache) put(key string, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		c.drop(e)
	}
	c.byKey[key] = c.order.PushFront(&cached{key, time.Now().Add(cacheFor), value})
	for c.order.Len() > c.max {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	delete(c.byKey, c.order.Remove(e).(*cached).key)
}

// sweep forgets what is past its time; the hub calls it every cacheFor.
func (c *cache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Back(); e != nil && time.Now().After(e.Value.(*cached).until); e = c.order.Back() {
		c.drop(e)
	}
}

func (c *cache) roster(groupID []byte, row bigRow) (*roster, bool) {
	r, ok := c.get(cacheKey(groupID, row)).(*roster)
	return r, ok
}

func (c *cache) putRoster(groupID []byte, row bigRow, r *roster) { c.put(cacheKey(groupID, row), r) }

func (c *cache) tree(groupID []byte, row bigRow) (*mls.PublicGroup, bool) {
	g, ok := c.get(cacheKey(groupID, row)).(*mls.PublicGroup)
	return g, ok
}

func (c *cache) putTree(groupID []byte, row bigRow, g *mls.PublicGroup) {
	c.put(cacheKey(groupID, row), g)
}
