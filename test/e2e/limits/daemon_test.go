package limits_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/childproc"
	"github.com/mmrelay/mmrelay/internal/daemontest"
	"github.com/mmrelay/mmrelay/internal/keys"
)

const (
	hubDomain = "hub.example"
	aDomain   = "a.example"
)

var roles = map[string]keys.Role{hubDomain: keys.Hub, aDomain: keys.Provider}

// makeShared makes what all tests of the package use, once.
var makeShared = sync.OnceValues(func() (*daemontest.Set, error) {
	root, err := os.MkdirTemp("", "mmrlimits")
	if err != nil {
		return nil, err
	}
	madeRoot = root
	return daemontest.Make(root, roles)
})

var madeRoot string // written by makeShared, read when the tests are over

// daemon is a process that runs until the test ends.
type daemon struct {
	domain string
	dir    string // for addresses and log
	cmd    *exec.Cmd
}

// start starts a daemon on a store, on any port unless args say otherwise, and waits
// until it can do its work.
func start(t *testing.T, domain, store string, args ...string) *daemon {
	t.Helper()
	s, err := makeShared()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{domain: domain, dir: t.TempDir()}
	program := "hub"
	all := []string{
		"--domain", domain, "--keys", s.Keys(domain), "--peer-ca", s.Operators(), "--no-rotate-keys",
		"--store", store, "--addr-file", d.file("addr"), "--admin-file", d.file("admin"), "--log-level", "warn",
	}
	if roles[domain] == keys.Provider {
		program = "relay"
		all = append(all, "--peer-addr-file", d.file("peer"), "--open-registration", "--tokens-per-day", "1000000")
		if !slices.Contains(args, "--peer-listen") {
			all = append(all, "--peer-listen", "127.0.0.1:0")
		}
	}
	if !slices.Contains(args, "--listen") {
		all = append(all, "--listen", "127.0.0.1:0")
	}
	log, err := os.Create(d.file("log"))
	if err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(s.Program(program), append(all, args...)...)
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.SysProcAttr = log, log, childproc.Attr()
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = log.Close() // the child has it
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGKILL) // it keeps nothing that is needed
		_ = d.cmd.Wait()
		if s := d.panicked(); s != "" {
			t.Errorf("%s panicked: %s", domain, s)
		}
	})
	d.awaitReady(t)
	return d
}

func (d *daemon) file(name string) string { return filepath.Join(d.dir, name) }

// address returns an address that the daemon has bound.
func (d *daemon) address(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(d.file(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (d *daemon) awaitReady(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if addr, err := os.ReadFile(d.file("admin")); err == nil {
			if _, err := fetch("http://" + string(addr) + "/readyz"); err == nil {
				return
			}
		}
	}
	t.Fatalf("%s is not ready after a minute: %s", d.domain, d.log())
}

func fetch(url string) ([]byte, error) {
	res, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	return io.ReadAll(res.Body)
}

func (d *daemon) log() string {
	b, err := os.ReadFile(d.file("log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (d *daemon) panicked() string {
	log := d.log()
	for _, mark := range []string{"panic: ", "fatal error: "} {
		if i := strings.Index(log, mark); i >= 0 {
			return log[i:min(len(log), i+3000)]
		}
	}
	return ""
}

// metric adds up the series of one of the daemon's metrics whose labels have some
// text, 0 if there is none.
func (d *daemon) metric(t *testing.T, name string, label ...string) (sum float64) {
	t.Helper()
	text, err := fetch("http://" + d.address(t, "admin") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(name)+`(\{.*\})? (\S+)$`).FindAllSubmatch(text, -1) {
		if slices.ContainsFunc(label, func(l string) bool { return !bytes.Contains(m[1], []byte(l)) }) {
			continue
		}
		v, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

// memory returns what the process has resident now, and had at most, in bytes.
func (d *daemon) memory(t *testing.T) (now, peak int64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) int64 {
		m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(b)
		if m == nil {
			t.Fatalf("no %s of %s", name, d.domain)
		}
		n, err := strconv.ParseInt(string(m[1]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n << 10
	}
	return read("VmRSS"), read("VmHWM")
}

// cpu returns the processor time that the process has taken.
func (d *daemon) cpu(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // user and system time
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // a hundred a second on Linux
}
