package hub_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mmrelay/mmrelay/pkg/queue/queuetest"
)

// TestBusyRelay: a hub whose deliveries a relay refuses for load stays away as long
// as it is asked to, a minute at most, and then delivers everything in its order.
func TestBusyRelay(t *testing.T) {
	for name, x := range map[string]struct{ asked, least, most time.Duration }{
		"a while": {20 * time.Second, 20 * time.Second, 22 * time.Second},
		"a day":   {24 * time.Hour, time.Minute, 62 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDispatching(t, nil)
				const times = 3
				var mu sync.Mutex // guards came
				var came []time.Time
				d.relay.refuse = func() error {
					mu.Lock()
					defer mu.Unlock()
					if came = append(came, time.Now()); len(came) > times {
						return nil
					}
					s, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(x.asked)})
					d.must(err)
					return s.Err()
				}
				want := d.put("leaf", "leaf", 3)
				d.start(new(queuetest.Failpoint))
				if !d.emptied(time.Hour) {
					t.Fatal("nothing is delivered")
				}
				mu.Lock()
				defer mu.Unlock()
				if len(came) != times+1 {
					t.Fatalf("%d streams", len(came))
				}
				for i := range times {
					if gap := came[i+1].Sub(came[i]); gap < x.least || gap > x.most {
						t.Errorf("the hub comes again after %v, want %v to %v", gap, x.least, x.most)
					}
				}
				if _, stored, _ := d.relay.seen(); !slices.Equal(stored["leaf"], want) {
					t.Errorf("the leaf got %q, want %q", stored["leaf"], want)
				}
			})
		})
	}
}
