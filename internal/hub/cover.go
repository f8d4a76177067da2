package hub

import (
	"crypto/rand"
	"math/big"

	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Cover events (SPEC.md R-73) are envelopes that say nothing, of the size of
// those beside them; only hub and client can tell them from others. With a rate
// of 1 or more the sender of an event gets one like everybody else, so that a
// relay does not see from who gets nothing who has sent. What is beyond that
// goes to members at random.

// cover returns the rows that go out beside those of an event that a leaf sent.
// It has nothing to do with the event's numbers: seq and chain are the last ones.
func (h *Hub) cover(c *change, e *seal.Event, rows []outboxRow, sender *leaf) ([]outboxRow, error) {
	n := int(h.cfg.CoverRate)
	if fraction := h.cfg.CoverRate - float64(n); fraction > 0 && randomBelow(1<<30) < int(fraction*(1<<30)) {
		n++
	}
	size := 0
	for _, r := range rows {
		size = max(size, len(r.envelope))
	}
	members := notLeaving(c.base.roster)
	var out []outboxRow
	for i := range n {
		to := sender
		if i > 0 {
			to = members[randomBelow(len(members))]
		}
		x := &seal.Event{GroupID: e.GroupID, Epoch: e.Epoch, Seq: e.Seq, Chain: e.Chain, AcceptedMS: e.AcceptedMS, Body: &seal.CoverEvent{}}
		b, err := x.AppendBinary(nil)
		if err != nil {
			return nil, err
		}
		env, err := seal.SealEnvelopeAs(seal.StoredDeliveryKey(c.base.head.epoch, to.k), b, size)
		if err != nil {
			return nil, err
		}
		out = append(out, newRow(to, env))
	}
	h.metrics.events.WithLabelValues("cover").Add(float64(n))
	return out, nil
}

func randomBelow(n int) int {
	x, _ := rand.Int(rand.Reader, big.NewInt(int64(n))) // never fails
	return int(x.Int64())
}
