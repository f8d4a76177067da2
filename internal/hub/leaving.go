package hub

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// A leaf is leaving from the moment it said so (SPEC.md R-113), or when its
// address was reported gone twice. Nothing is delivered to it any more,
// and every member commit has to include its Remove. Where no proposal of its
// own is cached, because an external commit ended the epoch or because it has
// said nothing, the hub proposes it as external sender 0.

// maxHubProposals is how many Removes the hub has in one epoch at most, fewer
// than members store of one sender. The others follow in the next epoch.
const maxHubProposals = 16

// mlsSigner signs for MLS with the hub's identity.
type mlsSigner struct{ key *primitive.SigningKey }

func (s mlsSigner) Public() []byte { return s.key.Public().Bytes() }

func (s mlsSigner) Sign(content []byte) ([]byte, error) {
	if s.key.Public().Algorithm() == primitive.Ed25519 {
		return s.key.Std().Sign(rand.Reader, content, crypto.Hash(0))
	}
	digest := sha256.Sum256(content)
	return s.key.Std().Sign(rand.Reader, digest[:], crypto.SHA256)
}

// identity is the hub's key in rooms of a suite; there are none of suites that
// it has no key for.
func (h *Hub) identity(suite uint16) *primitive.SigningKey {
	alg, _ := primitive.SuiteAlgorithm(suite)
	key, _, ok := h.cfg.Keys.IdentityFor(alg)
	if !ok {
		return h.cfg.Keys.Identity()
	}
	return key
}

// noAAD is authenticated data without items (SPEC.md §4.4).
var noAAD = []byte{0}

// proposeRemoves caches a Remove by the hub for every leaf of the roster that is
// leaving and has none, and returns the tree that knows them and the messages.
func (h *Hub) proposeRemoves(tree *mls.PublicGroup, ro *roster, now time.Time) (*mls.PublicGroup, [][]byte, error) {
	has := make(map[uint32]bool)
	for _, raw := range ro.cached {
		if m, err := mls.ParseMessage(raw, nil); err == nil && m.Public.Content.Proposal.Type == mls.ProposalRemove {
			has[uint32(m.Public.Content.Proposal.Remove)] = true
		}
	}
	signer := mlsSigner{h.identity(ro.suite)}
	var all [][]byte
	for _, l := range ro.leaves {
		if !l.leaving || has[l.index] || len(all) == maxHubProposals {
			continue
		}
		raw, err := mls.NewExternalProposal(tree, 0, mls.RemoveProposal(mls.LeafIndex(l.index)), noAAD, signer)
		if err != nil {
			return nil, nil, err
		}
		next, _, err := tree.Process(raw, now)
		if errors.Is(err, &mls.Refusal{Rule: mls.RuleStored}) {
			break // the cache is full; the next epoch has room
		}
		if err != nil {
			return nil, nil, err
		}
		tree, all = next, append(all, raw)
	}
	ro.cached = append(ro.cached, all...)
	return tree, all, nil
}

// expel makes leaves leaving whose addresses were reported gone (SPEC.md R-78).
// It returns the room as it is then.
func (h *Hub) expel(ctx context.Context, r *room, now time.Time) (*room, error) {
	gone, err := h.goneLanes(ctx, r.roster)
	if err != nil || len(gone) == 0 {
		return r, err
	}
	if err := h.loadTree(ctx, r); err != nil {
		return nil, err
	}
	next := r.roster.clone()
	ch := h.begin(r, now)
	for _, l := range next.leaves {
		if gone[l.lane] {
			l.leaving = true
			ch.stopped = append(ch.stopped, l.lane)
		}
	}
	tree, proposals, err := h.proposeRemoves(r.tree, next, now)
	if err != nil {
		return nil, err
	}
	if allLeaving(next) {
		if err := h.deleteRoom(ctx, r, now); err != nil {
			return nil, err
		}
		return nil, mmrerr.NoRoom
	}
	var rows []outboxRow
	if len(proposals) > 0 {
		e := &seal.Event{Epoch: r.head.epoch, Body: &seal.ProposalEvent{Proposals: proposals}}
		if err := ch.number(e, now); err != nil {
			return nil, err
		}
		if rows, err = sealTo(notLeaving(next), e, r.head.epoch); err != nil {
			return nil, err
		}
	}
	if err := ch.setRoster(next); err != nil {
		return nil, err
	}
	if err := ch.setTree(tree); err != nil {
		return nil, err
	}
	if err := h.accept(ctx, ch, rows); err != nil {
		return nil, err
	}
	h.metrics.events.WithLabelValues("gone").Add(float64(len(gone)))
	return ch.next, nil
}

// settle does what waited for somebody to open the room, before a request that
// may change it. It looks when a roster was read from the store, not for each
// request, and returns the room as it is then.
func (h *Hub) settle(ctx context.Context, r *room, now time.Time) (*room, error) {
	if is, err := h.frozen(ctx); err != nil || is || !r.fresh {
		return r, err
	}
	r, err := h.expel(ctx, r, now)
	if err != nil {
		return nil, err
	}
	if r, err = h.notices(ctx, r, now); err != nil {
		return nil, err
	}
	r.fresh = false
	return r, nil
}

// opened is settle for a request of a leaf.
func (h *Hub) opened(ctx context.Context, r *room, l *leaf, now time.Time) (*room, *leaf, error) {
	r, err := h.settle(ctx, r, now)
	if err != nil {
		return nil, nil, err
	}
	return r, r.roster.leaf(l.index), nil
}

func allLeaving(ro *roster) bool { return len(notLeaving(ro)) == 0 }

// Reports of relays that a lane is gone or bad. They name no room: the hub finds
// out whose leaf it is when somebody opens the room.
const goneGroup = "gone"

// goneTwice is the least time between two reports that make a leaf gone (SPEC.md R-78).
const goneTwice = 24 * time.Hour

func goneKey(lane [16]byte) kv.Key { return kv.Key{Group: goneGroup, Name: string(lane[:])} }

const (
	goneOnce = 1
	goneNow  = 2
)

func marshalGone(state byte, at time.Time) []byte {
	return binary.BigEndian.AppendUint64([]byte{state}, uint64(at.Unix()))
}

// reportGone remembers that a relay called a lane gone or bad: the time of the
// first report, and from the second one, a day later or more, that it is gone.
func (h *Hub) reportGone(ctx context.Context, lane [16]byte, now time.Time) error {
	first, earlier, err := kv.Once(ctx, h.cfg.Store, goneKey(lane), marshalGone(goneOnce, now), 30*goneTwice)
	if err != nil || first || len(earlier) != 9 || earlier[0] != goneOnce {
		return err
	}
	if now.Sub(time.Unix(int64(binary.BigEndian.Uint64(earlier[1:])), 0)) < goneTwice {
		return nil
	}
	_, err = h.cfg.Store.Apply(ctx, []kv.Op{{Key: goneKey(lane), Value: marshalGone(goneNow, now), TTL: 90 * goneTwice}})
	return err
}

// goneLanes are the lanes of a roster that are gone and not known to be leaving.
func (h *Hub) goneLanes(ctx context.Context, ro *roster) (map[[16]byte]bool, error) {
	var names []string
	var lanes [][16]byte
	for _, l := range ro.leaves {
		if !l.leaving {
			names, lanes = append(names, string(l.lane[:])), append(lanes, l.lane)
		}
	}
	recs, err := h.cfg.Store.GetMany(ctx, goneGroup, names)
	if err != nil {
		return nil, err
	}
	gone := make(map[[16]byte]bool)
	for i, rec := range recs {
		if len(rec.Value) == 9 && rec.Value[0] == goneNow {
			gone[lanes[i]] = true
		}
	}
	return gone, nil
}

// Stopped lanes: what lies in an outbox for them is dropped when its turn comes.
const (
	stoppedGroup = "stopped"
	stoppedFor   = 8 * 24 * time.Hour // longer than anything lies in an outbox
	prefixStop   = "s"                // of the record in the room, until the lanes are marked
)

// stop marks lanes as stopped. It can be repeated at any time.
func (h *Hub) stop(ctx context.Context, groupID []byte, name string, lanes []byte) error {
	if len(lanes)%16 != 0 {
		return errors.New("hub: malformed record of stopped lanes")
	}
	for len(lanes) > 0 {
		var ops []kv.Op
		for len(lanes) > 0 && len(ops) < 1000 {
			ops = append(ops, kv.Op{Key: kv.Key{Group: stoppedGroup, Name: string(lanes[:16])}, Value: []byte{1}, TTL: stoppedFor})
			lanes = lanes[16:]
		}
		if _, err := h.cfg.Store.Apply(ctx, ops); err != nil {
			return err
		}
		for i := range ops { // one-time addresses that nobody uses any more
			ops[i] = kv.Op{Key: kv.Key{Group: sealGroup, Name: ops[i].Key.Name}}
		}
		if _, err := h.cfg.Store.Apply(ctx, ops); err != nil {
			return err
		}
	}
	return kv.Delete(ctx, h.cfg.Store, roomKey(groupID, name))
}

// stoppedLanes tells which of a batch's lanes are stopped.
func (h *Hub) stoppedLanes(ctx context.Context, batch []due) (map[[16]byte]bool, error) {
	var names []string
	seen := make(map[[16]byte]bool)
	for _, b := range batch {
		if !seen[b.row.lane] {
			seen[b.row.lane] = true
			names = append(names, string(b.row.lane[:]))
		}
	}
	recs, err := h.cfg.Store.GetMany(ctx, stoppedGroup, names)
	if err != nil {
		return nil, err
	}
	stopped := make(map[[16]byte]bool)
	for i, rec := range recs {
		if rec.Version != 0 {
			stopped[[16]byte([]byte(names[i]))] = true
		}
	}
	return stopped, nil
}
