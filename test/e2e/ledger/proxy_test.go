package ledger_test

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// link is a TCP proxy between parties that can be cut, held up and slowed down.
// Connections go to its backends in turn; one that does not listen is skipped.
type link struct {
	name     string
	lis      net.Listener
	backends []string // files with the addresses at present
	wg       sync.WaitGroup

	mu      sync.Mutex // guards all below
	next    int
	conns   map[net.Conn]bool
	held    chan struct{} // not nil: nothing passes until it is closed
	delay   time.Duration // of every piece
	closing bool
	only    string // the one backend there is; empty: all
	number  int    // of the newest connection
	dead    int    // connections up to this number carry nothing any more

	quit chan struct{} // closed when the link is
}

func newLink(tb testing.TB, name string, backends ...string) *link {
	tb.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := &link{name: name, lis: lis, backends: backends, conns: make(map[net.Conn]bool), quit: make(chan struct{})}
	l.wg.Go(l.accept)
	tb.Cleanup(l.close)
	return l
}

func (l *link) addr() string { return l.lis.Addr().String() }

func (l *link) accept() {
	for {
		c, err := l.lis.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.serve(c) })
	}
}

func (l *link) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	if !l.track(client, true) {
		return
	}
	defer l.track(client, false)
	l.mu.Lock()
	l.number++
	number := l.number
	l.mu.Unlock()
	l.pass(0, number)
	server, err := l.dial()
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if !l.track(server, true) {
		return
	}
	defer l.track(server, false)
	done := make(chan struct{})
	l.wg.Go(func() {
		defer close(done)
		l.copy(server, client, number)
	})
	l.copy(client, server, number)
	<-done
}

// track keeps count of open connections; it reports whether there may be more.
func (l *link) track(c net.Conn, open bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !open {
		delete(l.conns, c)
		return true
	}
	if l.closing {
		return false
	}
	l.conns[c] = true
	return true
}

func (l *link) dial() (net.Conn, error) {
	for range l.backends {
		l.mu.Lock()
		file := l.backends[l.next%len(l.backends)]
		if l.only != "" {
			file = l.only
		}
		l.next++
		l.mu.Unlock()
		addr, err := os.ReadFile(file)
		if err != nil {
			continue // it is starting
		}
		if c, err := net.DialTimeout("tcp", string(addr), time.Second); err == nil {
			return c, nil
		}
	}
	return nil, errors.New("nobody listens")
}

// copy passes bytes on; when one direction ends, both do.
func (l *link) copy(to, from net.Conn, number int) {
	defer func() { _, _ = to.Close(), from.Close() }()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			l.pass(n, number)
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits for as long as the link holds up what passes.
func (l *link) pass(n, number int) {
	l.mu.Lock()
	held, delay, dead := l.held, l.delay, number <= l.dead
	l.mu.Unlock()
	if dead {
		<-l.quit
		return
	}
	if held != nil {
		<-held
	}
	if n > 0 && delay > 0 {
		time.Sleep(delay)
	}
}

// cut ends all connections, in the middle of what they carry.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // a reset, not an orderly end
		}
		_ = c.Close()
	}
}

// pin leads all connections to one backend from now on.
func (l *link) pin(i int) {
	l.mu.Lock()
	l.only = l.backends[i]
	l.mu.Unlock()
	l.cut()
}

// unpin ends pin, for new connections.
func (l *link) unpin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.only = ""
}

// partition lets nothing pass, without a word to either side.
func (l *link) partition() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = make(chan struct{})
	}
}

// forget lets nothing pass on the connections that there are, for good and without
// a word to either side, as a NAT or load balancer does that has forgotten them.
func (l *link) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = l.number
}

func (l *link) slow(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

// heal ends partition and slow.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		close(l.held)
		l.held = nil
	}
	l.delay = 0
}

func (l *link) close() {
	l.heal()
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	close(l.quit)
	_ = l.lis.Close()
	l.cut()
	l.wg.Wait()
}
