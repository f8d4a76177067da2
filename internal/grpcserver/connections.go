package grpcserver

import (
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// limitedListener closes connections beyond a number at once: a flood costs the
// flooder its connections, and never more memory here than max of them. Who is
// refused tries again after a while, as gRPC clients do.
type limitedListener struct {
	net.Listener
	slots   chan struct{}
	refused prometheus.Counter
}

func limit(l net.Listener, max int, refused prometheus.Counter) net.Listener {
	return &limitedListener{Listener: l, slots: make(chan struct{}, max), refused: refused}
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			l.refused.Inc()
			_ = c.Close() // nothing was said on it
		}
	}
}

// limitedConn gives its slot back when it is closed.
type limitedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
