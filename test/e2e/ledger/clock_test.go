package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/mmrelay/mmrelay/internal/daemontest"
)

// skewEnv is the environment variable by which a skewed daemon's clock is set: the
// seconds that are added to it.
const skewEnv = "MMR_LEDGER_SKEW"

// buildSkewed builds the daemons with a standard library whose time.Now is off by
// what skewEnv says. Nothing else can change the clock of one process: there is no
// namespace of the wall clock, and a Go program asks the kernel without the C
// library. The standard library and the daemons' code stay as they are.
func buildSkewed(s *daemontest.Set) error {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	src := filepath.Join(string(bytes.TrimSpace(root)), "src", "time", "time.go")
	code, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	const line = "sec, nsec, mono := runtimeNow()\n\tif mono == 0 {"
	if bytes.Count(code, []byte(line)) != 1 {
		return errors.New("time.Now is not what it was: the skewed build needs another patch")
	}
	code = bytes.Replace(code, []byte(line), []byte("sec, nsec, mono := runtimeNow()\n\tsec += ledgerSkew\n\tif mono == 0 {"), 1)
	code = append(code, `
var ledgerSkew = func() (n int64) {
	s, _ := syscall.Getenv("`+skewEnv+`")
	sign := int64(1)
	for i := range len(s) {
		if s[i] == '-' {
			sign = -1
		} else {
			n = 10*n + int64(s[i]-'0')
		}
	}
	return sign * n
}()
`...)
	code = bytes.Replace(code, []byte("import (\n"), []byte("import (\n\t\"syscall\"\n"), 1)
	patched := filepath.Join(s.Root, "time.go.txt")
	overlay := filepath.Join(s.Root, "overlay.json")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{src: patched}})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(patched, code, 0o600), os.WriteFile(overlay, list, 0o600)); err != nil {
		return err
	}
	return s.Build("skewed", "-overlay", overlay)
}

// setClock makes the next start of the daemon run with a clock that many seconds
// off.
func (p *process) setClock(seconds int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dir, file := filepath.Split(p.program)
	if filepath.Base(dir) != "skewed" {
		p.program = filepath.Join(filepath.Dir(filepath.Clean(dir)), "skewed", file)
	}
	p.env = append(os.Environ(), fmt.Sprintf("%s=%d", skewEnv, seconds))
}

// wrongClock restarts a process with a clock that is 5 minutes off, and some time
// later with the right one.
func (f *faults) wrongClock(ctx context.Context) {
	p := f.oneOf(f.d.processes())
	seconds := 300 * (2*f.rnd.IntN(2) - 1)
	f.log("  %s: %+d s", p.name, seconds)
	for _, s := range []int{seconds, 0} {
		p.end(syscall.SIGKILL)
		p.setClock(s)
		f.restart(p)
		sleep(ctx, f.pause)
	}
}
