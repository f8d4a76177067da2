package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/childproc"
	"github.com/mmrelay/mmrelay/pkg/client"
)

// account is what a person does: with a client of this process, or of one that can
// be killed.
type account interface {
	User() string
	Connections() []string
	Connect(ctx context.Context, user, hub string) error
	Requests(ctx context.Context) ([]client.Request, error)
	Accept(ctx context.Context, id string) error
	CreateRoom(ctx context.Context, hub string, opts ...client.RoomOption) (string, error)
	CreateLink(ctx context.Context, room string, validity time.Duration) (string, error)
	Join(ctx context.Context, link string) (string, error)
	Add(ctx context.Context, room string, users ...string) error
	Remove(ctx context.Context, room, user string) error
	Refresh(ctx context.Context, room string) error
	Send(ctx context.Context, room string, data []byte) error
	Room(room string) (client.RoomInfo, error)
	Mailbox(ctx context.Context) (client.MailboxStat, error)
	Close() error
}

var _ account = (*client.Client)(nil)

// remote is a client in a process of its own, on a store that outlives it.
type remote struct {
	cfg  appConfig
	hear func(note)
	wg   sync.WaitGroup
	quit chan struct{} // closed when it is over

	mu    sync.Mutex // guards all below
	cmd   *exec.Cmd
	calls *rpc.Client
	up    chan struct{} // closed while the process serves
	user  string
}

var _ account = (*remote)(nil)

var errKilled = errors.New("the client was killed")

// newRemote starts a client process. hear is called for each line of its notes.
func newRemote(tb testing.TB, cfg appConfig, hear func(note)) *remote {
	tb.Helper()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	r := &remote{cfg: cfg, hear: hear, quit: make(chan struct{}), up: make(chan struct{})}
	if err := r.start(); err != nil {
		tb.Fatalf("starting a client: %v", err)
	}
	r.wg.Go(r.read)
	return r
}

// start starts the process and waits until it serves.
func (r *remote) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	config, err := json.Marshal(r.cfg)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(r.cfg.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env, cmd.Stderr, cmd.SysProcAttr = append(os.Environ(), appEnv+"="+string(config)), log, childproc.Attr()
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return err
	}
	_ = log.Close() // the child has it
	calls := rpc.NewClient(pipe{out, in})
	var who Answer
	if err := calls.Call("App.Do", Call{Do: "user", Timeout: callTimeout}, &who); err != nil {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it did
		tail, _ := os.ReadFile(log.Name())
		return errors.Join(err, errors.New(string(tail)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cmd, r.calls, r.user = cmd, calls, who.Text
	close(r.up)
	return nil
}

// kill kills the process.
func (r *remote) kill() {
	r.mu.Lock()
	cmd, calls := r.cmd, r.calls
	r.cmd = nil
	if cmd != nil {
		r.up = make(chan struct{})
	}
	r.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill() // SIGKILL; it may have ended
	_ = cmd.Wait()         // that it ended matters, not how
	_ = calls.Close()      // what waits for an answer gets none
}

// do makes the process carry out a step, when it is there.
func (r *remote) do(ctx context.Context, what string, args ...string) (*Answer, error) {
	r.mu.Lock()
	up := r.up
	r.mu.Unlock()
	select {
	case <-up:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.quit:
		return nil, errKilled
	}
	r.mu.Lock()
	calls := r.calls
	r.mu.Unlock()
	timeout := callTimeout
	if at, ok := ctx.Deadline(); ok {
		timeout = time.Until(at)
	}
	a := new(Answer)
	if err := calls.Call("App.Do", Call{Do: what, Args: args, Timeout: timeout}, a); err != nil {
		return nil, errKilled
	}
	if a.Err != "" {
		return a, errors.New(a.Err)
	}
	return a, nil
}

func (r *remote) step(ctx context.Context, what string, args ...string) error {
	_, err := r.do(ctx, what, args...)
	return err
}

func (r *remote) text(ctx context.Context, what string, args ...string) (string, error) {
	a, err := r.do(ctx, what, args...)
	if err != nil {
		return "", err
	}
	return a.Text, nil
}

func (r *remote) User() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.user
}

func (r *remote) Connections() []string {
	a, err := r.do(context.Background(), "connections")
	if err != nil {
		return nil
	}
	return a.Texts
}

func (r *remote) Requests(ctx context.Context) ([]client.Request, error) {
	a, err := r.do(ctx, "requests")
	if err != nil {
		return nil, err
	}
	return a.Requests, nil
}

func (r *remote) Room(room string) (client.RoomInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	a, err := r.do(ctx, "room", room)
	if err != nil {
		return client.RoomInfo{}, err
	}
	return a.Room, nil
}

func (r *remote) Mailbox(ctx context.Context) (client.MailboxStat, error) {
	a, err := r.do(ctx, "mailbox")
	if err != nil {
		return client.MailboxStat{}, err
	}
	return a.Stat, nil
}

func (r *remote) Connect(ctx context.Context, user, hub string) error {
	return r.step(ctx, "connect", user, hub)
}
func (r *remote) Accept(ctx context.Context, id string) error { return r.step(ctx, "accept", id) }
func (r *remote) CreateRoom(ctx context.Context, hub string, _ ...client.RoomOption) (string, error) {
	return r.text(ctx, "create", hub)
}

func (r *remote) CreateLink(ctx context.Context, room string, _ time.Duration) (string, error) {
	return r.text(ctx, "link", room)
}

func (r *remote) Join(ctx context.Context, link string) (string, error) {
	return r.text(ctx, "join", link)
}

func (r *remote) Add(ctx context.Context, room string, users ...string) error {
	return r.step(ctx, "add", append([]string{room}, users...)...)
}

func (r *remote) Remove(ctx context.Context, room, user string) error {
	return r.step(ctx, "remove", room, user)
}

func (r *remote) Refresh(ctx context.Context, room string) error {
	return r.step(ctx, "refresh", room)
}

func (r *remote) Send(ctx context.Context, room string, data []byte) error {
	return r.step(ctx, "send", room, string(data))
}

// Close ends the process for good.
func (r *remote) Close() error {
	close(r.quit)
	r.kill()
	r.wg.Wait()
	return nil
}

// read follows the notes of the process, across its lives.
func (r *remote) read() {
	var at int64
	for {
		last := false
		select {
		case <-r.quit:
			last = true
		case <-time.After(20 * time.Millisecond):
		}
		at += r.readFrom(at)
		if last {
			return
		}
	}
}

// readFrom hears the whole lines from a place on, and returns how long they are.
func (r *remote) readFrom(at int64) int64 {
	f, err := os.Open(r.cfg.events())
	if err != nil {
		return 0 // not yet
	}
	defer func() { _ = f.Close() }() // it was read
	data, err := io.ReadAll(io.NewSectionReader(f, at, 1<<40))
	if err != nil {
		return 0
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	for line := range bytes.Lines(whole) {
		var x note
		if json.Unmarshal(line, &x) == nil {
			r.hear(x)
		}
	}
	return int64(len(whole))
}
