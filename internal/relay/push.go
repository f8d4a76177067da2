package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

// Push is the wake-up hook for clients that are not listening: an HTTP endpoint
// of the provider's that hands wake-ups to platforms' push services.
type Push struct {
	// URL gets POST requests with the body {"tokens": ["base64", …]}: tokens that
	// clients gave their mailboxes, sealed to that endpoint, of mailboxes that got
	// entries. Nothing else: no content, no count, no sender. https, or http on
	// this machine. Empty: no wake-ups.
	URL string
	// Interval collects wake-ups, so that one request does not stand for one
	// delivery; 0 means 5 s. A mailbox is in a request once.
	Interval time.Duration
	// Client makes the requests; nil means one with a timeout of 10 s.
	Client *http.Client
}

const (
	maxPushToken   = 512
	maxPushBatch   = 500
	maxPushPending = 100_000
	pushTries      = 3
	namePush       = "push"
)

func (p *Push) valid() error {
	if p.URL == "" {
		return nil
	}
	u, err := url.Parse(p.URL)
	if err != nil || u.Host == "" {
		return errors.New("relay: the push webhook is not a URL")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return errors.New("relay: the push webhook must be https, or http on this machine")
}

// pusher collects mailboxes that got entries and wakes their owners.
type pusher struct {
	r   *Relay
	cfg Push

	mu      sync.Mutex // guards pending
	pending map[queue.ID]struct{}
}

func newPusher(r *Relay, cfg Push) *pusher {
	if cfg.Interval == 0 {
		cfg.Interval = 5 * time.Second
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 10 * time.Second}
	}
	return &pusher{r: r, cfg: cfg, pending: make(map[queue.ID]struct{})}
}

// add notes that a mailbox has got an entry. When too many wait, wake-ups are
// lost: they are hints, and the entries stay where they are.
func (p *pusher) add(id queue.ID) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) < maxPushPending {
		p.pending[id] = struct{}{}
	}
}

// run sends what was collected until the relay stops.
func (p *pusher) run() {
	t := time.NewTicker(p.cfg.Interval)
	defer t.Stop()
	for {
		select {
		case <-p.r.ctx.Done():
			return
		case <-t.C:
			p.flush(p.r.ctx)
		}
	}
}

func (p *pusher) flush(ctx context.Context) {
	p.mu.Lock()
	pending := p.pending
	p.pending = make(map[queue.ID]struct{})
	p.mu.Unlock()
	var tokens [][]byte
	for id := range pending { // in no order
		rec, err := p.r.cfg.Mailboxes.Get(ctx, mailboxKey(id, namePush))
		if errors.Is(err, kv.ErrNotFound) {
			continue
		}
		if err != nil {
			p.r.cfg.Logger.Warn("reading push tokens did not work", "err_class", "store")
			return
		}
		if tokens = append(tokens, rec.Value); len(tokens) == maxPushBatch {
			p.post(ctx, tokens)
			tokens = nil
		}
	}
	if len(tokens) > 0 {
		p.post(ctx, tokens)
	}
}

// post sends one request, a few times if it fails.
func (p *pusher) post(ctx context.Context, tokens [][]byte) {
	body, err := json.Marshal(map[string][][]byte{"tokens": tokens})
	if err != nil {
		return
	}
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.URL, bytes.NewReader(body))
		if err != nil {
			return struct{}{}, backoff.Permanent(err)
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := p.cfg.Client.Do(req)
		if err != nil {
			return struct{}{}, err
		}
		defer func() { _ = res.Body.Close() }() // nothing in it matters
		if res.StatusCode/100 != 2 {
			return struct{}{}, errors.New("relay: the push webhook refused")
		}
		return struct{}{}, nil
	}, backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxTries(pushTries))
	result := "ok"
	if err != nil {
		result = "failed"
		p.r.cfg.Logger.Warn("wake-ups did not reach the push webhook", "err_class", "push")
	}
	p.r.metrics.pushes.WithLabelValues(result).Inc()
}

// queueSetPush stores what to hand to the push webhook when the mailbox gets
// entries, or ends that (SPEC.md R-54).
func (r *Relay) queueSetPush(ctx context.Context, c *gateway.Call, req *relayv1.QueueSetPushRequest) (*relayv1.QueueSetPushResponse, error) {
	if len(req.GetToken()) > maxPushToken {
		return nil, mmrerr.Malformed
	}
	op := kv.Op{Key: mailboxKey(queue.ID(req.GetQueueId()), namePush)}
	if len(req.GetToken()) > 0 {
		op.Value = req.GetToken()
	}
	if err := r.setOwned(ctx, c, req.GetQueueId(), op); err != nil {
		return nil, err
	}
	return &relayv1.QueueSetPushResponse{}, nil
}
