package hub

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"math"
	"math/big"
	"slices"
	"time"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// One-time addresses (SPEC.md R-79): further seals of a leaf's mailbox, each of
// which is used for one delivery, so that the relay does not see from the bytes
// which deliveries belong to one leaf. Like all that is finished for delivery
// they are kept by lane, outside of the room: the dispatcher takes them.

const (
	sealGroup    = "seals"
	sealVersion  = 1
	maxSeals     = 256
	recentPuts   = 4
	sealsKeptFor = 90 * 24 * time.Hour // as long as a provider honours its queue key
)

// oneTime is a stored seal.
type oneTime struct {
	keyID  uint8
	sealed []byte
}

// seals are what a lane has left.
type seals struct {
	recent [][16]byte // requests that were taken, for repeats
	list   []oneTime
}

func sealKey(lane [16]byte) kv.Key { return kv.Key{Group: sealGroup, Name: string(lane[:])} }

func (s *seals) marshal() []byte {
	b := []byte{sealVersion}
	b = codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, x := range s.recent {
			b = append(b, x[:]...)
		}
		return b
	})
	return codec.AppendVectorFunc(b, func(b []byte) []byte {
		for _, x := range s.list {
			b = codec.AppendVector(append(b, x.keyID), x.sealed)
		}
		return b
	})
}

func parseSeals(b []byte) (*seals, error) {
	r := codec.NewReader(b)
	if r.Uint8() != sealVersion {
		r.Fail(errNewer)
	}
	s := new(seals)
	rs := r.Sub(math.MaxInt)
	for !rs.Empty() {
		var x [16]byte
		rs.Copy(x[:])
		s.recent = append(s.recent, x)
	}
	r.Join(rs)
	ls := r.Sub(math.MaxInt)
	for !ls.Empty() {
		s.list = append(s.list, oneTime{ls.Uint8(), ls.Vector(math.MaxInt)})
	}
	r.Join(ls)
	if err := r.Done(); err != nil {
		return nil, err
	}
	return s, nil
}

// take removes one at random.
func (s *seals) take() oneTime {
	n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(s.list)))) // never fails
	i := int(n.Int64())
	x := s.list[i]
	s.list = slices.Delete(s.list, i, i+1)
	return x
}

// putSeals stores further seals of the caller's mailbox.
func (h *Hub) putSeals(ctx context.Context, c *gateway.Call, req *hubv1.PutSealsRequest) (*hubv1.PutSealsResponse, error) {
	r, l, err := h.authenticate(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := h.admitChange(ctx, r, l, true); err != nil {
		return nil, err
	}
	if n := len(req.GetSeals()); n == 0 || n > maxSeals || req.GetKeyId() > math.MaxUint8 {
		return nil, mmrerr.Malformed
	}
	id := uint8(req.GetKeyId())
	var added []oneTime
	var all []byte
	for _, s := range req.GetSeals() {
		if err := seal.CheckSealed(s); err != nil {
			return nil, err
		}
		if bytes.Equal(s, l.sealed) || slices.ContainsFunc(added, func(x oneTime) bool { return bytes.Equal(x.sealed, s) }) {
			return nil, mmrerr.PseudonymReused
		}
		added, all = append(added, oneTime{id, s}), codec.AppendVector(all, s)
	}
	if !h.queueKey(l.domain, id) {
		return nil, mmrerr.QueueDomain
	}
	hash := primitive.Hash(all)
	rec, err := h.cfg.Store.Get(ctx, sealKey(l.lane))
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return nil, err
	}
	has := new(seals)
	if rec.Version != 0 {
		if has, err = parseSeals(rec.Value); err != nil {
			return nil, err
		}
	}
	if slices.Contains(has.recent, [16]byte(hash[:16])) { // a repeat: some may have been used
		return &hubv1.PutSealsResponse{Stored: uint32(len(has.list))}, nil
	}
	if len(has.list)+len(added) > maxSeals {
		return nil, mmrerr.Limit
	}
	has.list = append(has.list, added...)
	has.recent = append(has.recent, [16]byte(hash[:16]))
	has.recent = has.recent[max(0, len(has.recent)-recentPuts):]
	if _, err := kv.Put(ctx, h.cfg.Store, sealKey(l.lane), rec.Version, has.marshal(), sealsKeptFor); err != nil {
		return nil, err // a conflict is tried again by handle
	}
	return &hubv1.PutSealsResponse{Stored: uint32(len(has.list))}, nil
}

// address gives the rows of a batch one-time addresses where their lanes have
// some. Each is taken out of the store before it is used: one that was taken and
// not sent is lost, one that was sent is never sent again.
func (d *delivery) address(ctx context.Context, batch []due) error {
	var names []string
	rows := make(map[string][]int)
	for i := range batch {
		lane := string(batch[i].row.lane[:])
		if rows[lane] == nil {
			names = append(names, lane)
		}
		rows[lane] = append(rows[lane], i)
	}
	recs, err := d.h.cfg.Store.GetMany(ctx, sealGroup, names)
	if err != nil {
		return err
	}
	for n, rec := range recs {
		if rec.Version == 0 {
			continue
		}
		s, err := parseSeals(rec.Value)
		if err != nil {
			return err
		}
		taken := make(map[int]oneTime)
		for _, i := range rows[names[n]] {
			if len(s.list) > 0 {
				taken[i] = s.take()
			}
		}
		if len(taken) == 0 {
			continue
		}
		_, err = kv.Put(ctx, d.h.cfg.Store, kv.Key{Group: sealGroup, Name: names[n]}, rec.Version, s.marshal(), sealsKeptFor)
		if errors.Is(err, kv.ErrConflict) {
			continue // more are coming just now; the leaf's own address will do
		}
		if err != nil {
			return err
		}
		for i, x := range taken {
			batch[i].row.keyID, batch[i].row.sealed, batch[i].oneTime = x.keyID, x.sealed, true
		}
	}
	return nil
}

// forgetSeals deletes the one-time addresses of lanes that are no leaf's any
// more. What it misses expires.
func (h *Hub) forgetSeals(ctx context.Context, before, after *roster) {
	for _, l := range before.leaves {
		if n := after.leaf(l.index); n != nil && n.lane == l.lane {
			continue
		}
		if _, err := h.cfg.Store.Get(ctx, sealKey(l.lane)); err == nil {
			_ = h.dropSeals(ctx, l.lane)
		}
	}
}

// dropSeals forgets a lane's one-time addresses: the relay did not take one, so
// the leaf's own address shall decide.
func (h *Hub) dropSeals(ctx context.Context, lane [16]byte) error {
	return kv.Delete(ctx, h.cfg.Store, sealKey(lane))
}
