package limits_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/childproc"
	"github.com/mmrelay/mmrelay/internal/redistest"
)

const mib = 1 << 20

// memoryFor is what a relay may have resident with n listeners on a connection
// each: 640 MiB for 10,000. It is told to keep its heap below seven eighths of it,
// as docs/operations.md says.
func memoryFor(n int) int64 { return int64(54*mib + n*60<<10) }

// perProcess is how many listeners one client process has.
const perProcess = 5000

// TestListeners: a relay with many listeners, each on a TLS connection of its own,
// stays within its memory from the first connection on, idle, and when each has got
// an envelope.
func TestListeners(t *testing.T) {
	t.Logf("%-7s %9s %9s | MiB resident: %6s %6s %6s %6s (bound %d) | %10s %6s %7s | %9s", "store", "listeners", "connect/s", "empty", "idle", "after", "peak", memoryFor(*listeners)/mib, "goroutines", "heap", "stacks", "idle cpu")
	for _, backend := range []string{"pebble", "redis"} {
		t.Run(backend, func(t *testing.T) {
			store := "pebble:" + t.TempDir()
			if backend == "redis" {
				store = redistest.Start(t, redistest.Options{}).URL()
			}
			bound := memoryFor(*listeners)
			t.Setenv("GOMEMLIMIT", strconv.FormatInt(bound/8*7, 10))
			p := startProvider(t, store)
			empty, _ := p.memory(t)
			boxes := p.mailboxes(t, *listeners)
			begin := time.Now()
			heard := p.listen(t, boxes)
			rate := float64(len(boxes)) / time.Since(begin).Seconds()
			if n := p.metric(t, "mmr_relay_listeners"); n != float64(len(boxes)) {
				t.Fatalf("%v listeners", n)
			}
			used := p.idle(t, *idleFor)
			idle, _ := p.memory(t)
			goroutines, heap, stacks := p.metric(t, "go_goroutines"), p.metric(t, "go_memstats_heap_inuse_bytes"), p.metric(t, "go_memstats_stack_inuse_bytes")
			for i := 0; i < len(boxes); i += 100 {
				if err := deliver(t.Context(), p.hub, 1024, boxes[i:min(i+100, len(boxes))]...); err != nil {
					t.Fatal(err)
				}
			}
			for i := range boxes {
				select {
				case ok := <-heard:
					if !ok {
						t.Fatal("a listener lost its stream")
					}
				case <-time.After(time.Minute):
					t.Fatalf("%d of %d listeners got their envelope", i, len(boxes))
				}
			}
			after, peak := p.memory(t)
			t.Logf("%-7s %9d %9.0f |               %6d %6d %6d %6d             | %10.0f %6.0f %7.0f | %7.2f %%", backend, len(boxes), rate,
				empty/mib, idle/mib, after/mib, peak/mib, goroutines, heap/mib, stacks/mib, used*100)
			if peak > bound {
				t.Errorf("the relay had %d MiB, %d are allowed", peak/mib, bound/mib)
			}
		})
	}
}

// idle returns how much of a processor the relay takes while nothing happens.
func (p *provider) idle(t *testing.T, d time.Duration) float64 {
	t.Helper()
	begin, cpu := time.Now(), p.cpu(t)
	time.Sleep(d) // it is the time that is measured
	return float64(p.cpu(t)-cpu) / float64(time.Since(begin))
}

// listen has client processes listen to all mailboxes. The channel receives true
// for each envelope that comes, false for a stream that ends.
func (p *provider) listen(t *testing.T, boxes []*mailbox) <-chan bool {
	t.Helper()
	s, err := makeShared()
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan bool, 2*len(boxes))
	for len(boxes) > 0 {
		n := min(perProcess, len(boxes))
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), asListeners+"=1")
		c.Stderr, c.SysProcAttr = os.Stderr, childproc.Attr()
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = in.Close()
			_ = c.Wait()
		})
		if err := json.NewEncoder(in).Encode(listenJob{Addr: p.address(t, "addr"), Roots: s.Operators(), Boxes: boxes[:n]}); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || lines.Text() != "listening" {
			t.Fatalf("the clients do not listen: %q", lines.Text())
		}
		go func() {
			for lines.Scan() {
				heard <- lines.Text() == "heard"
			}
			_, _ = io.Copy(io.Discard, out)
		}()
		boxes = boxes[n:]
	}
	return heard
}
