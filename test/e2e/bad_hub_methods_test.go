package e2e_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	hubv1 "github.com/mmrelay/mmrelay/gen/mmr/hub/v1"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// furtherHubMethods is TestBadInputHub for the methods that its scenario has no
// samples of.
func (w *badWorld) furtherHubMethods(t *testing.T, g *gate, member func(string, proto.Message, ...variant) spec) {
	t.Helper()
	garbage := randomBytes(60)
	g.method(t, member(seal.MethodWrapState, &hubv1.WrapStateRequest{}))
	g.method(t, member(seal.MethodWrapRefresh, &hubv1.WrapRefreshRequest{Delta: garbage}, []variant{
		{"garbage", nil, nil, mmrerr.Malformed},
		{"nothing", func() proto.Message { return &hubv1.WrapRefreshRequest{} }, nil, mmrerr.Malformed},
	}...))
}
