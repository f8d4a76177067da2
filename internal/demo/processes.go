package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// process is one daemon or server of the demo.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string // file with its standard error
	done chan error
}

// start runs a program whose standard error goes to a file.
func start(name, dir, program string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan error, 1)}
	f, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(program, args...)
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	go func() {
		p.done <- p.cmd.Wait()
		_ = f.Close() // the process has written what it had to say
	}()
	return p, nil
}

// stop asks the process to end and waits; after 15 s it is killed.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-p.done:
		p.done <- err
		if err != nil {
			return fmt.Errorf("%s: %w: %s", p.name, err, p.tail())
		}
		return nil
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill() // it did not listen
		return fmt.Errorf("%s did not stop", p.name)
	}
}

// kill ends the process if it still runs, for ways out on errors.
func (p *process) kill() {
	select {
	case err := <-p.done:
		p.done <- err
	default:
		_ = p.cmd.Process.Kill() // best effort on a way out
		err := <-p.done
		p.done <- err
	}
}

func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// waitFor polls a condition until it holds, the process ends, or 30 s pass.
func (p *process) waitFor(ctx context.Context, what string, ok func() bool) error {
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		select {
		case err := <-p.done:
			p.done <- err
			return fmt.Errorf("%s ended: %s", p.name, p.tail())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %s did not happen in 30 s: %s", p.name, what, p.tail())
		}
	}
	return nil
}

// ready waits until a daemon's admin endpoint says that it is ready.
func (p *process) ready(ctx context.Context, adminFile string) error {
	client := &http.Client{Timeout: 2 * time.Second}
	return p.waitFor(ctx, "readiness", func() bool {
		addr, err := os.ReadFile(adminFile)
		if err != nil {
			return false
		}
		res, err := client.Get("http://" + string(addr) + "/readyz")
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }() // read to its end below
		_, _ = io.Copy(io.Discard, res.Body)    // only the status counts
		return res.StatusCode == http.StatusOK
	})
}

// freePorts returns n loopback addresses that are free now.
func freePorts(n int) ([]string, error) {
	var addrs []string
	var ls []net.Listener
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		ls = append(ls, l)
		addrs = append(addrs, l.Addr().String())
	}
	for _, l := range ls {
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	return addrs, nil
}

// startRedis runs a private redis-server on a unix socket.
func startRedis(ctx context.Context, dir string) (*process, string, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, "", errors.New("redis-server is not installed\nhint: make redis, or the demo with the embedded store: make demo")
	}
	sockDir, err := os.MkdirTemp("", "mmr") // short: socket paths are limited
	if err != nil {
		return nil, "", err
	}
	sock := filepath.Join(sockDir, "s")
	p, err := start("redis", dir, program, "--port", "0", "--unixsocket", sock, "--save", "", "--appendonly", "no", "--dir", sockDir)
	if err != nil {
		return nil, "", err
	}
	err = p.waitFor(ctx, "listening", func() bool {
		c, err := net.Dial("unix", sock)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return p, sock, err
}
