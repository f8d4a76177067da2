package relay

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/mmrelay/mmrelay/internal/gateway"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// methods is the provider's half of SPEC.md's methods. Which of them cost a
// token is SPEC.md R-85.
func (r *Relay) methods() map[string]gateway.Method {
	return map[string]gateway.Method{
		seal.MethodQueueCreate:  {Token: true, Handle: handle(seal.AuthQueue, r.queueCreate)},
		seal.MethodQueueBlock:   {Handle: handle(seal.AuthQueue, r.queueBlock)},
		seal.MethodQueueDelete:  {Handle: handle(seal.AuthQueue, r.queueDelete)},
		seal.MethodQueueStat:    {Handle: handle(seal.AuthQueue, r.queueStat)},
		seal.MethodQueueSetPush: {Handle: handle(seal.AuthQueue, r.queueSetPush)},

		seal.MethodPoolCreate:       {Token: true, Handle: handle(seal.AuthPool, r.poolCreate)},
		seal.MethodPoolSlots:        {Handle: handle(seal.AuthPool, r.poolSlots)},
		seal.MethodPoolUpload:       {Token: true, Handle: handle(seal.AuthPool, r.poolUpload)},
		seal.MethodPoolList:         {Handle: handle(seal.AuthPool, r.poolList)},
		seal.MethodPoolDelete:       {Handle: handle(seal.AuthPool, r.poolDelete)},
		seal.MethodFetchKeyPackages: {Token: true, Handle: handle(seal.AuthNone, r.fetchKeyPackages)},

		seal.MethodFetchConnectionPackage: {Token: true, Handle: handle(seal.AuthNone, r.fetchConnectionPackage)},
		seal.MethodSendConnectionRequest:  {Token: true, Handle: handle(seal.AuthNone, r.sendConnectionRequest)},
	}
}

// handle adapts a typed handler: it parses the body strictly, checks the kind
// of authentication and that no room is named, and marshals the answer.
func handle[Req any, PReq interface {
	*Req
	proto.Message
}, Res proto.Message](kind seal.AuthKind, f func(context.Context, *gateway.Call, PReq) (Res, error)) func(context.Context, *gateway.Call) ([]byte, error) {
	return func(ctx context.Context, c *gateway.Call) ([]byte, error) {
		req := PReq(new(Req))
		if err := proto.Unmarshal(c.Body, req); err != nil || len(req.ProtoReflect().GetUnknown()) != 0 {
			return nil, mmrerr.Malformed
		}
		if c.Auth.Kind != kind || len(c.GroupID) != 0 || c.EARKey.Present() {
			return nil, mmrerr.Malformed
		}
		res, err := f(ctx, c, req)
		if err != nil {
			return nil, err
		}
		return proto.MarshalOptions{Deterministic: true}.Marshal(res)
	}
}
