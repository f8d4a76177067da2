package relay

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	relayv1 "github.com/mmrelay/mmrelay/gen/mmr/relay/v1"
	"github.com/mmrelay/mmrelay/internal/grpcserver"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// Records of the account store, the only store that knows who a user is. A
// user's records are one group:
//
//	account            exists
//	client/<client>    a client of the user
//	tokens/<day>       how many tokens were issued on the UTC day
//	issue/<hash>       a token request that was answered (idempotency)
//	cp<ref>, cplast    connection packages (connection.go)
//	published/<hash>   a publication of packages that was answered (idempotency)
//	cr<id>             connection requests (connection.go)
//
// and two indexes, groups of their own: a client's name, a package's ref.
const (
	nameAccount     = "account"
	nameIndex       = "user"
	prefixClient    = "client/"
	prefixTokens    = "tokens/"
	prefixIssue     = "issue/"
	prefixPublished = "published/"
)

func accountKey(user, name string) kv.Key { return kv.Key{Group: "a" + user, Name: name} }
func clientIndex(client string) kv.Key    { return kv.Key{Group: "c" + client, Name: nameIndex} }

// localPart is the shape of user and client names.
var localPart = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

// AccountService implements mmr.relay.v1.AccountService, the identified part of
// a provider.
type AccountService struct {
	relayv1.UnimplementedAccountServiceServer
	r *Relay
}

// session is who an account session belongs to.
type session struct{ user, client string }

// sessionOf returns the account session of the call in ctx: the verified
// session certificate's two SAN URIs.
func sessionOf(ctx context.Context, domain string) (session, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return session{}, false
	}
	t, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(t.State.VerifiedChains) == 0 {
		return session{}, false
	}
	var s session
	for _, u := range t.State.VerifiedChains[0][0].URIs {
		if u.Host != domain || u.Scheme != "mimi" {
			return session{}, false
		}
		if name, ok := strings.CutPrefix(u.Path, "/u/"); ok {
			s.user = name
		}
		if name, ok := strings.CutPrefix(u.Path, "/d/"); ok {
			s.client = name
		}
	}
	return s, s.user != "" && s.client != ""
}

func (s *AccountService) session(ctx context.Context) (session, error) {
	a, ok := sessionOf(ctx, s.r.cfg.Domain)
	if !ok {
		return session{}, mmrerr.NoConsent
	}
	if _, err := s.r.cfg.Accounts.Get(ctx, accountKey(a.user, prefixClient+a.client)); errors.Is(err, kv.ErrNotFound) {
		return session{}, mmrerr.NoConsent // removed since the certificate was issued
	} else if err != nil {
		return session{}, err
	}
	return a, nil
}

// Register implements the service. A new user needs what Registration demands;
// a further client of an existing user registers on a session of that user.
func (s *AccountService) Register(ctx context.Context, req *relayv1.RegisterRequest) (*relayv1.RegisterResponse, error) {
	if !localPart.MatchString(req.GetUser()) {
		return nil, &grpcserver.FieldError{Field: "user", Rule: "must be 1 to 64 of a-z 0-9 . _ -, beginning and ending with a letter or digit"}
	}
	if !localPart.MatchString(req.GetClient()) {
		return nil, &grpcserver.FieldError{Field: "client", Rule: "must be 1 to 64 of a-z 0-9 . _ -, beginning and ending with a letter or digit"}
	}
	reg := s.r.cfg.Registration
	a, sibling := sessionOf(ctx, s.r.cfg.Domain)
	if sibling = sibling && a.user == req.GetUser(); sibling { // the account's own word
		if _, err := s.session(ctx); err != nil {
			return nil, err
		}
	}
	if !sibling && !reg.Open && subtle.ConstantTimeCompare([]byte(reg.Code), []byte(req.GetRegistrationCode())) != 1 {
		return nil, mmrerr.NoConsent
	}
	res := &relayv1.RegisterResponse{}
	var err error
	if res.Credential, res.Session, err = s.issue(req.GetUser(), req.GetClient(), req.GetCredentialCsr(), req.GetSessionCsr()); err != nil {
		return nil, err
	}
	// A client whose answer was lost asks again with the same keys.
	requests := append(slices.Clone(req.GetCredentialCsr()), req.GetSessionCsr()...)
	if err := s.claim(ctx, req.GetUser(), req.GetClient(), sha256.Sum256(requests)); err != nil {
		return nil, err
	}
	return res, nil
}

// reservedFor is how long a client's name is kept for a registration that was not
// finished.
const reservedFor = time.Hour

// claim records the account and its client, with the hash of the certificate
// requests. Names are taken once, by those requests: the same ones may come
// again, because the answer may have been lost. The index of clients comes
// first, for a while; at the end it stays. So a crash in between leaves a name
// that the same client can claim, and that others can have later.
func (s *AccountService) claim(ctx context.Context, user, client string, requests [32]byte) error {
	owner := append([]byte(user+"\x00"), requests[:]...)
	ops := []kv.Op{{Key: accountKey(user, prefixClient+client), Value: []byte{1}}}
	if a, ok := sessionOf(ctx, s.r.cfg.Domain); !ok || a.user != user {
		ops = append(ops, kv.Op{Key: accountKey(user, nameAccount), Value: []byte{1}, Check: true})
	}
	first, earlier, err := kv.Once(ctx, s.r.cfg.Accounts, clientIndex(client), owner, reservedFor)
	if err != nil {
		return err
	}
	if !first && subtle.ConstantTimeCompare(earlier, owner) != 1 {
		return errTaken
	}
	if !first {
		if claimed, err := s.claimed(ctx, user, client); err != nil {
			return err
		} else if claimed {
			return s.keep(ctx, client, owner)
		}
	}
	_, err = s.r.cfg.Accounts.Apply(ctx, ops)
	if err == nil {
		return s.keep(ctx, client, owner)
	}
	if !errors.Is(err, kv.ErrConflict) {
		return err
	}
	if !first { // perhaps a repeat that overtook this one
		if claimed, err := s.claimed(ctx, user, client); err != nil {
			return err
		} else if claimed {
			return s.keep(ctx, client, owner)
		}
		return errTaken
	}
	if err := kv.Delete(ctx, s.r.cfg.Accounts, clientIndex(client)); err != nil {
		return err
	}
	return errTaken
}

var errTaken = &grpcserver.FieldError{Field: "user", Rule: "user or client name is not available"}

// keep makes the index entry of a client stay, if it still has that owner.
func (s *AccountService) keep(ctx context.Context, client string, owner []byte) error {
	rec, err := s.r.cfg.Accounts.Get(ctx, clientIndex(client))
	if errors.Is(err, kv.ErrNotFound) || err == nil && subtle.ConstantTimeCompare(rec.Value, owner) != 1 {
		return errTaken // it took too long
	}
	if err != nil {
		return err
	}
	if _, err = kv.Put(ctx, s.r.cfg.Accounts, clientIndex(client), rec.Version, owner, 0); errors.Is(err, kv.ErrConflict) {
		return mmrerr.Unavailable // a repeat is under way
	}
	return err
}

func (s *AccountService) claimed(ctx context.Context, user, client string) (bool, error) {
	_, err := s.r.cfg.Accounts.Get(ctx, accountKey(user, prefixClient+client))
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (s *AccountService) issue(user, client string, credentialCSR, sessionCSR []byte) (credential, sess [][]byte, err error) {
	now := time.Now()
	if credential, err = s.r.cfg.Keys.IssueCredential(credentialCSR, user, client, now); err != nil {
		return nil, nil, &grpcserver.FieldError{Field: "credential_csr", Rule: "must be a self-signed PKCS #10 request for an Ed25519 or P-256 key, at most 4096 bytes"}
	}
	if sess, err = s.r.cfg.Keys.IssueSession(sessionCSR, user, client, now); err != nil {
		return nil, nil, &grpcserver.FieldError{Field: "session_csr", Rule: "must be a self-signed PKCS #10 request for an Ed25519 or P-256 key, at most 4096 bytes"}
	}
	return credential, sess, nil
}

// Renew implements the service.
func (s *AccountService) Renew(ctx context.Context, req *relayv1.RenewRequest) (*relayv1.RenewResponse, error) {
	a, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	res := &relayv1.RenewResponse{}
	res.Credential, res.Session, err = s.issue(a.user, a.client, req.GetCredentialCsr(), req.GetSessionCsr())
	if err != nil {
		return nil, err
	}
	return res, nil
}

// RemoveClient implements the service. The name stays taken: a certificate for it
// may still be valid.
func (s *AccountService) RemoveClient(ctx context.Context, req *relayv1.RemoveClientRequest) (*relayv1.RemoveClientResponse, error) {
	a, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	if !localPart.MatchString(req.GetClient()) {
		return nil, &grpcserver.FieldError{Field: "client", Rule: "must be 1 to 64 of a-z 0-9 . _ -, beginning and ending with a letter or digit"}
	}
	if err := kv.Delete(ctx, s.r.cfg.Accounts, accountKey(a.user, prefixClient+req.GetClient())); err != nil {
		return nil, err
	}
	return &relayv1.RemoveClientResponse{}, nil
}

// maxTokens is the largest batch of token requests.
const maxTokens = 64

// IssueTokens implements the service. The allowance is charged before signing,
// and a repeated request is answered again without a second charge: blind RSA
// is deterministic, so the answer is the same (SPEC.md R-81).
func (s *AccountService) IssueTokens(ctx context.Context, req *relayv1.IssueTokensRequest) (*relayv1.IssueTokensResponse, error) {
	a, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	n := len(req.GetBlinded())
	if n == 0 || n > maxTokens || slices.ContainsFunc(req.GetBlinded(), func(b []byte) bool { return len(b) != token.SignatureSize }) {
		return nil, &grpcserver.FieldError{Field: "blinded", Rule: "must hold 1 to 64 messages of 256 bytes"}
	}
	if req.GetTruncatedTokenKeyId() > 255 {
		return nil, &grpcserver.FieldError{Field: "truncated_token_key_id", Rule: "must be at most 255"}
	}
	now := time.Now().UTC()
	key := uint8(req.GetTruncatedTokenKeyId())
	if !slices.ContainsFunc(s.r.cfg.Keys.Issuer().Published(now), func(k token.PublishedKey) bool { return k.Key.ID().Truncated() == key }) {
		return nil, mmrerr.TokenInvalid // before it is charged
	}
	remaining, err := s.charge(ctx, a.user, req, now)
	if err != nil {
		return nil, err
	}
	res := &relayv1.IssueTokensResponse{Remaining: uint32(remaining)}
	res.BlindSignatures, err = s.r.cfg.Keys.Issuer().Issue(now, key, req.GetBlinded())
	if errors.Is(err, token.ErrUnknownKey) {
		return nil, mmrerr.TokenInvalid
	}
	if err != nil {
		return nil, &grpcserver.FieldError{Field: "blinded", Rule: "must be 256-byte blinded messages"}
	}
	s.r.metrics.tokens.Add(float64(n))
	return res, nil
}

// charge takes the batch from the account's allowance of the day, once per
// distinct request, and returns what is left.
func (s *AccountService) charge(ctx context.Context, user string, req *relayv1.IssueTokensRequest, now time.Time) (int, error) {
	h := sha256.New()
	h.Write([]byte{byte(req.GetTruncatedTokenKeyId())})
	for _, b := range req.GetBlinded() {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	done := prefixIssue + hex.EncodeToString(h.Sum(nil)[:16])
	day := prefixTokens + now.Format(time.DateOnly)
	for {
		rs, err := s.r.cfg.Accounts.GetMany(ctx, accountKey(user, "").Group, []string{day, done})
		if err != nil {
			return 0, err
		}
		var used int
		if len(rs[0].Value) == 4 {
			used = int(binary.BigEndian.Uint32(rs[0].Value))
		}
		left := s.r.cfg.Limits.TokensPerDay - used
		if rs[1].Version != 0 {
			return max(left, 0), nil
		}
		if left < len(req.GetBlinded()) {
			return 0, mmrerr.RateLimited
		}
		_, err = s.r.cfg.Accounts.Apply(ctx, []kv.Op{
			{Key: accountKey(user, day), Value: binary.BigEndian.AppendUint32(nil, uint32(used+len(req.GetBlinded()))), TTL: 48 * time.Hour, Check: true, Old: rs[0].Version},
			{Key: accountKey(user, done), Value: []byte{1}, TTL: 48 * time.Hour, Check: true},
		})
		if errors.Is(err, kv.ErrConflict) {
			continue // another batch of this account was charged meanwhile
		}
		if err != nil {
			return 0, err
		}
		return left - len(req.GetBlinded()), nil
	}
}
