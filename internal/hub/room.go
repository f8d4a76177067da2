package hub

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/treewrap"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// errNewer reports stored state of a newer version of this program.
var errNewer = errors.New("hub: the store was written by a newer version")

// A room is one group of the store (SPEC.md R-100):
//
//	room        the room record, in clear but for its sealed head
//	w<row id>   sealed rows: roster, tree, wrap (big), log:<seq>, snap:<epoch>
//	o<seq>-<n>  finished outbox rows that still have to reach the outboxes
//	s<seq>      lanes of leaving leaves that still have to be marked as stopped
//	f<lane>     first envelopes whose joiners have not come
//	deleted     the room has ended, what is left of it is being deleted
//
// A sealed row is stored as uint64 version || sealed, version being that of the
// room record it was written for; which version a big row must have is in the
// head. Everything of one accepted request is one transaction of the store, so
// that there is no order in which a crash could hurt.
func roomKey(groupID []byte, name string) kv.Key {
	return kv.Key{Group: groupPrefix + string(groupID), Name: name}
}

const (
	groupPrefix    = "g"
	nameRecord     = "room"
	prefixRow      = "w"
	prefixPending  = "o"
	logFor         = 14 * 24 * time.Hour // SPEC.md R-104
	recordVersion  = 2
	headVersion    = 2
	rowHead        = "head"
	prevEpochGrace = 60 * time.Second // SPEC.md R-124
)

// record is the room record: what can be read without the room's key.
type record struct {
	n     uint64 // rises with every accepted change
	earID []byte // empty: the hub-held key
	month uint32 // of last use, months since 1970
	links []linkRecord
	muted []burn // pseudonyms that the operator muted, ascending
	head  []byte // sealed
}

type linkRecord struct {
	codeHash [32]byte
	box      []byte
	notAfter uint64
}

// bigRow names a sealed big row and the version it was written for.
type bigRow struct {
	name string
	n    uint64
}

// head is where a room stands.
type head struct {
	epoch      uint64
	seq        uint64
	chain      [32]byte
	roster     bigRow
	tree       bigRow
	wrap       bigRow // link keys: TreeWrap state, or the static scheme's entries
	epochStart uint64 // seq of the first event of the epoch
	endedAt    uint64 // when the epoch before ended, Unix milliseconds
	removed    bool   // the commit that ended it held a Remove
	keySince   uint64 // seq of the first event under the current key at rest
	used       bool   // connection rooms: the join code was used (SPEC.md R-37)
}

// room is an opened room: immutable for readers, a base for the next state.
type room struct {
	groupID []byte
	key     seal.EARKey
	version kv.Version
	record  record
	head    head

	roster *roster
	fresh  bool // the roster was read from the store
	// Cold state, loaded by loadTree.
	tree    *mls.PublicGroup
	entries map[uint32][]byte // static scheme
	wrap    *treewrap.State   // treewrap scheme
}

func newRowName(kind string) string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return kind + ":" + hex.EncodeToString(b)
}

// open reads a room's record, head and roster. Every refusal is mmr/no-room:
// it must not show whether the room exists (SPEC.md R-67).
func (h *Hub) open(ctx context.Context, groupID []byte, ear primitive.Secret) (*room, error) {
	if len(groupID) != groupIDSize {
		return nil, mmrerr.NoRoom
	}
	rec, err := h.cfg.Store.Get(ctx, roomKey(groupID, nameRecord))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, mmrerr.NoRoom
	}
	if err != nil {
		return nil, err
	}
	r := &room{groupID: groupID, version: rec.Version}
	if r.record, err = parseRecord(rec.Value); err != nil {
		return nil, err
	}
	if r.key, err = h.roomSecret(groupID, r.record.earID, ear); err != nil {
		return nil, err
	}
	b, err := r.key.OpenRow(rowHead, r.record.n, r.record.head)
	if err != nil {
		return nil, mmrerr.NoRoom
	}
	if r.head, err = parseHead(b); err != nil {
		return nil, err
	}
	if c, ok := h.cache.roster(groupID, r.head.roster); ok {
		r.roster = c
		return r, nil
	}
	if b, err = h.readBig(ctx, r, r.head.roster); err != nil {
		return nil, err
	}
	if r.roster, err = parseRoster(b); err != nil {
		return nil, err
	}
	r.fresh = true
	h.cache.putRoster(groupID, r.head.roster, r.roster)
	return r, nil
}

// roomSecret returns the key a room is sealed under: the client's, which must
// match the record, or the hub's where the room has none (SPEC.md R-101).
func (h *Hub) roomSecret(groupID, earID []byte, ear primitive.Secret) (seal.EARKey, error) {
	if len(earID) == 0 {
		if ear.Present() {
			return seal.EARKey{}, mmrerr.NoRoom
		}
		return h.heldKey(groupID), nil
	}
	if !ear.Present() {
		return seal.EARKey{}, mmrerr.NoRoom
	}
	k := seal.NewEARKey(ear, groupID)
	if id := k.ID(); !equal(id[:], earID) {
		return seal.EARKey{}, errOtherKey
	}
	return k, nil
}

// newSecret returns the key of a room that is being created.
func (h *Hub) newSecret(groupID []byte, ear primitive.Secret) seal.EARKey {
	if ear.Present() {
		return seal.NewEARKey(ear, groupID)
	}
	return h.heldKey(groupID)
}

// heldKey is the hub-held key of a room with ear = 0.
func (h *Hub) heldKey(groupID []byte) seal.EARKey {
	return seal.NewEARKey(primitive.DeriveSecret(h.cfg.Keys.StoreKey(), "mmr hub room", groupID), groupID)
}

func rowKey(r *room, name string) kv.Key {
	id := r.key.RowID(name)
	return roomKey(r.groupID, prefixRow+string(id[:]))
}

// readRow reads a sealed row. ErrNotFound of kv if it does not exist.
func (h *Hub) readRow(ctx context.Context, r *room, name string) ([]byte, uint64, error) {
	rec, err := h.cfg.Store.Get(ctx, rowKey(r, name))
	if err != nil {
		return nil, 0, err
	}
	if len(rec.Value) < 8 {
		return nil, 0, codec.ErrMalformed
	}
	n := binary.BigEndian.Uint64(rec.Value)
	b, err := r.key.OpenRow(name, n, rec.Value[8:])
	return b, n, err
}

// readBig reads a big row and insists on the version that the head names.
func (h *Hub) readBig(ctx context.Context, r *room, row bigRow) ([]byte, error) {
	b, n, err := h.readRow(ctx, r, row.name)
	if err != nil {
		return nil, err
	}
	if n != row.n {
		return nil, errRolledBack
	}
	return b, nil
}

var errRolledBack = errors.New("hub: a row of the store is older than its room")

// loadTree loads the cold state: public group and link keys.
func (h *Hub) loadTree(ctx context.Context, r *room) error {
	if r.tree != nil {
		return nil
	}
	if c, ok := h.cache.tree(r.groupID, r.head.tree); ok {
		r.tree = c
	} else {
		b, err := h.readBig(ctx, r, r.head.tree)
		if err != nil {
			return err
		}
		if r.tree, err = mls.ParsePublicGroup(b, h.mlsOptions()); err != nil {
			return err
		}
		h.cache.putTree(r.groupID, r.head.tree, r.tree)
	}
	return h.loadWrap(ctx, r)
}

// loadWrap loads the link keys.
func (h *Hub) loadWrap(ctx context.Context, r *room) error {
	if r.head.wrap.name == "" {
		return nil
	}
	if r.roster.policy.Scheme == pseudonym.SchemeTree {
		if c, ok := h.cache.get(cacheKey(r.groupID, r.head.wrap)).(*treewrap.State); ok {
			r.wrap = c
			return nil
		}
	}
	b, err := h.readBig(ctx, r, r.head.wrap)
	if err != nil {
		return err
	}
	if r.roster.policy.Scheme != pseudonym.SchemeTree {
		r.entries, err = parseEntries(b)
		return err
	}
	if r.wrap, err = treewrap.ParseState(b); err != nil {
		return err
	}
	h.cache.put(cacheKey(r.groupID, r.head.wrap), r.wrap)
	return nil
}

// change is the next state of a room, to be written in one transaction.
type change struct {
	h    *Hub
	base *room
	next *room
	ops  []kv.Op

	stopped [][16]byte // lanes that get nothing any more
	ended   bool       // the room is deleted
}

// begin starts a change: a copy of the room with the next version.
func (h *Hub) begin(base *room, now time.Time) *change {
	next := *base
	next.record.n++
	next.record.month = monthOf(now)
	next.record.links = slices.Clone(base.record.links)
	return &change{h: h, base: base, next: &next}
}

func monthOf(t time.Time) uint32 {
	u := t.UTC()
	return uint32((u.Year()-1970)*12 + int(u.Month()) - 1)
}

// row adds a sealed row.
func (c *change) row(name string, content []byte, ttl time.Duration) error {
	return c.rowUnder(c.next.key, name, content, ttl)
}

func (c *change) rowUnder(key seal.EARKey, name string, content []byte, ttl time.Duration) error {
	sealed, err := key.SealRow(name, c.next.record.n, content)
	if err != nil {
		return err
	}
	v, id := binary.BigEndian.AppendUint64(nil, c.next.record.n), key.RowID(name)
	c.ops = append(c.ops, kv.Op{Key: roomKey(c.base.groupID, prefixRow+string(id[:])), Value: append(v, sealed...), TTL: ttl})
	return nil
}

// big replaces a big row: the new content under a new name, the old one gone.
func (c *change) big(kind string, old bigRow, content []byte) (bigRow, error) {
	row := bigRow{newRowName(kind), c.next.record.n}
	if old.name != "" {
		c.ops = append(c.ops, kv.Op{Key: rowKey(c.base, old.name)})
	}
	return row, c.row(row.name, content, 0)
}

func (c *change) setRoster(r *roster) error {
	b, err := r.marshal()
	if err != nil {
		return err
	}
	c.next.roster = r
	c.next.head.roster, err = c.big("roster", c.base.head.roster, b)
	return err
}

func (c *change) setTree(g *mls.PublicGroup) error {
	b, err := g.AppendBinary(nil)
	if err != nil {
		return err
	}
	c.next.tree = g
	c.next.head.tree, err = c.big("tree", c.base.head.tree, b)
	return err
}

func (c *change) setEntries(es map[uint32][]byte) (err error) {
	c.next.entries = es
	c.next.head.wrap, err = c.big("wrap", c.base.head.wrap, marshalEntries(es))
	return err
}

func (c *change) setWrap(s *treewrap.State) error {
	b, err := s.AppendBinary(nil)
	if err != nil {
		return err
	}
	c.next.wrap = s
	c.next.head.wrap, err = c.big("wrap", c.base.head.wrap, b)
	return err
}

// commit writes the change if the room is still what it was based on.
// kv.ErrConflict if not.
func (c *change) commit(ctx context.Context) error {
	if c.ended {
		ops := append(slices.Clone(c.ops), kv.Op{Key: roomKey(c.base.groupID, nameRecord), Check: true, Old: c.base.version},
			kv.Op{Key: roomKey(c.base.groupID, nameTombstone), Value: []byte{1}})
		_, err := c.h.cfg.Store.Apply(ctx, ops)
		return err
	}
	sealed, err := c.next.key.SealRow(rowHead, c.next.record.n, c.next.head.marshal())
	if err != nil {
		return err
	}
	c.next.record.head = sealed
	ops := append(slices.Clone(c.ops), kv.Op{
		Key: roomKey(c.base.groupID, nameRecord), Value: c.next.record.marshal(), Check: true, Old: c.base.version,
	})
	vs, err := c.h.cfg.Store.Apply(ctx, ops)
	if err != nil {
		return err
	}
	c.next.version = vs[len(vs)-1]
	c.h.cache.putRoster(c.next.groupID, c.next.head.roster, c.next.roster)
	if c.next.tree != nil {
		c.h.cache.putTree(c.next.groupID, c.next.head.tree, c.next.tree)
	}
	if c.next.wrap != nil {
		c.h.cache.put(cacheKey(c.next.groupID, c.next.head.wrap), c.next.wrap)
	}
	return nil
}

func (r *record) marshal() []byte {
	b := []byte{recordVersion}
	b = binary.BigEndian.AppendUint64(b, r.n)
	b = codec.AppendVector(b, r.earID)
	b = binary.BigEndian.AppendUint32(b, r.month)
	b = codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, l := range r.links {
			b = append(b, l.codeHash[:]...)
			b = binary.BigEndian.AppendUint64(b, l.notAfter)
			b = codec.AppendVector(b, l.box)
		}
		return b
	})
	b = codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, m := range r.muted {
			b = append(b, m[:]...)
		}
		return b
	})
	return codec.AppendVector(b, r.head)
}

func parseRecord(b []byte) (record, error) {
	r := codec.NewReader(b)
	if r.Uint8() != recordVersion {
		r.Fail(errNewer)
	}
	rec := record{n: r.Uint64(), earID: r.Vector(16), month: r.Uint32()}
	ls := r.Sub(math.MaxInt)
	for !ls.Empty() {
		var l linkRecord
		ls.Copy(l.codeHash[:])
		l.notAfter = ls.Uint64()
		l.box = ls.Vector(math.MaxInt)
		rec.links = append(rec.links, l)
	}
	r.Join(ls)
	ms := r.Sub(math.MaxInt)
	for !ms.Empty() {
		var m burn
		ms.Copy(m[:])
		if n := len(rec.muted); n > 0 && slices.Compare(rec.muted[n-1][:], m[:]) >= 0 {
			ms.Fail(codec.ErrMalformed)
		}
		rec.muted = append(rec.muted, m)
	}
	r.Join(ms)
	rec.head = r.Vector(math.MaxInt)
	if err := r.Done(); err != nil {
		return record{}, err
	}
	return rec, nil
}

func (x *head) marshal() []byte {
	b := []byte{headVersion}
	b = binary.BigEndian.AppendUint64(b, x.epoch)
	b = binary.BigEndian.AppendUint64(b, x.seq)
	b = append(b, x.chain[:]...)
	for _, row := range []bigRow{x.roster, x.tree, x.wrap} {
		b = codec.AppendVector(b, row.name)
		b = binary.BigEndian.AppendUint64(b, row.n)
	}
	b = binary.BigEndian.AppendUint64(b, x.epochStart)
	b = binary.BigEndian.AppendUint64(b, x.endedAt)
	b = binary.BigEndian.AppendUint64(b, x.keySince)
	return append(b, flags(x.removed, x.used))
}

func parseHead(b []byte) (head, error) {
	r := codec.NewReader(b)
	if r.Uint8() != headVersion {
		r.Fail(errNewer)
	}
	x := head{epoch: r.Uint64(), seq: r.Uint64()}
	r.Copy(x.chain[:])
	for _, row := range []*bigRow{&x.roster, &x.tree, &x.wrap} {
		row.name = string(r.Vector(64))
		row.n = r.Uint64()
	}
	x.epochStart = r.Uint64()
	x.endedAt = r.Uint64()
	x.keySince = r.Uint64()
	f := readFlags(r, 2)
	x.removed, x.used = f&1 != 0, f&2 != 0
	if err := r.Done(); err != nil {
		return head{}, err
	}
	return x, nil
}

func logRow(seq uint64) string { return "log:" + strconv.FormatUint(seq, 10) }

// pendingName sorts by seq and part, so that a scan yields the oldest event first.
func pendingName(seq uint64, part int) string {
	return fmt.Sprintf("%s%020d-%06d", prefixPending, seq, part)
}
