package client

import (
	"context"
	"errors"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// goneAfter is how long the hub must have said that it does not know this client's
// leaf. Usually the client was removed, and the events up to that are on their way
// in its mailbox: the hub tells a removed leaf nothing any more (SPEC.md R-103).
const goneAfter = time.Hour

// readEvents asks for the room's log, from the next event on.
func (c *Client) readEvents(ctx context.Context, r *room) (*hubv1.CatchUpResponse, error) {
	res := new(hubv1.CatchUpResponse)
	err := c.roomCall(ctx, r, seal.MethodCatchUp, &hubv1.CatchUpRequest{FromSeq: r.st.Seq + 1}, res)
	switch {
	case err == nil:
		r.goneSince, r.st.Gone = time.Time{}, false
	case errors.Is(err, mmrerr.NoRoom):
		err = errors.Join(err, c.missing(r))
	}
	return res, err
}

// missing notes that the hub does not know this client's leaf, and tells the
// application when it has been so for long: a full mailbox may have refused the
// removal, or the hub has lost the room. Nothing is deleted for that: the hub may
// be wrong.
func (c *Client) missing(r *room) error {
	switch {
	case r.st.Gone:
		return nil
	case r.goneSince.IsZero():
		r.goneSince = time.Now()
		return nil
	case time.Since(r.goneSince) < goneAfter:
		return nil
	}
	r.st.Gone = true
	for _, h := range c.held { // a Welcome may wait for this
		h.after = time.Time{}
	}
	b := make(batch)
	return errors.Join(c.emit(b, Event{Kind: KindGone, Room: r.st.uri()}), r.save(b, false), c.store.Write(b))
}

// seekGone asks again in rooms that the hub has not known for long. mu is held.
func (c *Client) seekGone(ctx context.Context) {
	for _, r := range c.rooms {
		if !r.goneSince.IsZero() && !r.st.Gone && time.Since(r.goneSince) >= goneAfter {
			if err := c.catchUp(ctx, r); err != nil {
				c.opts.log.Warn("catching up did not work")
			}
		}
	}
}
