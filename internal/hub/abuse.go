package hub

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// Franking lets somebody who received a message prove to the hub what was said
// and by which pseudonym (SPEC.md R-130). A report leads to the pseudonym in its
// room and no further: there is nothing here that knows of accounts.

// frankKey is the hub_key of a room's franks.
func (h *Hub) frankKey(groupID []byte) primitive.Secret {
	return primitive.DeriveSecret(h.cfg.Keys.StoreKey(), "mmr hub frank", groupID)
}

func (h *Hub) frankContext(groupID []byte, sender pseudonym.ID, acceptedMS uint64) seal.FrankContext {
	return seal.FrankContext{SenderURI: sender.String(), RoomURI: pseudonym.RoomURI(h.cfg.Domain, groupID), AcceptedMS: acceptedMS}
}

// frank attests the franking tag of a message, if it has one.
func (h *Hub) frank(r *room, l *leaf, items pseudonym.AAD, now time.Time) (*seal.Frank, error) {
	data, ok := items.Get(pseudonym.AADFrank)
	if !ok {
		return nil, nil
	}
	if len(data) != 32 {
		return nil, mmrerr.AAD
	}
	return seal.NewFrank(h.frankKey(r.groupID), h.identity(r.roster.suite), r.roster.suite, [32]byte(data), h.frankContext(r.groupID, l.user, uint64(now.UnixMilli())))
}

// Limits of reports.
const (
	maxReported   = 262_144
	maxNote       = 4096
	reportGroup   = "reports"
	reportVersion = 1
	// reportsPerDay bounds what reporters can make the hub keep, in bytes.
	reportsPerDay = 64 << 20
	// defaultReportsFor is how long a report waits for the operator.
	defaultReportsFor = 30 * 24 * time.Hour
)

// Report is what the operator sees of a report of abuse.
type Report struct {
	ID         string // hex
	GroupID    []byte
	Sender     string // user pseudonym
	AcceptedMS uint64
	Content    []byte // application_data, as the reporter disclosed it
	Note       string
}

// reportAbuse takes a report (SPEC.md R-131). It costs a token and is signed by
// nobody: who reports is not known. Everything is recomputed.
func (h *Hub) reportAbuse(ctx context.Context, c *gateway.Call, req *hubv1.ReportAbuseRequest) (*hubv1.ReportAbuseResponse, error) {
	sender, err := pseudonym.ParseID(req.GetSender())
	if err != nil || sender.Kind() != pseudonym.User || c.Auth.Kind != seal.AuthNone || len(req.GetSalt()) != seal.FrankSaltSize ||
		len(req.GetApplicationData()) > maxReported || len(req.GetNote()) > maxNote || !utf8.ValidString(req.GetNote()) {
		return nil, mmrerr.Malformed
	}
	f, err := seal.ParseFrank(req.GetFrank())
	if err != nil {
		return nil, err
	}
	// Who reports has the room's key, of now or of then.
	if _, err := h.open(ctx, c.GroupID, c.EARKey); errors.Is(err, errOtherKey) {
		if s, err := h.openGeneration(ctx, c); err != nil {
			return nil, err
		} else if s == nil {
			return nil, mmrerr.NoRoom
		}
	} else if err != nil {
		return nil, err
	}
	context := h.frankContext(c.GroupID, sender, req.GetAcceptedMs())
	tag := seal.FrankingTag([seal.FrankSaltSize]byte(req.GetSalt()), req.GetApplicationData())
	if f.Recompute(h.frankKey(c.GroupID), tag, context) != nil || f.Verify(h.identity(f.Suite).Public(), context) != nil {
		return nil, mmrerr.Signature
	}
	id := primitive.Hash([]byte("report"), f.ServerFrank[:])
	err = h.keepReport(ctx, Report{
		ID: hex.EncodeToString(id[:16]), GroupID: c.GroupID, Sender: sender.String(), AcceptedMS: req.GetAcceptedMs(), Content: req.GetApplicationData(), Note: req.GetNote(),
	}, c.Now)
	if err != nil {
		return nil, err
	}
	h.metrics.events.WithLabelValues("report").Inc()
	return &hubv1.ReportAbuseResponse{}, nil
}

// keepReport stores a report, once per message, within what a day may bring.
func (h *Hub) keepReport(ctx context.Context, r Report, now time.Time) error {
	content := r.marshal()
	sealed, err := h.reportKey().SealRow(r.ID, 1, content)
	if err != nil {
		return err
	}
	key := kv.Key{Group: reportGroup, Name: "r" + r.ID}
	if _, err := h.cfg.Store.Get(ctx, key); err == nil {
		return nil // reported before
	} else if !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	day := kv.Key{Group: reportGroup, Name: "d" + now.UTC().Format(time.DateOnly)}
	rec, err := h.cfg.Store.Get(ctx, day)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return err
	}
	used := uint64(0)
	if len(rec.Value) == 8 {
		used = binary.BigEndian.Uint64(rec.Value)
	}
	if used += uint64(len(sealed)); used > reportsPerDay {
		return mmrerr.RateLimited
	}
	_, err = h.cfg.Store.Apply(ctx, []kv.Op{
		{Key: key, Value: sealed, TTL: h.cfg.ReportRetention},
		{Key: day, Value: binary.BigEndian.AppendUint64(nil, used), TTL: 48 * time.Hour, Check: true, Old: rec.Version},
	})
	return err // a conflict is tried again by handle
}

// reportKey seals reports at rest; they have contents and name rooms.
func (h *Hub) reportKey() seal.EARKey {
	return seal.NewEARKey(primitive.DeriveSecret(h.cfg.Keys.StoreKey(), "mmr hub reports", nil), []byte(reportGroup))
}

func (r *Report) marshal() []byte {
	b := []byte{reportVersion}
	b = codec.AppendVector(b, r.GroupID)
	b = codec.AppendVector(b, r.Sender)
	b = binary.BigEndian.AppendUint64(b, r.AcceptedMS)
	b = codec.AppendVector(b, r.Content)
	return codec.AppendVector(b, r.Note)
}

func parseReport(id string, b []byte) (Report, error) {
	r := codec.NewReader(b)
	if r.Uint8() != reportVersion {
		r.Fail(errNewer)
	}
	rep := Report{ID: id, GroupID: r.Vector(groupIDSize), Sender: string(r.Vector(math.MaxInt)), AcceptedMS: r.Uint64()}
	rep.Content = r.Vector(math.MaxInt)
	rep.Note = string(r.Vector(math.MaxInt))
	return rep, r.Done()
}

// Reports yields what was reported and not yet expired or dropped.
func (h *Hub) Reports(ctx context.Context, yield func(Report) error) error {
	for rec, err := range h.cfg.Store.Scan(ctx, reportGroup, "r") {
		if err != nil {
			return err
		}
		id := rec.Key.Name[1:]
		b, err := h.reportKey().OpenRow(id, 1, rec.Value)
		if err != nil {
			return err
		}
		r, err := parseReport(id, b)
		if err != nil {
			return err
		}
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

// DropReport deletes a report that the operator has dealt with.
func (h *Hub) DropReport(ctx context.Context, id string) error {
	return kv.Delete(ctx, h.cfg.Store, kv.Key{Group: reportGroup, Name: "r" + id})
}

// ErrNoRoom reports a room that is not there.
var ErrNoRoom = errors.New("hub: no such room")

// maxMuted bounds the muted pseudonyms of one room.
const maxMuted = 1000

// muteMark is how a room's record names a muted pseudonym.
func muteMark(groupID []byte, user pseudonym.ID) burn {
	h := primitive.Hash([]byte("mute"), groupID, []byte(user.String()))
	return burn(h[:16])
}

// Mute stops a pseudonym from sending messages to a room, or lets it again. The
// room is not opened for it.
func (h *Hub) Mute(ctx context.Context, groupID []byte, user pseudonym.ID, muted bool) error {
	for {
		rec, err := h.cfg.Store.Get(ctx, roomKey(groupID, nameRecord))
		if errors.Is(err, kv.ErrNotFound) {
			return ErrNoRoom
		}
		if err != nil {
			return err
		}
		record, err := parseRecord(rec.Value)
		if err != nil {
			return err
		}
		mark := muteMark(groupID, user)
		i, has := slices.BinarySearchFunc(record.muted, mark, func(a, b burn) int { return slices.Compare(a[:], b[:]) })
		switch {
		case has == muted:
			return nil
		case !muted:
			record.muted = slices.Delete(record.muted, i, i+1)
		case len(record.muted) >= maxMuted:
			return errors.New("hub: too many muted pseudonyms in the room")
		default:
			record.muted = slices.Insert(record.muted, i, mark)
		}
		_, err = h.cfg.Store.Apply(ctx, []kv.Op{{Key: rec.Key, Value: record.marshal(), Check: true, Old: rec.Version}})
		if !errors.Is(err, kv.ErrConflict) {
			return err
		}
	}
}

func (r *room) isMuted(user pseudonym.ID) bool {
	return slices.Contains(r.record.muted, muteMark(r.groupID, user))
}
