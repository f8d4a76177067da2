package hub

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// methods are the hub's methods (SPEC.md §12). Which need a token is SPEC.md
// room creation, and joining by a code.
func (h *Hub) methods() map[string]gateway.Method {
	return map[string]gateway.Method{
		seal.MethodCreateRoom:   {Token: true, Handle: handle(h.createRoom)},
		seal.MethodUpdate:       {Handle: handle(h.update)},
		seal.MethodExternalJoin: {TokenFor: joinNeedsToken, Handle: handle(h.externalJoin)},
		seal.MethodSubmit:       {Handle: handle(h.submit)},
		seal.MethodLinkInfo:     {Handle: handle(h.linkInfo)},
		seal.MethodGroupInfo:    {Handle: handle(h.groupInfo)},
		seal.MethodPutGroupInfo: {Handle: handle(h.putGroupInfo)},
		seal.MethodCatchUp:      {Handle: handle(h.catchUp)},
		seal.MethodJoinState:    {Handle: handle(h.joinState)},
		seal.MethodReportAbuse:  {Token: true, Handle: handle(h.reportAbuse)},
		seal.MethodPutSeals:     {Handle: handle(h.putSeals)},
		seal.MethodReportCommit: {Handle: handle(h.reportCommit)},
		seal.MethodWrapState:    {Handle: handle(h.wrapState)},
		seal.MethodWrapRefresh:  {Handle: handle(h.wrapRefresh)},
	}
}

// joinNeedsToken: an external join by a code costs a token; resync and siblings
// prove themselves otherwise.
func joinNeedsToken(r *seal.Request) bool {
	var req hubv1.ExternalJoinRequest
	return proto.Unmarshal(r.Body, &req) == nil && len(req.GetCode()) > 0
}

// handle adapts a typed handler: it parses the body strictly and repeats a
// handler that lost a race at the store, with the state that won.
func handle[Req any, PReq interface {
	*Req
	proto.Message
}, Res proto.Message](f func(context.Context, *gateway.Call, PReq) (Res, error)) func(context.Context, *gateway.Call) ([]byte, error) {
	return func(ctx context.Context, c *gateway.Call) ([]byte, error) {
		req := PReq(new(Req))
		if err := proto.Unmarshal(c.Body, req); err != nil || len(req.ProtoReflect().GetUnknown()) != 0 {
			return nil, mmrerr.Malformed
		}
		for attempt := 0; ; attempt++ {
			res, err := f(ctx, c, req)
			if errors.Is(err, kv.ErrConflict) && attempt < 10 {
				continue // another replica was first: judge again on what it left
			}
			if err != nil {
				return nil, err
			}
			return proto.MarshalOptions{Deterministic: true}.Marshal(res)
		}
	}
}

// nobody is a key whose private half nobody has: where a leaf does not exist, a
// signature is checked all the same, so that both cases cost the same (SPEC.md R-67).
var nobody = func() primitive.PublicKey {
	k, err := primitive.GenerateSigningKey(primitive.Ed25519)
	if err != nil {
		panic("hub: internal error: no key")
	}
	return k.Public()
}()

// authenticate opens the room and checks the request's signature by a leaf of
// its current tree (SPEC.md R-64). Every failure is mmr/no-room, but for a leaf
// with the key at rest of before, which is *stale.
func (h *Hub) authenticate(ctx context.Context, c *gateway.Call) (*room, *leaf, error) {
	if c.Auth.Kind != seal.AuthLeaf {
		return nil, nil, mmrerr.NoRoom
	}
	r, err := h.open(ctx, c.GroupID, c.EARKey)
	if err != nil {
		return nil, nil, h.refusal(ctx, c, err, func(l *pastLeaf) bool { return l.index == c.Auth.LeafIndex })
	}
	return h.authenticated(c, r, r.roster.leaf(c.Auth.LeafIndex))
}

// authenticateKey is authenticate for a welcomed client, which knows the key of
// its leaf and not yet its index.
func (h *Hub) authenticateKey(ctx context.Context, c *gateway.Call, signatureKey []byte) (*room, *leaf, error) {
	if c.Auth.Kind != seal.AuthNewLeaf {
		return nil, nil, mmrerr.NoRoom
	}
	r, err := h.open(ctx, c.GroupID, c.EARKey)
	if err != nil {
		return nil, nil, h.refusal(ctx, c, err, func(l *pastLeaf) bool { return equal(l.signatureKey, signatureKey) })
	}
	i := slices.IndexFunc(r.roster.leaves, func(l *leaf) bool { return equal(l.signatureKey, signatureKey) })
	if i < 0 {
		return h.authenticated(c, r, nil)
	}
	return h.authenticated(c, r, r.roster.leaves[i])
}

func (h *Hub) authenticated(c *gateway.Call, r *room, l *leaf) (*room, *leaf, error) {
	key := nobody
	var err error
	if l != nil {
		if key, err = leafKey(r.roster.suite, l.signatureKey); err != nil {
			return nil, nil, err
		}
	}
	if c.Verify(key) != nil || l == nil {
		return nil, nil, mmrerr.NoRoom
	}
	return r, l, nil
}

// leafKey returns a leaf's signature key for the suite of its room.
func leafKey(suite uint16, raw []byte) (primitive.PublicKey, error) {
	alg, ok := primitive.SuiteAlgorithm(suite)
	if !ok {
		return primitive.PublicKey{}, mmrerr.WireFormat
	}
	return primitive.ParsePublicKey(alg, raw)
}

// admit is step 3 of SPEC.md R-121 but for frozen rooms, which may be read.
func (h *Hub) admit(r *room, l *leaf, commit bool) error {
	if l.leaving {
		return mmrerr.Leaving
	}
	if !h.rates.allow(r.groupID, l.index, commit) {
		return mmrerr.RateLimited
	}
	return nil
}

// admitChange is step 3 of SPEC.md R-121.
func (h *Hub) admitChange(ctx context.Context, r *room, l *leaf, commit bool) error {
	if err := h.admit(r, l, commit); err != nil {
		return err
	}
	return h.notFrozen(ctx)
}

func (h *Hub) notFrozen(ctx context.Context) error {
	is, err := h.frozen(ctx)
	if err == nil && is {
		return mmrerr.RoomFrozen
	}
	return err
}
