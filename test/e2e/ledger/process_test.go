package ledger_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/childproc"
)

// process is a daemon, started again as a supervisor would when it ends by itself.
type process struct {
	tb      testing.TB
	name    string
	dir     string // for addresses and log
	program string
	args    []string

	mu      sync.Mutex // guards all below
	env     []string   // nil: that of the test
	cmd     *exec.Cmd
	done    chan struct{} // closed when cmd has ended
	meant   bool          // its end is ours
	over    bool          // nothing is started any more
	starts  int
	crashes int // ends that were not ours
}

// newProcess describes a daemon that writes its addresses to files in dir.
func newProcess(tb testing.TB, name, dir, program string, args ...string) *process {
	tb.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	p := &process{tb: tb, name: name, dir: dir, program: program, args: append(args, "--admin-file", filepath.Join(dir, "admin"))}
	tb.Cleanup(p.finish)
	return p
}

func (p *process) file(name string) string { return filepath.Join(p.dir, name) }

// start starts the daemon, if it does not run.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.cmd != nil {
		return nil
	}
	for _, f := range []string{"addr", "peer", "admin"} {
		_ = os.Remove(p.file(f)) // an address of before
	}
	log, err := os.OpenFile(p.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.program, p.args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, p.env
	cmd.SysProcAttr = childproc.Attr()
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = log.Close() // the child has it
	p.cmd, p.done, p.meant = cmd, make(chan struct{}), false
	p.starts++
	go p.watch(cmd, p.done)
	return nil
}

// watch waits for the end of one start.
func (p *process) watch(cmd *exec.Cmd, done chan struct{}) {
	_ = cmd.Wait() // that it ended matters, not how
	p.mu.Lock()
	again := !p.meant && !p.over
	if again {
		p.crashes++
	}
	p.cmd = nil
	close(done)
	p.mu.Unlock()
	if again {
		time.Sleep(300 * time.Millisecond)
		if err := p.start(); err != nil {
			p.tb.Errorf("starting %s again: %v", p.name, err)
		}
	}
}

// end sends a signal that ends the daemon and waits until it has. It reports
// whether it had to be killed.
func (p *process) end(sig os.Signal) (killed bool) {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.meant = true
	p.mu.Unlock()
	if cmd == nil {
		return false
	}
	_ = cmd.Process.Signal(sig) // it may have ended
	select {
	case <-done:
		return false
	case <-time.After(time.Minute):
	}
	_ = cmd.Process.Signal(syscall.SIGQUIT) // it did not listen: what does it wait for?
	select {
	case <-done:
		p.tb.Logf("%s did not stop: %s", p.name, p.waits())
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill() // it stands still
		<-done
	}
	return true
}

// waits returns what of our own code the goroutines were in when the daemon was
// made to write that down.
func (p *process) waits() string {
	data, err := os.ReadFile(p.file("log"))
	if err != nil {
		return err.Error()
	}
	_, dump, _ := strings.Cut(string(data), "SIGQUIT")
	var out []string
	for _, g := range strings.Split(dump, "\n\n") {
		if lines := strings.Split(g, "\n"); strings.Contains(g, "mmrelay/internal") || strings.Contains(g, "mmrelay/cmd") {
			out = append(out, strings.Join(lines[:min(len(lines), 30)], "\n"))
		}
	}
	return strings.Join(out[:min(len(out), 40)], "\n\n")
}

func (p *process) signal(sig os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(sig) // it may have ended
	}
}

func (p *process) pause()  { p.signal(syscall.SIGSTOP) }
func (p *process) resume() { p.signal(syscall.SIGCONT) }

// finish ends the daemon for good.
func (p *process) finish() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.resume()
	p.end(syscall.SIGKILL)
}

// ready waits until the daemon says that it can do its work.
func (p *process) ready() error {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(20 * time.Millisecond) {
		addr, err := os.ReadFile(p.file("admin"))
		if err != nil {
			continue
		}
		res, err := client.Get("http://" + string(addr) + "/readyz")
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, res.Body) // only the status counts
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("%s is not ready after a minute: %s", p.name, p.tail())
}

func (p *process) tail() string {
	data, err := os.ReadFile(p.file("log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// failStop is what a database that cannot go on ends its process with, on purpose.
const failStop = "panic: pebbledb: the database cannot go on"

// panicked returns what the daemon wrote if it ever panicked.
func (p *process) panicked(mayFailStop bool) string {
	data, err := os.ReadFile(p.file("log"))
	if err != nil {
		return err.Error()
	}
	if mayFailStop {
		data = bytes.ReplaceAll(data, []byte(failStop), nil)
	}
	for _, mark := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE"} {
		if i := strings.Index(string(data), mark); i >= 0 {
			return string(data[i:min(len(data), i+3000)])
		}
	}
	return ""
}
