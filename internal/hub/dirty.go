package hub

import (
	"sync"
	"time"
)

// dirtySet remembers which rooms this process marked lately, so that a busy
// room is marked once in a while and not once per message.
type dirtySet struct {
	mu sync.Mutex // guards at
	at map[string]time.Time
}

func newDirtySet() *dirtySet { return &dirtySet{at: make(map[string]time.Time)} }

func (d *dirtySet) fresh(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Since(d.at[id]) < dirtyFor
}

func (d *dirtySet) set(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if len(d.at) > 10_000 {
		for k, t := range d.at {
			if now.Sub(t) > dirtyFor {
				delete(d.at, k)
			}
		}
	}
	d.at[id] = now
}
