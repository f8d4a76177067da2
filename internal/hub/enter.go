package hub

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/mmrelay/mmrelay/internal/gateway"
)

// repeat is what a request that changes a room is known by when it comes again:
// its kind, its message, and where the answer that it got goes.
type repeat struct {
	kind    byte
	message []byte
	res     proto.Message
}

// enter begins a member's request that changes a room and is no commit: it
// authenticates the caller, opens the room, and admits them (SPEC.md R-124, steps
// 2 and 3), asCommit at the rate of commits. again says that the request was accepted before and that its answer is
// read (step 4), maybe under a key that was replaced meanwhile. The room is
// locked by the caller.
func (h *Hub) enter(ctx context.Context, c *gateway.Call, p repeat, asCommit bool) (r *room, l *leaf, again bool, err error) {
	if r, l, err = h.authenticate(ctx, c); err != nil {
		if h.repeated(ctx, err, p.kind, p.message, p.res) {
			return nil, nil, true, nil
		}
		return nil, nil, false, err
	}
	if r, l, err = h.opened(ctx, r, l, c.Now); err != nil {
		return nil, nil, false, err
	}
	if err := h.admitChange(ctx, r, l, asCommit); err != nil {
		return nil, nil, false, err
	}
	return r, l, h.answered(ctx, r, p.kind, p.message, p.res), nil
}
