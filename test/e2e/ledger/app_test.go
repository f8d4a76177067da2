package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mmrelay/mmrelay/pkg/client"
)

// appEnv makes the test binary a client process: the value is an appConfig.
const appEnv = "MMR_LEDGER_APP"

// appConfig says who a client process is.
type appConfig struct {
	Dir, Trust string
	Account    client.Account
}

func (c *appConfig) events() string { return filepath.Join(c.Dir, "events") }

// note is a line of the file in which a client process keeps what it was told:
// an event, or a warning of the SDK.
type note struct {
	At    time.Time
	Event *client.Event `json:",omitempty"`
	Warn  string        `json:",omitempty"`
}

// notes is that file. A line is there when the SDK is told that its event was
// taken, as client.Listen asks for, and a number that is there is not written
// again: what is killed between the two is told again. The lines outlive the
// process; that they outlive the machine is not asked for.
type notes struct {
	mu   sync.Mutex // guards all below
	file *os.File
	last uint64
}

func openNotes(name string) (*notes, error) {
	n := new(notes)
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	for line := range bytes.Lines(whole) {
		var x note
		if err := json.Unmarshal(line, &x); err != nil {
			return nil, err
		}
		if x.Event != nil {
			n.last = x.Event.Number
		}
	}
	if n.file, err = os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	if err := n.file.Truncate(int64(len(whole))); err != nil {
		return nil, err
	}
	_, err = n.file.Seek(int64(len(whole)), io.SeekStart)
	return n, err
}

func (n *notes) add(x note) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if x.Event != nil && x.Event.Number <= n.last {
		return nil
	}
	x.At = time.Now()
	line, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if _, err := n.file.Write(append(line, '\n')); err != nil {
		return err
	}
	if x.Event != nil {
		n.last = x.Event.Number
	}
	return nil
}

// The notes are a slog.Handler for the SDK's warnings.
func (n *notes) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (n *notes) WithAttrs([]slog.Attr) slog.Handler { return n }

func (n *notes) WithGroup(string) slog.Handler { return n }

func (n *notes) Handle(_ context.Context, r slog.Record) error { return n.add(note{Warn: r.Message}) }

// App is a client process as its parent calls it.
type App struct{ c *client.Client }

// Call is one step. It is given up after Timeout.
type Call struct {
	Do      string
	Args    []string
	Timeout time.Duration
}

// Answer is what comes back. An error is text: it may be of any type.
type Answer struct {
	Text     string
	Texts    []string
	Room     client.RoomInfo
	Requests []client.Request
	Stat     client.MailboxStat
	Err      string
}

// Do carries out a step.
func (a *App) Do(c Call, r *Answer) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	var err error
	arg := func(i int) string { return c.Args[i] }
	switch c.Do {
	case "user":
		r.Text = a.c.User()
	case "connections":
		r.Texts = a.c.Connections()
	case "connect":
		err = a.c.Connect(ctx, arg(0), arg(1))
	case "requests":
		r.Requests, err = a.c.Requests(ctx)
	case "accept":
		err = a.c.Accept(ctx, arg(0))
	case "create":
		r.Text, err = a.c.CreateRoom(ctx, arg(0))
	case "link":
		r.Text, err = a.c.CreateLink(ctx, arg(0), time.Hour)
	case "join":
		r.Text, err = a.c.Join(ctx, arg(0))
	case "add":
		err = a.c.Add(ctx, arg(0), arg(1))
	case "remove":
		err = a.c.Remove(ctx, arg(0), arg(1))
	case "refresh":
		err = a.c.Refresh(ctx, arg(0))
	case "send":
		err = a.c.Send(ctx, arg(0), []byte(arg(1)))
	case "room":
		r.Room, err = a.c.Room(arg(0))
	case "mailbox":
		r.Stat, err = a.c.Mailbox(ctx)
	default:
		return fmt.Errorf("%s: no such step", c.Do)
	}
	if err != nil {
		r.Err = err.Error()
	}
	return nil
}

// app is the client process: it lives until its parent closes the pipe, or kills
// it.
func app(config string) error {
	var cfg appConfig
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		return err
	}
	trust, err := client.LoadTrust(cfg.Trust)
	if err != nil {
		return err
	}
	n, err := openNotes(cfg.events())
	if err != nil {
		return err
	}
	store, err := client.OpenPebbleStore(filepath.Join(cfg.Dir, "store"))
	if err != nil {
		return err
	}
	opts := slices.Concat(options, []client.Option{client.WithLogger(slog.New(n))})
	c, err := client.Open(store, trust, opts...)
	if errors.Is(err, client.ErrNoAccount) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c, err = client.Register(ctx, store, cfg.Account, trust, opts...)
	}
	if err != nil {
		return err
	}
	go listen(context.Background(), c, func(e client.Event) error { return n.add(note{Event: &e}) })
	s := rpc.NewServer()
	if err := s.Register(&App{c}); err != nil {
		return err
	}
	s.ServeConn(pipe{os.Stdin, os.Stdout})
	return c.Close()
}

// pipe is both directions between parent and child.
type pipe struct {
	io.ReadCloser
	io.WriteCloser
}

// Close closes both.
func (p pipe) Close() error { return errors.Join(p.ReadCloser.Close(), p.WriteCloser.Close()) }

// listen listens until ctx ends, as a program would.
func listen(ctx context.Context, c *client.Client, handle func(client.Event) error) {
	for ctx.Err() == nil {
		err := c.Listen(ctx, handle)
		if ctx.Err() == nil && !errors.Is(err, client.ErrReplaced) {
			sleep(ctx, 100*time.Millisecond)
		}
	}
}
