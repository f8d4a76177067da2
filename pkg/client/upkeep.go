package client

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"time"
)

// plan sets when the room is to be looked after, if it needs it: its link keys
// read or refreshed (SPEC.md R-98), a wrong external_pub put right, the
// leave of others carried out. The times are random, since all members
// see the need at once.
func (c *Client) plan(r *room) {
	r.upkeepAt, r.removeAt, r.restUntil = time.Time{}, time.Time{}, time.Time{}
	now := time.Now()
	if r.removesWaiting() {
		r.removeAt = now.Add(randomDuration(c.opts.leaveDelay))
	}
	policy, err := r.policy()
	if err != nil {
		return
	}
	_, refresh := r.refreshable()
	if r.st.WrongPub || wraps(policy) && (refresh || r.view == nil) {
		r.upkeepAt = now.Add(randomDuration(c.opts.refreshDelay))
	}
}

// upkeep looks after rooms whose time has come, or all that need it, and talks
// to the user's other devices. mu is held.
func (c *Client) upkeep(ctx context.Context, all bool) error {
	ctx = impatient(ctx)
	now := time.Now()
	for _, r := range c.rooms {
		if r.st.Removed || r.st.Forked || r.st.Locked || r.st.Suspect || now.Before(r.restUntil) && !all {
			continue
		}
		err := c.upkeepRoom(ctx, r, now, all)
		if err := c.store.broken(); err != nil {
			return err
		}
		r.rest(err, c.opts.gapWait)
		if err != nil {
			c.opts.log.Warn("looking after a room did not work")
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

// upkeepRoom does what is due. What fails stays due.
func (c *Client) upkeepRoom(ctx context.Context, r *room, now time.Time, all bool) error {
	due := func(t time.Time) bool { return !t.IsZero() && (all || !now.Before(t)) }
	if r.st.Stuck != nil {
		if now.Before(r.upkeepAt) && !all {
			return nil
		}
		return c.recover(ctx, r)
	}
	err := c.settle(ctx, r)
	switch {
	case c.rooms[r.id()] != r:
		return nil // left, or not joined
	case err != nil || r.usable() != nil:
		return err
	}
	var errs []error
	if due(r.removeAt) {
		err := c.commitRemoves(ctx, r)
		if err == nil {
			r.removeAt = time.Time{}
		}
		errs = append(errs, err)
	}
	if due(r.upkeepAt) && r.usable() == nil {
		err := errors.Join(c.putGroupInfo(ctx, r), c.readWrap(ctx, r), c.refreshWrap(ctx, r))
		if err == nil {
			r.upkeepAt = time.Time{}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// maxRest bounds the doubling of the time between attempts.
const maxRest = 7

// rest puts off the next attempt after one that failed, each time for longer: a
// hub that refuses, or is gone, is not hammered.
func (r *room) rest(err error, least time.Duration) {
	if err == nil {
		r.failures, r.restUntil = 0, time.Time{}
		return
	}
	r.restUntil = time.Now().Add(pause(least, r.failures))
	r.failures++
}

// pause is the time to wait after so many failures before.
func pause(least time.Duration, failures int) time.Duration {
	d := least << min(failures, maxRest)
	return d + randomDuration(d)
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
