package hub

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// A room with ear = 1 is sealed under a key that its members send with each
// request (SPEC.md R-101). A commit that removes somebody brings the next key
// from then on everything is under that. What the old key still opens
// is its log up to that commit, the snapshots of its epochs, and the generation
// row, which says who of its time is still there and may read them.

// errOtherKey reports a key at rest that is not the room's current one.
var errOtherKey = fmt.Errorf("hub: not the room's key at rest: %w", mmrerr.NoRoom)

const (
	rowGeneration     = "gen"
	generationVersion = 1
	// generationFor is how long a replaced key is good for catching up: as long as
	// a snapshot under it.
	generationFor = snapshotFor
)

// generation is the row "gen" under a replaced key.
type generation struct {
	suite       uint16
	first, last uint64 // events logged under the key
	leaves      []pastLeaf
}

// pastLeaf is a leaf that was there when the key was replaced, and stayed.
type pastLeaf struct {
	index        uint32
	signatureKey []byte // of then
	lane         [16]byte
	first        uint64 // seq of the first event it may read
}

func (g *generation) marshal() []byte {
	b := []byte{generationVersion}
	b = binary.BigEndian.AppendUint16(b, g.suite)
	b = binary.BigEndian.AppendUint64(b, g.first)
	b = binary.BigEndian.AppendUint64(b, g.last)
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, l := range g.leaves {
			b = binary.BigEndian.AppendUint32(b, l.index)
			b = codec.AppendVector(b, l.signatureKey)
			b = append(b, l.lane[:]...)
			b = binary.BigEndian.AppendUint64(b, l.first)
		}
		return b
	})
}

func parseGeneration(b []byte) (*generation, error) {
	r := codec.NewReader(b)
	if r.Uint8() != generationVersion {
		r.Fail(errNewer)
	}
	g := &generation{suite: r.Uint16(), first: r.Uint64(), last: r.Uint64()}
	ls := r.Sub(math.MaxInt)
	for !ls.Empty() {
		l := pastLeaf{index: ls.Uint32(), signatureKey: ls.Vector(math.MaxInt)}
		ls.Copy(l.lane[:])
		l.first = ls.Uint64()
		g.leaves = append(g.leaves, l)
	}
	r.Join(ls)
	if err := r.Done(); err != nil {
		return nil, err
	}
	return g, nil
}

// rotate gives the room of the change another key at rest. What is written
// after it is under that; the log of the commit that rotates is not.
func (c *change) rotate(key seal.EARKey, after *roster) error {
	g := &generation{suite: c.base.roster.suite, first: c.base.head.keySince, last: c.next.head.seq}
	for _, l := range c.base.roster.leaves {
		if n := after.leaf(l.index); n != nil && n.user == l.user {
			g.leaves = append(g.leaves, pastLeaf{l.index, l.signatureKey, l.lane, l.first})
		}
	}
	if err := c.rowUnder(c.base.key, rowGeneration, g.marshal(), generationFor); err != nil {
		return err
	}
	id := key.ID()
	c.next.key, c.next.record.earID = key, id[:]
	c.next.head.keySince = c.next.head.seq + 1
	return nil
}

// rotated reports whether the change gives the room another key.
func (c *change) rotated() bool { return !equal(c.base.record.earID, c.next.record.earID) }

// nextKey is step 16 for the key at rest: a commit with a Remove brings the
// next one, others with a path may (SPEC.md R-102).
func (t *transition) nextKey(raw []byte) (*seal.EARKey, error) {
	r := t.r
	if len(raw) == 0 {
		if len(r.record.earID) > 0 && len(t.removed) > 0 {
			return nil, mmrerr.EARKey
		}
		return nil, nil
	}
	secret, err := primitive.ParseSecret(raw)
	if err != nil || len(r.record.earID) == 0 || t.path == nil {
		return nil, mmrerr.EARKey
	}
	key := seal.NewEARKey(secret, r.groupID)
	if id := key.ID(); equal(id[:], r.record.earID) {
		return nil, mmrerr.EARKey
	}
	return &key, nil
}

// linkRecords are the links that can be looked up without the room's key: the
// hash of the code, and the key sealed to the link (SPEC.md R-100).
func (c *change) linkRecords(p *pseudonym.Room) error {
	var ls []linkRecord
	for _, l := range p.Links {
		rec := linkRecord{codeHash: l.CodeHash, notAfter: l.NotAfter}
		if len(c.next.record.earID) > 0 {
			var err error
			if rec.box, err = c.linkBox(l); err != nil {
				return err
			}
		}
		ls = append(ls, rec)
	}
	c.next.record.links = ls
	return nil
}

// linkBox is the box that the link had, if it is the same link and key.
func (c *change) linkBox(l pseudonym.RoomLink) ([]byte, error) {
	if c.base.roster.policy != nil && hasLink(c.base.roster.policy, l) && !c.rotated() {
		i := slices.IndexFunc(c.base.record.links, func(r linkRecord) bool { return r.codeHash == l.CodeHash })
		if i >= 0 && len(c.base.record.links[i].box) > 0 {
			return c.base.record.links[i].box, nil
		}
	}
	return c.next.key.SealLink(l.Pub)
}

// stale is the refusal of a leaf that comes with a replaced key: it has to
// catch up under that first (SPEC.md R-103).
type stale struct {
	r    *room // what there is under the old key: no roster, no head
	gen  *generation
	leaf *pastLeaf
}

func (*stale) Error() string { return mmrerr.EARStale.Error() }
func (*stale) Unwrap() error { return mmrerr.EARStale }

// refusal is why a room did not open for a caller: mmr/no-room, or *stale for a
// leaf with a replaced key, which find looks up. The work is the same for a room
// that does not exist, a key that nobody had and a signature that is not right
// (SPEC.md R-67).
func (h *Hub) refusal(ctx context.Context, c *gateway.Call, err error, find func(*pastLeaf) bool) error {
	if !errors.Is(err, mmrerr.NoRoom) {
		return err
	}
	s, rerr := h.openGeneration(ctx, c)
	if rerr != nil {
		return rerr
	}
	key := nobody
	if s != nil && errors.Is(err, errOtherKey) {
		for i := range s.gen.leaves {
			if find(&s.gen.leaves[i]) {
				s.leaf = &s.gen.leaves[i]
			}
		}
		if s.leaf != nil {
			if key, rerr = leafKey(s.gen.suite, s.leaf.signatureKey); rerr != nil {
				return rerr
			}
		}
	}
	if c.Verify(key) != nil || s == nil || s.leaf == nil {
		return mmrerr.NoRoom
	}
	return s
}

// openGeneration reads the generation row under the caller's key; nil if there
// is none.
func (h *Hub) openGeneration(ctx context.Context, c *gateway.Call) (*stale, error) {
	if len(c.GroupID) != groupIDSize || !c.EARKey.Present() {
		return nil, nil
	}
	r := &room{groupID: c.GroupID, key: seal.NewEARKey(c.EARKey, c.GroupID)}
	b, _, err := h.readRow(ctx, r, rowGeneration)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	g, err := parseGeneration(b)
	if err != nil {
		return nil, err
	}
	return &stale{r: r, gen: g}, nil
}

// repeated answers a request that was accepted under a key that was replaced
// meanwhile, maybe by this very request: err is the refusal of its repeat.
func (h *Hub) repeated(ctx context.Context, err error, kind byte, message []byte, res proto.Message) bool {
	s, ok := errors.AsType[*stale](err)
	return ok && h.answered(ctx, s.r, kind, message, res)
}
