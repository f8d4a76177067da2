package redisqueue

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/pkg/queue/internal/wake"
)

const (
	// silence is how long a subscriber connection may say nothing before it is
	// asked for a sign of life, and then until it is given up.
	silence = 15 * time.Second
	// retryAfter is the pause before a lost connection is made again. Watchers
	// need not hurry: nothing is lost, and Poll wakes them.
	retryAfter = 500 * time.Millisecond
	// subscribeAtOnce is how many channels one SSUBSCRIBE names at most.
	subscribeAtOnce = 512
)

// wakes connects the watchers of this process to the channels of their queues.
//
// One goroutine (manage) decides what is subscribed where; one more per server
// (link.receive) waits for messages; one (poll) wakes everybody now and then.
type wakes struct {
	client  redis.UniversalClient
	channel func(id string) string
	idOf    func(channel string) (string, bool)
	set     wake.Set

	ctx    context.Context // the lifetime of the goroutines
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex // guards changed
	changed map[string]change
	signal  chan struct{}
	lost    chan *link

	links map[*redis.Client]*link // of manage alone
	where map[string]*link        // of manage alone: subscribed queues
}

// change is what manage has to do about a queue.
type change int

const (
	unsubscribe change = iota
	subscribe
	resubscribe // the server ended the subscription
)

// link is the subscriber connection to one server.
type link struct {
	node   *redis.Client
	pubsub *redis.PubSub
}

func newWakes(c redis.UniversalClient, channel func(string) string, idOf func(string) (string, bool), poll time.Duration) (*wakes, error) {
	switch c.(type) {
	case *redis.Client, *redis.ClusterClient:
	default:
		return nil, errors.New("redisqueue: the client is neither of one server nor of a cluster")
	}
	w := &wakes{
		client: c, channel: channel, idOf: idOf,
		changed: make(map[string]change), signal: make(chan struct{}, 1), lost: make(chan *link),
		links: make(map[*redis.Client]*link), where: make(map[string]*link),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.set.Changed = func(id string, watched bool) {
		if watched {
			w.change(id, subscribe)
		} else {
			w.change(id, unsubscribe)
		}
	}
	w.wg.Go(w.manage)
	w.wg.Go(func() { w.poll(poll) })
	return w, nil
}

// close ends all watchers and waits for the goroutines.
func (w *wakes) close() {
	w.set.Close()
	w.cancel()
	w.wg.Wait()
}

// change tells manage what to do about a queue.
func (w *wakes) change(id string, c change) {
	w.mu.Lock()
	w.changed[id] = c
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

func (w *wakes) takeChanges() map[string]change {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.changed
	w.changed = make(map[string]change)
	return c
}

// manage keeps subscriptions as watchers want them.
func (w *wakes) manage() {
	defer func() {
		for _, l := range w.links {
			_ = l.pubsub.Close() // ends its receive
		}
	}()
	for {
		select {
		case <-w.ctx.Done():
			return
		case l := <-w.lost:
			w.drop(l)
		case <-w.signal:
			if err := w.apply(w.takeChanges()); err == nil {
				continue
			}
		}
		// Something failed: after a pause, make what is missing.
		select {
		case <-w.ctx.Done():
			return
		case <-time.After(retryAfter):
		}
		if c, ok := w.client.(*redis.ClusterClient); ok {
			c.ReloadState(w.ctx) // slots may have moved
		}
		for _, id := range w.set.Watched() {
			if w.where[id] == nil {
				w.change(id, subscribe)
			}
		}
	}
}

// drop forgets a connection and what was subscribed over it.
func (w *wakes) drop(l *link) {
	_ = l.pubsub.Close() // it failed already
	if w.links[l.node] == l {
		delete(w.links, l.node)
	}
	for id, x := range w.where {
		if x == l {
			delete(w.where, id)
		}
	}
}

// apply subscribes and unsubscribes.
func (w *wakes) apply(changes map[string]change) error {
	wanted := make(map[*link][]string)
	for id, c := range changes {
		switch l := w.where[id]; {
		case c == unsubscribe && l != nil:
			delete(w.where, id)
			if err := l.pubsub.SUnsubscribe(w.ctx, w.channel(id)); err != nil {
				w.drop(l)
				return err
			}
			continue
		case c == unsubscribe, c == subscribe && l != nil:
			continue
		}
		l, err := w.linkFor(id)
		if err != nil {
			return err
		}
		w.where[id] = l
		wanted[l] = append(wanted[l], w.channel(id))
	}
	for l, channels := range wanted {
		if err := w.subscribe(l, channels); err != nil {
			w.drop(l)
			return err
		}
	}
	return nil
}

func (w *wakes) subscribe(l *link, channels []string) error {
	n := subscribeAtOnce
	if _, ok := w.client.(*redis.ClusterClient); ok {
		n = 1 // the channels of one SSUBSCRIBE must be of one slot
	}
	for len(channels) > 0 {
		n = min(n, len(channels))
		if err := l.pubsub.SSubscribe(w.ctx, channels[:n]...); err != nil {
			return err
		}
		channels = channels[n:]
	}
	return nil
}

// linkFor returns the connection to the server that has a queue.
func (w *wakes) linkFor(id string) (*link, error) {
	node, ok := w.client.(*redis.Client)
	if !ok {
		cluster, ok := w.client.(*redis.ClusterClient)
		if !ok {
			return nil, errors.New("redisqueue: unknown kind of client")
		}
		var err error
		if node, err = cluster.MasterForKey(w.ctx, w.channel(id)); err != nil {
			return nil, fmt.Errorf("finding a queue's node: %w", err)
		}
	}
	if l := w.links[node]; l != nil {
		return l, nil
	}
	l := &link{node: node, pubsub: node.SSubscribe(w.ctx)}
	w.links[node] = l
	w.wg.Go(func() { w.receive(l) })
	return l, nil
}

// receive turns messages into wake-ups until the connection fails.
func (w *wakes) receive(l *link) {
	asked := false
	for {
		m, err := l.pubsub.ReceiveTimeout(w.ctx, silence)
		var timeout net.Error
		switch {
		case err == nil:
			asked = false
			w.handle(m)
		case errors.As(err, &timeout) && timeout.Timeout() && !asked:
			asked = true
			err = l.pubsub.Ping(w.ctx)
		}
		if err == nil {
			continue
		}
		select {
		case w.lost <- l:
		case <-w.ctx.Done():
		}
		return
	}
}

// handle wakes the watchers a message is for.
func (w *wakes) handle(m any) {
	switch m := m.(type) {
	case *redis.Message:
		if id, ok := w.idOf(m.Channel); ok {
			w.set.Wake(id)
		}
	case *redis.Subscription:
		id, ok := w.idOf(m.Channel)
		if !ok {
			return
		}
		if m.Kind == "ssubscribe" {
			w.set.Wake(id) // for what was stored before the subscription
			return
		}
		// The answer to our own wish, or the server gave the slot away.
		if _, ok := w.client.(*redis.ClusterClient); ok && w.set.Has(id) {
			w.change(id, resubscribe)
		}
	}
}

// poll wakes every watcher once per interval, a share of them at a time.
func (w *wakes) poll(interval time.Duration) {
	const shares = 25
	t := time.NewTicker(max(interval/shares, time.Millisecond))
	defer t.Stop()
	for share := uint32(0); ; share = (share + 1) % shares {
		select {
		case <-w.ctx.Done():
			return
		case <-t.C:
			w.set.WakeIf(func(id string) bool {
				h := fnv.New32a()
				_, _ = h.Write([]byte(id)) // never fails
				return h.Sum32()%shares == share
			})
		}
	}
}
