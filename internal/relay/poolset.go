package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
)

var errNewer = errors.New("relay: the store was written by a newer version")

const recordVersion = 1

// pool is the record of a pool.
type pool struct {
	key   primitive.PublicKey // upload key
	slots [][]byte
}

func (p *pool) hasSlot(slot []byte) bool {
	return slices.ContainsFunc(p.slots, func(s []byte) bool { return bytes.Equal(s, slot) })
}

func (p *pool) marshal() []byte {
	b := append([]byte{recordVersion}, p.key.Bytes()...)
	for _, s := range p.slots {
		b = append(b, s...)
	}
	return b
}

func parsePool(b []byte) (*pool, error) {
	r := codec.NewReader(b)
	if r.Uint8() != recordVersion {
		return nil, errNewer
	}
	key, err := primitive.ParsePublicKey(primitive.Ed25519, r.Bytes(32))
	if err != nil {
		return nil, err
	}
	p := &pool{key: key}
	for !r.Empty() {
		p.slots = append(p.slots, r.Bytes(16))
	}
	return p, r.Done()
}

// packageSet is one KeyPackage per client of a user (SPEC.md R-41).
type packageSet struct {
	name    string // of its record
	version kv.Version

	user           string
	lastResort     bool
	used           uint32
	expires        uint64 // Unix seconds, the earliest not_after
	suite          uint16
	credentialType uint16
	packages       map[string][]byte // slot -> MLSMessage
}

func newSet(user string, lastResort bool) *packageSet {
	h := primitive.Hash([]byte(user))
	return &packageSet{name: hex.EncodeToString(h[:16]), user: user, lastResort: lastResort, expires: math.MaxInt64, packages: make(map[string][]byte)}
}

func (s *packageSet) marshal() []byte {
	b := []byte{recordVersion, 0}
	if s.lastResort {
		b[1] = 1
	}
	b = codec.AppendVector(b, s.user)
	b = binary.BigEndian.AppendUint32(b, s.used)
	b = binary.BigEndian.AppendUint64(b, s.expires)
	b = binary.BigEndian.AppendUint16(b, s.suite)
	b = binary.BigEndian.AppendUint16(b, s.credentialType)
	for slot, kp := range s.packages {
		b = append(b, slot...)
		b = codec.AppendVector(b, kp)
	}
	return b
}

func parseSet(name string, b []byte) (*packageSet, error) {
	r := codec.NewReader(b)
	if r.Uint8() != recordVersion {
		return nil, errNewer
	}
	s := &packageSet{name: name, packages: make(map[string][]byte)}
	s.lastResort = r.Optional()
	s.user = string(r.Vector(math.MaxInt))
	s.used = r.Uint32()
	s.expires = r.Uint64()
	s.suite = r.Uint16()
	s.credentialType = r.Uint16()
	for !r.Empty() {
		slot := string(r.Bytes(16))
		s.packages[slot] = r.Vector(math.MaxInt)
	}
	return s, r.Done()
}

// sets reads all sets of a pool.
func (r *Relay) sets(ctx context.Context, poolID []byte) ([]*packageSet, error) {
	var out []*packageSet
	for rec, err := range r.cfg.Packages.Scan(ctx, poolKey(poolID, "").Group, prefixSet) {
		if err != nil {
			return nil, err
		}
		s, err := parseSet(strings.TrimPrefix(rec.Key.Name, prefixSet), rec.Value)
		if err != nil {
			return nil, err
		}
		s.version = rec.Version
		out = append(out, s)
	}
	return out, nil
}

func (s *packageSet) complete(p *pool) bool {
	for _, slot := range p.slots {
		if s.packages[string(slot)] == nil {
			return false
		}
	}
	return true
}

func (s *packageSet) live(now time.Time) bool { return uint64(max(now.Unix(), 0)) < s.expires }

// available counts complete, unexpired, unused sets that are not last-resort.
func available(p *pool, sets []*packageSet, now time.Time) int {
	n := 0
	for _, s := range sets {
		if !s.lastResort && s.used == 0 && s.live(now) && s.complete(p) {
			n++
		}
	}
	return n
}

// choose picks the set to serve (SPEC.md R-46).
func choose(p *pool, sets []*packageSet, req *relayv1.FetchKeyPackagesRequest, now time.Time) *packageSet {
	var last, partial *packageSet
	for _, s := range sets {
		if !s.live(now) || uint32(s.suite) != req.GetCipherSuite() || !slices.Contains(req.GetCredentialTypes(), uint32(s.credentialType)) {
			continue
		}
		switch {
		case s.lastResort:
			if s.complete(p) && (last == nil || s.expires > last.expires) {
				last = s
			}
		case s.used > 0:
		case s.complete(p):
			return s
		default:
			partial = s
		}
	}
	if last != nil {
		return last
	}
	return partial
}

func (s *packageSet) response(p *pool) *relayv1.FetchKeyPackagesResponse {
	res := &relayv1.FetchKeyPackagesResponse{LastResort: s.lastResort, Partial: !s.complete(p)}
	for _, slot := range p.slots {
		if kp := s.packages[string(slot)]; kp != nil {
			res.KeyPackages = append(res.KeyPackages, kp)
		}
	}
	return res
}
