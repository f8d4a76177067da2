package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// Bounds of connection packages and requests.
const (
	maxPackages       = 64
	maxPackageSize    = 8192
	maxRequestSize    = 8192
	packageLifetime   = 31 * 24 * time.Hour // packages are valid for 30 days at most (SPEC.md R-30)
	requestLifetime   = 30 * 24 * time.Hour
	publishedFor      = 48 * time.Hour // how long a publication may be repeated
	prefixPackage     = "cp"
	nameLastResort    = "cplast"
	prefixWaiting     = "cr"
	maxListedRequests = 64
)

// packageIndex leads from a package's hash to its user: requests name packages.
func packageIndex(ref []byte) kv.Key { return kv.Key{Group: "p" + string(ref), Name: nameIndex} }

// PublishConnectionPackages implements the service. It adds the packages and
// replaces the last-resort one; unused older ones stay until they expire.
func (s *AccountService) PublishConnectionPackages(ctx context.Context, req *relayv1.PublishConnectionPackagesRequest) (*relayv1.PublishConnectionPackagesResponse, error) {
	a, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	if len(req.GetPackages()) > maxPackages {
		return nil, &grpcserver.FieldError{Field: "packages", Rule: "must be at most 64"}
	}
	packages, err := s.checkPackages(a, req, time.Now())
	if err != nil {
		return nil, err
	}
	stored, err := s.packagesLeft(ctx, a.user)
	if err != nil {
		return nil, err
	}
	// A repeat, because the answer was lost, must not bring back what was fetched.
	done := accountKey(a.user, prefixPublished+publication(packages))
	if _, err := s.r.cfg.Accounts.Get(ctx, done); err == nil {
		return &relayv1.PublishConnectionPackagesResponse{Stored: uint32(stored)}, nil
	} else if !errors.Is(err, kv.ErrNotFound) {
		return nil, err
	}
	if stored+len(req.GetPackages()) > 2*maxPackages {
		return nil, mmrerr.Limit // before the indexes are written
	}
	ops := []kv.Op{{Key: done, Value: []byte{1}, TTL: publishedFor}}
	for _, p := range packages {
		name := nameLastResort
		if !p.lastResort {
			name = prefixPackage + "/" + hex.EncodeToString(p.ref[:])
		}
		// The index first: a package that can be fetched can be answered.
		_, err := s.r.cfg.Accounts.Apply(ctx, []kv.Op{{Key: packageIndex(p.ref[:]), Value: []byte(a.user), TTL: p.ttl + requestLifetime}})
		if err != nil {
			return nil, err
		}
		ops = append(ops, kv.Op{Key: accountKey(a.user, name), Value: p.raw, TTL: p.ttl})
	}
	box := quota{store: s.r.cfg.Accounts, guard: accountKey(a.user, nameAccount), prefix: prefixPackage + "/", max: 2 * maxPackages}
	if stored, err = box.add(ctx, ops...); err != nil {
		return nil, err
	}
	return &relayv1.PublishConnectionPackagesResponse{Stored: uint32(stored)}, nil
}

// publication names a request by its packages.
func publication(packages []publishedPackage) string {
	h := sha256.New()
	for _, p := range packages {
		h.Write(p.ref[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// publishedPackage is a connection package that passed.
type publishedPackage struct {
	raw        []byte
	ref        [32]byte
	lastResort bool
	ttl        time.Duration
}

// checkPackages makes the checks that fetchers make (SPEC.md R-30). Above all a
// package must be of the account that publishes it: requests find their way by
// the package's hash, and nobody may put another user's packages, which anybody
// can fetch, under the own name.
func (s *AccountService) checkPackages(a session, req *relayv1.PublishConnectionPackagesRequest, now time.Time) ([]publishedPackage, error) {
	user, err := pseudonym.NewHandle(s.r.cfg.Domain, pseudonym.User, a.user)
	if err != nil {
		return nil, err
	}
	roots := pseudonym.Roots{s.r.cfg.Domain: s.r.cfg.Keys.ClientCAs()}
	var out []publishedPackage
	seen := make(map[[32]byte]bool)
	for i, raw := range append(slices.Clone(req.GetPackages()), req.GetLastResort()) {
		field := "packages"
		if i == len(req.GetPackages()) {
			field = "last_resort"
		}
		bad := &grpcserver.FieldError{Field: field, Rule: "must be valid connection packages of this user, at most 8192 bytes each, no two alike"}
		if len(raw) > maxPackageSize {
			return nil, bad
		}
		p, err := pseudonym.ParseConnectionPackage(raw)
		if err != nil || p.LastResort != (field == "last_resort") {
			return nil, bad
		}
		if _, err := p.Verify(user, roots, now); err != nil {
			return nil, bad
		}
		ref := p.Hash()
		if seen[ref] {
			return nil, bad
		}
		seen[ref] = true
		out = append(out, publishedPackage{raw, ref, p.LastResort, min(packageLifetime, time.Unix(int64(p.NotAfter)+1, 0).Sub(now))})
	}
	return out, nil
}

func (s *AccountService) packagesLeft(ctx context.Context, user string) (int, error) {
	n := 0
	for _, err := range s.r.cfg.Accounts.Scan(ctx, accountKey(user, "").Group, prefixPackage+"/") {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// ListConnectionRequests implements the service.
func (s *AccountService) ListConnectionRequests(ctx context.Context, req *relayv1.ListConnectionRequestsRequest) (*relayv1.ListConnectionRequestsResponse, error) {
	a, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	limit := int(req.GetMax())
	if limit == 0 {
		limit = 16
	}
	if limit > maxListedRequests {
		return nil, &grpcserver.FieldError{Field: "max", Rule: "must be at most 64"}
	}
	res := &relayv1.ListConnectionRequestsResponse{}
	for rec, err := range s.r.cfg.Accounts.Scan(ctx, accountKey(a.user, "").Group, prefixWaiting+"/") {
		if err != nil {
			return nil, err
		}
		id, err := hex.DecodeString(strings.TrimPrefix(rec.Key.Name, prefixWaiting+"/"))
		if err != nil || len(rec.Value) < 32 {
			continue // not written by this program
		}
		res.Requests = append(res.Requests, &relayv1.ConnectionRequestEntry{Id: id, PackageRef: rec.Value[:32], Sealed: rec.Value[32:]})
		if len(res.Requests) == limit {
			break
		}
	}
	left, err := s.packagesLeft(ctx, a.user)
	if err != nil {
		return nil, err
	}
	res.PackagesLeft = uint32(left)
	return res, nil
}

// DeleteConnectionRequests implements the service.
func (s *AccountService) DeleteConnectionRequests(ctx context.Context, req *relayv1.DeleteConnectionRequestsRequest) (*relayv1.DeleteConnectionRequestsResponse, error) {
	a, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	if len(req.GetIds()) > maxListedRequests {
		return nil, &grpcserver.FieldError{Field: "ids", Rule: "must be at most 64"}
	}
	for _, id := range req.GetIds() {
		if len(id) != 16 {
			return nil, &grpcserver.FieldError{Field: "ids", Rule: "must be 16 bytes each"}
		}
		if err := kv.Delete(ctx, s.r.cfg.Accounts, accountKey(a.user, prefixWaiting+"/"+hex.EncodeToString(id))); err != nil {
			return nil, err
		}
	}
	return &relayv1.DeleteConnectionRequestsResponse{}, nil
}

// fetchConnectionPackage serves one one-time package, else the last-resort one
// (SPEC.md R-30). Unknown users and users without packages answer alike.
func (r *Relay) fetchConnectionPackage(ctx context.Context, _ *gateway.Call, req *relayv1.FetchConnectionPackageRequest) (*relayv1.FetchConnectionPackageResponse, error) {
	user, ok := strings.CutPrefix(req.GetUser(), "mimi://"+r.cfg.Domain+"/u/")
	if !ok || !localPart.MatchString(user) {
		return nil, mmrerr.NoConsent
	}
	for rec, err := range r.cfg.Accounts.Scan(ctx, accountKey(user, "").Group, prefixPackage+"/") {
		if err != nil {
			return nil, err
		}
		// Deleting it in the version read makes it ours alone.
		_, err := r.cfg.Accounts.Apply(ctx, []kv.Op{{Key: rec.Key, Check: true, Old: rec.Version}})
		if errors.Is(err, kv.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &relayv1.FetchConnectionPackageResponse{Package: rec.Value}, nil
	}
	rec, err := r.cfg.Accounts.Get(ctx, accountKey(user, nameLastResort))
	if errors.Is(err, kv.ErrNotFound) {
		return nil, mmrerr.NoConsent
	}
	if err != nil {
		return nil, err
	}
	return &relayv1.FetchConnectionPackageResponse{Package: rec.Value}, nil
}

// sendConnectionRequest puts a sealed request into the box of whoever published
// the package. The answer is the same whether it was stored, the box was full,
// or nobody published it (SPEC.md R-34).
func (r *Relay) sendConnectionRequest(ctx context.Context, _ *gateway.Call, req *relayv1.SendConnectionRequestRequest) (*relayv1.SendConnectionRequestResponse, error) {
	if len(req.GetPackageRef()) != 32 || len(req.GetSealed()) == 0 || len(req.GetSealed()) > maxRequestSize {
		return nil, mmrerr.Malformed
	}
	res := &relayv1.SendConnectionRequestResponse{}
	rec, err := r.cfg.Accounts.Get(ctx, packageIndex(req.GetPackageRef()))
	if errors.Is(err, kv.ErrNotFound) {
		return res, nil
	}
	if err != nil {
		return nil, err
	}
	user := string(rec.Value)
	value := slices.Concat(req.GetPackageRef(), req.GetSealed())
	// Its own hash, so that a repeat is no second request, and the order of arrival
	// is not kept.
	id := sha256.Sum256(value)
	box := quota{store: r.cfg.Accounts, guard: accountKey(user, nameAccount), prefix: prefixWaiting + "/", max: r.cfg.Limits.ConnectionBox}
	_, err = box.add(ctx, kv.Op{Key: accountKey(user, prefixWaiting+"/"+hex.EncodeToString(id[:16])), Value: value, TTL: requestLifetime})
	if err != nil && !errors.Is(err, mmrerr.Limit) && !errors.Is(err, kv.ErrNotFound) {
		return nil, err
	}
	return res, nil
}
