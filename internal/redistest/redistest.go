// Package redistest runs real Redis servers for tests: private ones, which
// nothing else uses and which end with the test. A server listens on a unix
// socket in a directory of its own and, by default, keeps nothing on disk.
//
// The program is redis-server, or what the environment variable REDIS_SERVER
// names (valkey-server works too). Without it tests are skipped, but fail if CI
// is set to true.
package redistest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/childproc"
)

// startTimeout bounds how long a server may take to answer.
const startTimeout = 30 * time.Second

// Options say how a server runs.
type Options struct {
	// AOF keeps everything on disk, synced before each answer, so that Kill and
	// Restart lose nothing.
	AOF bool
	// Fsync is the appendfsync of AOF: always if empty, everysec or no.
	Fsync string
	// TLS listens on a port of the loopback interface with TLS alone, with a
	// certificate of a CA of its own (Server.CA). It takes the place of TCP.
	TLS bool
	// TCP listens on a port of the loopback interface too: replicas and clusters
	// need one.
	TCP bool
	// Args are further arguments, such as "--maxmemory", "10mb".
	Args []string
}

// Server is a redis-server process.
type Server struct {
	tb   testing.TB
	args []string
	dir  string
	port int
	tls  bool
	cmd  *exec.Cmd
	done chan struct{} // closed when the process ended

	ask   sync.Once
	asker *redis.Client
}

// silence keeps the client library from writing what fails to standard error:
// tests stop servers on purpose, and get the errors returned.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// Start starts a server. It ends with the test.
func Start(tb testing.TB, o Options) *Server {
	tb.Helper()
	silence()
	program := find(tb)
	dir, err := os.MkdirTemp("", "rt") //nolint:usetesting // short: socket paths are at most 108 bytes
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{tb: tb, dir: dir}
	if o.TCP || o.TLS {
		s.port = freePort(tb)
	}
	plain := s.port
	if o.TLS {
		plain = 0
	}
	s.args = []string{
		program, "--port", strconv.Itoa(plain), "--bind", "127.0.0.1", "--unixsocket", s.Socket(), "--dir", dir,
		"--save", "", "--daemonize", "no", "--appendonly", "no", "--repl-diskless-sync-delay", "0",
	}
	if o.AOF {
		if o.Fsync == "" {
			o.Fsync = "always"
		}
		s.args = append(s.args, "--appendonly", "yes", "--appendfsync", o.Fsync)
	}
	if o.TLS {
		s.tls = true
		s.certify()
		s.args = append(s.args, "--tls-port", strconv.Itoa(s.port), "--tls-auth-clients", "no",
			"--tls-cert-file", s.file("crt"), "--tls-key-file", s.file("key"), "--tls-ca-cert-file", s.CA())
	}
	s.args = append(s.args, o.Args...)
	tb.Cleanup(s.Kill)
	s.Restart()
	return s
}

func find(tb testing.TB) string {
	tb.Helper()
	name := os.Getenv("REDIS_SERVER")
	if name == "" {
		name = "redis-server"
	}
	program, err := exec.LookPath(name)
	if err == nil {
		return program
	}
	if os.Getenv("CI") == "true" {
		tb.Fatalf("%s is missing, and CI must not skip the Redis tests", name)
	}
	tb.Skipf("SKIPPED, NOT PROVEN: %s is missing: install it to test the Redis backends", name)
	return ""
}

// freePort finds a port that nothing listens on at the moment.
func freePort(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// Socket is the path of the server's unix socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "s") }

// Addr is the server's TCP address; empty without Options.TCP.
func (s *Server) Addr() string {
	if s.port == 0 {
		return ""
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
}

// URL is the server as the daemons' store flags name it.
func (s *Server) URL() string {
	if s.tls {
		return "rediss://" + s.Addr() + "?ca=" + s.CA()
	}
	return "redis+unix://" + s.Socket()
}

// Client returns a new client that ends with the test.
func (s *Server) Client() *redis.Client {
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket()})
	s.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Restart starts the server that Stop or Kill ended, and waits until it answers.
func (s *Server) Restart() {
	s.tb.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = io.Discard, io.Discard
	s.cmd.SysProcAttr = childproc.Attr()
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatalf("starting redis-server: %v", err)
	}
	s.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		_ = cmd.Wait() // its end is what matters, not how
		close(done)
	}(s.cmd, s.done)
	if err := s.answers(); err != nil {
		s.tb.Fatalf("redis-server does not answer: %v", err)
	}
}

func (s *Server) answers() error {
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket(), MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := c.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("it ended: %w", err)
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop ends the server as an operator would: it answers what it has begun.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server at once, as a crash would.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(sig os.Signal) {
	select {
	case <-s.done:
		return
	default:
	}
	_ = s.cmd.Process.Signal(sig) // it may have ended by itself
	<-s.done
}

// Pause stops the server without closing its connections, as a machine under
// too much load would; Resume lets it go on.
func (s *Server) Pause() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (s *Server) Resume() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }
