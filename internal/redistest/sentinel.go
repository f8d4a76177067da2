package redistest

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// startSentinel starts a Sentinel: the same program with a file it may write.
func startSentinel(tb testing.TB, master *Server, quorum int) *Server {
	tb.Helper()
	program := find(tb)
	dir, err := os.MkdirTemp("", "rt") //nolint:usetesting // short: socket paths are at most 108 bytes
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{tb: tb, dir: dir, port: freePort(tb)}
	config := fmt.Sprintf(`port %d
bind 127.0.0.1
unixsocket %s
dir %s
sentinel monitor main 127.0.0.1 %d %d
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 5000
sentinel parallel-syncs main 1
`, s.port, s.Socket(), dir, master.port, quorum)
	if err := os.WriteFile(s.file("conf"), []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	s.args = []string{program, s.file("conf"), "--sentinel", "--port", strconv.Itoa(s.port)}
	tb.Cleanup(s.Kill)
	s.Restart()
	return s
}
