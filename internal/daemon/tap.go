package daemon

import (
	"google.golang.org/grpc"

	"github.com/mmrelay/mmrelay/internal/gateway"
)

// tap records what a daemon sees, for the demo. It exists in builds with the tag
// mmrtap only; in all others the flag is unknown, open returns nil, and the
// methods of a nil tap do nothing.
type tap struct {
	place func(place string) []grpc.ServerOption
	wrap  gateway.Middleware
	done  func()
}

func (t *tap) options(place string) []grpc.ServerOption {
	if t == nil {
		return nil
	}
	return t.place(place)
}

func (t *tap) middleware() gateway.Middleware {
	if t == nil {
		return nil
	}
	return t.wrap
}

func (t *tap) close() {
	if t != nil {
		t.done()
	}
}
