package relay

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
	"github.com/mmrelay/mmrelay/pkg/pseudonym/leafcheck"
)

// Bounds of pools (SPEC.md §19, R-43, R-48).
const (
	maxSlots        = 10
	maxSets         = 100
	maxSetsPerBatch = 32
	maxKeyPackage   = 16384
	fetchesPerHour  = 10
	lowWater        = 8 // fewer unused sets than this raise the owner's notice
	poolLifetime    = 400 * 24 * time.Hour
)

// Records of a pool, all in the group of its id:
//
//	pool        upload key and slots
//	set/<H>     a set, by the hash of its user pseudonym
//	fetch/<h>   how many sets were served in an hour
//	again/<id>  the set that a request was served, for its repeats
func poolKey(id []byte, name string) kv.Key { return kv.Key{Group: "p" + string(id), Name: name} }

const (
	namePool    = "pool"
	prefixSet   = "set/"
	prefixFetch = "fetch/"
	prefixAgain = "again/"
)

// ownedPool authenticates a pool's owner. Unknown pools and wrong keys answer
// alike, after the same work (SPEC.md R-67).
func (r *Relay) ownedPool(ctx context.Context, c *gateway.Call, id []byte) (*pool, kv.Version, error) {
	if len(id) != 32 {
		return nil, 0, mmrerr.Malformed
	}
	rec, err := r.cfg.Packages.Get(ctx, poolKey(id, namePool))
	p := &pool{key: nobody}
	if err == nil {
		p, err = parsePool(rec.Value)
	}
	missing := errors.Is(err, kv.ErrNotFound)
	if err != nil && !missing {
		return nil, 0, err
	}
	if c.Verify(p.key) != nil || missing {
		return nil, 0, mmrerr.NoConsent
	}
	return p, rec.Version, nil
}

func checkSlots(slots [][]byte) bool {
	if len(slots) == 0 || len(slots) > maxSlots {
		return false
	}
	for i, s := range slots {
		if len(s) != 16 || slices.ContainsFunc(slots[:i], func(t []byte) bool { return bytes.Equal(s, t) }) {
			return false
		}
	}
	return true
}

// poolCreate makes a pool for whoever holds the upload key (SPEC.md §15).
func (r *Relay) poolCreate(ctx context.Context, c *gateway.Call, req *relayv1.PoolCreateRequest) (*relayv1.PoolCreateResponse, error) {
	key, err := primitive.ParsePublicKey(primitive.Ed25519, req.GetUploadKey())
	if err != nil || c.Verify(key) != nil || len(req.GetPoolId()) != 32 || !checkSlots(req.GetSlots()) {
		return nil, mmrerr.Malformed
	}
	p := &pool{key: key, slots: req.GetSlots()}
	_, err = kv.Put(ctx, r.cfg.Packages, poolKey(req.GetPoolId(), namePool), 0, p.marshal(), poolLifetime)
	if errors.Is(err, kv.ErrConflict) {
		// A repeat of the same request is answered again; anything else is refused
		// as if the pool were another's.
		if _, _, err := r.ownedPool(ctx, c, req.GetPoolId()); err != nil {
			return nil, err
		}
		return &relayv1.PoolCreateResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &relayv1.PoolCreateResponse{}, nil
}

// poolSlots replaces the slots. Sets that lack a package for a new slot become
// incomplete.
func (r *Relay) poolSlots(ctx context.Context, c *gateway.Call, req *relayv1.PoolSlotsRequest) (*relayv1.PoolSlotsResponse, error) {
	for {
		p, v, err := r.ownedPool(ctx, c, req.GetPoolId())
		if err != nil {
			return nil, err
		}
		if !checkSlots(req.GetSlots()) {
			return nil, mmrerr.Malformed
		}
		p.slots = req.GetSlots()
		_, err = kv.Put(ctx, r.cfg.Packages, poolKey(req.GetPoolId(), namePool), v, p.marshal(), poolLifetime)
		if err == nil {
			return &relayv1.PoolSlotsResponse{}, nil
		}
		if !errors.Is(err, kv.ErrConflict) { // an upload came in between
			return nil, err
		}
	}
}

// poolUpload checks every package of a batch, then stores all sets or none
// (SPEC.md R-43). Somebody else may change the pool meanwhile: then it begins
// again.
func (r *Relay) poolUpload(ctx context.Context, c *gateway.Call, req *relayv1.PoolUploadRequest) (*relayv1.PoolUploadResponse, error) {
	for {
		res, err := r.tryUpload(ctx, c, req)
		if !errors.Is(err, kv.ErrConflict) {
			return res, err
		}
	}
}

func (r *Relay) tryUpload(ctx context.Context, c *gateway.Call, req *relayv1.PoolUploadRequest) (*relayv1.PoolUploadResponse, error) {
	p, v, err := r.ownedPool(ctx, c, req.GetPoolId())
	if err != nil {
		return nil, err
	}
	if n := len(req.GetSets()); n == 0 || n > maxSetsPerBatch {
		return nil, mmrerr.Malformed
	}
	sets, err := r.sets(ctx, req.GetPoolId())
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for _, s := range sets {
		names[s.name] = true
	}
	fresh := make(map[string]*packageSet)
	for _, in := range req.GetSets() {
		s, err := r.checkSet(p, in, c.Now)
		if err != nil {
			return nil, err
		}
		if fresh[s.name] != nil {
			return nil, mmrerr.PackageInvalid // one set twice in a batch
		}
		fresh[s.name], names[s.name] = s, true
	}
	if len(names) > maxSets {
		return nil, mmrerr.PoolFull
	}
	// Only while the pool is there: nothing of a deleted one may come back.
	still := kv.Op{Key: poolKey(req.GetPoolId(), namePool), Value: p.marshal(), TTL: poolLifetime, Check: true, Old: v}
	if err := r.putSets(ctx, req.GetPoolId(), fresh, still, c.Now); err != nil {
		return nil, err
	}
	if sets, err = r.sets(ctx, req.GetPoolId()); err != nil {
		return nil, err
	}
	return &relayv1.PoolUploadResponse{Available: uint32(available(p, sets, c.Now))}, nil
}

// checkSet is the upload check of SPEC.md R-43 for one set.
func (r *Relay) checkSet(p *pool, in *relayv1.PoolSet, now time.Time) (*packageSet, error) {
	if len(in.GetPackages()) == 0 || len(in.GetPackages()) > maxSlots {
		return nil, mmrerr.PackageInvalid
	}
	user, err := pseudonym.ParseID(in.GetUserPseudonym())
	if err != nil || user.Kind() != pseudonym.User || user.Host() != r.cfg.Domain {
		return nil, mmrerr.PackageInvalid
	}
	s := newSet(user.String(), in.GetLastResort())
	clients := make(map[pseudonym.ID]bool)
	for _, in := range in.GetPackages() {
		if !p.hasSlot(in.GetSlot()) || s.packages[string(in.GetSlot())] != nil || len(in.GetKeyPackage()) > maxKeyPackage {
			return nil, mmrerr.PackageInvalid
		}
		kp, err := mls.ParseKeyPackage(in.GetKeyPackage(), nil)
		if err != nil || mls.VerifyKeyPackage(kp, now, nil) != nil {
			return nil, mmrerr.PackageInvalid
		}
		l, err := leafcheck.Check(kp.Leaf, kp.Suite, []mls.CredentialType{mls.CredentialBasic, mls.CredentialType(pseudonym.CredentialPseudonymous)}, r.ownQueueKey(now))
		if err != nil || l.Credential.User != user || clients[l.Credential.Client] {
			return nil, mmrerr.PackageInvalid
		}
		if last, err := leafcheck.Package(kp); err != nil || last != s.lastResort {
			return nil, mmrerr.PackageInvalid
		}
		suite, credentialType := uint16(kp.Suite), uint16(kp.Leaf.Credential.Type)
		if len(clients) > 0 && (suite != s.suite || credentialType != s.credentialType) {
			return nil, mmrerr.PackageInvalid // a set is for one room
		}
		clients[l.Credential.Client] = true
		s.packages[string(in.GetSlot())] = in.GetKeyPackage()
		s.expires = min(s.expires, kp.Leaf.Lifetime.NotAfter)
		s.suite, s.credentialType = suite, credentialType
	}
	return s, nil
}

// ownQueueKey accepts this provider's published queue keys.
func (r *Relay) ownQueueKey(now time.Time) func(string, uint8) bool {
	return func(domain string, id uint8) bool {
		_, ok := r.cfg.Keys.QueueKey(id, now)
		return ok && domain == r.cfg.Domain
	}
}

// putSets stores the sets of a batch together, with still. The packages of a set
// that a sibling has begun are added to it. ErrConflict of kv if one changed
// meanwhile.
func (r *Relay) putSets(ctx context.Context, poolID []byte, fresh map[string]*packageSet, still kv.Op, now time.Time) error {
	names := slices.Sorted(maps.Keys(fresh))
	records := make([]string, len(names))
	for i, n := range names {
		records[i] = prefixSet + n
	}
	olds, err := r.cfg.Packages.GetMany(ctx, poolKey(poolID, "").Group, records)
	if err != nil {
		return err
	}
	ops := []kv.Op{still}
	for i, n := range names {
		s, err := fresh[n].onto(olds[i])
		if err != nil {
			return err
		}
		ttl := time.Unix(int64(s.expires), 0).Sub(now)
		if ttl <= 0 {
			return mmrerr.PackageInvalid
		}
		ops = append(ops, kv.Op{Key: poolKey(poolID, records[i]), Value: s.marshal(), TTL: ttl, Check: true, Old: olds[i].Version})
	}
	_, err = r.cfg.Packages.Apply(ctx, ops)
	return err
}

// onto returns the set with its packages added to the record that is there. A
// set that was served is not completed any more; that it comes again, because
// the answer to its upload was lost, changes nothing.
func (s *packageSet) onto(rec kv.Record) (*packageSet, error) {
	if rec.Version == 0 {
		return s, nil
	}
	old, err := parseSet(s.name, rec.Value)
	if err != nil {
		return nil, err
	}
	if old.lastResort != s.lastResort || old.suite != s.suite || old.credentialType != s.credentialType {
		return nil, mmrerr.PackageInvalid
	}
	if old.used > 0 {
		for slot, kp := range s.packages {
			if !bytes.Equal(old.packages[slot], kp) {
				return nil, mmrerr.PackageInvalid
			}
		}
		return old, nil
	}
	maps.Copy(old.packages, s.packages)
	old.expires = min(old.expires, s.expires)
	return old, nil
}

func (r *Relay) poolList(ctx context.Context, c *gateway.Call, req *relayv1.PoolListRequest) (*relayv1.PoolListResponse, error) {
	p, _, err := r.ownedPool(ctx, c, req.GetPoolId())
	if err != nil {
		return nil, err
	}
	sets, err := r.sets(ctx, req.GetPoolId())
	if err != nil {
		return nil, err
	}
	res := &relayv1.PoolListResponse{LowWater: available(p, sets, c.Now) < lowWater}
	for _, s := range sets {
		e := &relayv1.PoolListEntry{UserPseudonym: s.user, LastResort: s.lastResort, Used: s.used}
		for slot := range s.packages {
			e.Filled = append(e.Filled, []byte(slot))
		}
		slices.SortFunc(e.Filled, bytes.Compare)
		res.Sets = append(res.Sets, e)
	}
	return res, nil
}

// poolDelete ends a connection's consent. Its key and everything else of the pool
// go in one transaction, so that nothing is left that nobody can ask for.
func (r *Relay) poolDelete(ctx context.Context, c *gateway.Call, req *relayv1.PoolDeleteRequest) (*relayv1.PoolDeleteResponse, error) {
	for {
		_, v, err := r.ownedPool(ctx, c, req.GetPoolId())
		if err != nil {
			return nil, err
		}
		// What comes into the pool changes its record, or is a set that was there.
		ops := []kv.Op{{Key: poolKey(req.GetPoolId(), namePool), Check: true, Old: v}}
		for rec, err := range r.cfg.Packages.Scan(ctx, poolKey(req.GetPoolId(), "").Group, "") {
			if err != nil {
				return nil, err
			}
			if rec.Key != ops[0].Key {
				ops = append(ops, kv.Op{Key: rec.Key})
			}
		}
		if _, err = r.cfg.Packages.Apply(ctx, ops); err == nil {
			return &relayv1.PoolDeleteResponse{}, nil
		}
		if !errors.Is(err, kv.ErrConflict) {
			return nil, err
		}
	}
}

// fetchKeyPackages serves one set: a complete unused one, else the newest
// last-resort one, else an incomplete one flagged so, else mmr/no-consent, as
// for unknown tokens (SPEC.md ).
func (r *Relay) fetchKeyPackages(ctx context.Context, c *gateway.Call, req *relayv1.FetchKeyPackagesRequest) (*relayv1.FetchKeyPackagesResponse, error) {
	if len(req.GetConnectionToken()) != 32 || len(req.GetCredentialTypes()) > 8 {
		return nil, mmrerr.Malformed
	}
	secret, err := primitive.ParseSecret(req.GetConnectionToken())
	if err != nil {
		return nil, mmrerr.Malformed
	}
	id := pseudonym.PoolID(secret)
	again := poolKey(id[:], prefixAgain+hex.EncodeToString(c.RequestID[:]))
	rec, err := r.cfg.Packages.Get(ctx, again)
	if err == nil {
		return r.servedBefore(ctx, id[:], string(rec.Value))
	}
	if !errors.Is(err, kv.ErrNotFound) {
		return nil, err
	}
	rec, err = r.cfg.Packages.Get(ctx, poolKey(id[:], namePool))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, mmrerr.NoConsent
	}
	if err != nil {
		return nil, err
	}
	p, err := parsePool(rec.Value)
	if err != nil {
		return nil, err
	}
	for {
		sets, err := r.sets(ctx, id[:])
		if err != nil {
			return nil, err
		}
		s := choose(p, sets, req, c.Now)
		if s == nil {
			return nil, mmrerr.NoConsent
		}
		ops, err := r.chargeFetch(ctx, id[:], c.Now)
		if err != nil {
			return nil, err
		}
		s.used++
		ops = append(ops,
			kv.Op{Key: poolKey(id[:], prefixSet+s.name), Value: s.marshal(), TTL: time.Unix(int64(s.expires), 0).Sub(c.Now), Check: true, Old: s.version},
			kv.Op{Key: again, Value: []byte(s.name), TTL: 10 * time.Minute})
		if _, err := r.cfg.Packages.Apply(ctx, ops); errors.Is(err, kv.ErrConflict) {
			continue // another adder was served this set
		} else if err != nil {
			return nil, err
		}
		return s.response(p), nil
	}
}

// servedBefore repeats the answer to a request that came before (SPEC.md R-66).
func (r *Relay) servedBefore(ctx context.Context, id []byte, name string) (*relayv1.FetchKeyPackagesResponse, error) {
	rs, err := r.cfg.Packages.GetMany(ctx, poolKey(id, "").Group, []string{namePool, prefixSet + name})
	if err != nil {
		return nil, err
	}
	if rs[0].Version == 0 || rs[1].Version == 0 {
		return nil, mmrerr.NoConsent
	}
	p, err := parsePool(rs[0].Value)
	if err != nil {
		return nil, err
	}
	s, err := parseSet(name, rs[1].Value)
	if err != nil {
		return nil, err
	}
	return s.response(p), nil
}

// chargeFetch counts a fetch against the pool's hour (SPEC.md R-48). Over the
// limit answers like an empty pool: it must not tell a stranger more.
func (r *Relay) chargeFetch(ctx context.Context, id []byte, now time.Time) ([]kv.Op, error) {
	key := poolKey(id, prefixFetch+now.UTC().Format("2006-01-02T15"))
	rec, err := r.cfg.Packages.Get(ctx, key)
	if err != nil && !errors.Is(err, kv.ErrNotFound) {
		return nil, err
	}
	n := byte(0)
	if len(rec.Value) == 1 {
		n = rec.Value[0]
	}
	if n >= fetchesPerHour {
		return nil, mmrerr.NoConsent
	}
	return []kv.Op{{Key: key, Value: []byte{n + 1}, TTL: 2 * time.Hour, Check: true, Old: rec.Version}}, nil
}
