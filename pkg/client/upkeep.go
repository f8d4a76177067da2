package client

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"time"
)

// plan sets when the room is to be looked after, if it needs it: its link keys
// read or refreshed (SPEC.md R-98), the leave of others carried out. The
// times are random, since all members see the need at once.
func (c *Client) plan(r *room) {
	r.upkeepAt, r.removeAt = time.Time{}, time.Time{}
	now := time.Now()
	if r.removesWaiting() {
		r.removeAt = now.Add(randomDuration(c.opts.leaveDelay))
	}
	policy, err := r.policy()
	if err != nil || !wraps(policy) {
		return
	}
	if _, refresh := r.refreshable(); refresh || r.view == nil {
		r.upkeepAt = now.Add(randomDuration(c.opts.refreshDelay))
	}
}

// upkeep looks after rooms whose time has come, or all that need it, and talks
// to the user's other devices. mu is held.
func (c *Client) upkeep(ctx context.Context, all bool) error {
	now := time.Now()
	for _, r := range c.rooms {
		if r.st.Removed || r.st.Forked || r.st.Locked || r.st.Suspect {
			continue
		}
		var err error
		switch {
		case r.st.Stuck != nil:
			if now.Before(r.upkeepAt) && !all {
				continue
			}
			err = c.recover(ctx, r)
		default:
			err = c.upkeepRoom(ctx, r, now, all)
		}
		if err := c.store.broken(); err != nil {
			return err
		}
		if err != nil {
			c.opts.log.Warn("looking after a room did not work")
			r.upkeepAt = now.Add(c.opts.gapWait + randomDuration(c.opts.gapWait))
			if r.removesWaiting() { // or the leave of others would wait for somebody else's commit
				r.removeAt = r.upkeepAt
			}
		}
	}
	if now.Before(c.devicesAfter) {
		return nil
	}
	if err := c.syncDevices(ctx); err != nil {
		c.opts.log.Warn("talking to the other devices did not work")
		c.devicesAfter = now.Add(c.opts.gapWait)
	}
	return errors.Join(c.work(ctx), c.store.broken())
}

func (c *Client) upkeepRoom(ctx context.Context, r *room, now time.Time, all bool) error {
	var err error
	if r.wrongPub {
		r.wrongPub = false
		err = c.putGroupInfo(ctx, r)
	}
	if !r.removeAt.IsZero() && (all || !now.Before(r.removeAt)) {
		r.removeAt = time.Time{}
		err = errors.Join(err, c.commitRemoves(ctx, r))
	}
	if !r.upkeepAt.IsZero() && (all || !now.Before(r.upkeepAt)) {
		r.upkeepAt = time.Time{}
		err = errors.Join(err, c.readWrap(ctx, r), c.refreshWrap(ctx, r))
	}
	return err
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
