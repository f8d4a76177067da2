package client

import (
	"context"
	"crypto/rand"
	"math/big"
	"time"
)

// plan sets when the room's link keys are to be looked after, if they need it: at
// a random time, since all members see the need at once (SPEC.md R-98).
func (r *room) plan(within time.Duration) {
	r.upkeepAt = time.Time{}
	policy, err := r.policy()
	if err != nil || !wraps(policy) {
		return
	}
	if _, refresh := r.refreshable(); refresh || r.view == nil {
		r.upkeepAt = time.Now().Add(randomDuration(within))
	}
}

// upkeep reads or refreshes the link keys of rooms whose time has come. mu is
// held.
func (c *Client) upkeep(ctx context.Context, all bool) error {
	now := time.Now()
	for _, r := range c.rooms {
		if r.st.Removed || r.st.Forked || r.st.Locked || r.upkeepAt.IsZero() || !all && now.Before(r.upkeepAt) {
			continue
		}
		r.upkeepAt = time.Time{}
		err := c.readWrap(ctx, r)
		if err == nil {
			err = c.refreshWrap(ctx, r)
		}
		if err := c.store.broken(); err != nil {
			return err
		}
		if err != nil {
			c.opts.log.Warn("looking after link keys did not work")
			r.upkeepAt = now.Add(c.opts.gapWait + randomDuration(c.opts.gapWait))
		}
	}
	return nil
}

// randomDuration returns a random time below d.
func randomDuration(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	n, err := rand.Int(rand.Reader, big.NewInt(int64(d)))
	if err != nil {
		return d
	}
	return time.Duration(n.Int64())
}
