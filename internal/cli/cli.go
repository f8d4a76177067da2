// Package cli is the command line of mmr: one struct per command, results on
// standard output, everything else on standard error, --json for scripts. Exit
// codes: 0 fine, 1 failure, 2 usage.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc/status"

	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/internal/buildinfo"
	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// commands is the whole command line.
type commands struct {
	Home    string           `help:"Directory of this client's state." default:"${home}" env:"MMR_HOME" type:"path" placeholder:"DIR"`
	JSON    bool             `help:"Print results as JSON, one value per line." name:"json"`
	Verbose bool             `help:"Say on standard error what is repeated and repaired." short:"v"`
	Version kong.VersionFlag `help:"Print the version and exit."`

	Keygen      keygenCmd      `cmd:"" help:"Make the keys of a hub or relay, or a trust directory for clients."`
	Account     accountCmd     `cmd:"" help:"Create and show this client's account."`
	Connect     connectCmd     `cmd:"" help:"Ask a user for a connection."`
	Requests    requestsCmd    `cmd:"" help:"List connection requests that wait for an answer."`
	Accept      acceptCmd      `cmd:"" help:"Accept a connection request."`
	Reject      rejectCmd      `cmd:"" help:"Reject a connection request; the other side is not told."`
	Disconnect  disconnectCmd  `cmd:"" help:"End a connection; the other side is not told."`
	Connections connectionsCmd `cmd:"" help:"List the users this client is connected with."`
	Room        roomCmd        `cmd:"" help:"Create, list and change rooms."`
	Device      deviceCmd      `cmd:"" help:"Use several devices."`
	Mailbox     mailboxCmd     `cmd:"" help:"Look at the mailbox, and be woken up."`
	Verify      verifyCmd      `cmd:"" help:"Show the safety code of a user, to be compared with what they see."`
	Report      reportCmd      `cmd:"" help:"Report a message to the room's hub as abuse."`
	Disclose    discloseCmd    `cmd:"" help:"Prove to a provider which of its users a member is."`
	Send        sendCmd        `cmd:"" help:"Send a message to a room."`
	Chat        chatCmd        `cmd:"" help:"Talk in a room: lines you type are sent."`
	Tokens      tokensCmd      `cmd:"" help:"Count the unspent tokens by service."`
	Maintain    maintainCmd    `cmd:"" help:"Do periodic work now; 'mmr listen' does it by itself."`
	Listen      listenCmd      `cmd:"" help:"Print what happens, as it happens."`
	Ping        pingCmd        `cmd:"" help:"Check that a hub or relay answers."`
	Inspect     inspectCmd     `cmd:"" help:"Say what an MLS message or a join link is."`
	Store       storeCmd       `cmd:"" help:"Back up, restore and check the store of a hub or a relay."`
	Demo        demoCmd        `cmd:"" help:"Run the main job on real processes and show what each party saw."`
}

// env is what commands run in.
type env struct {
	ctx            context.Context
	stdout, stderr io.Writer
	*commands
}

var errUsage = errors.New("usage")

// ExitCode is 2 for usage errors, 1 for all others.
func ExitCode(err error) int {
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

// Run runs one command.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	home, err := os.UserConfigDir()
	if err != nil {
		home = "."
	}
	var c commands
	exited := false
	p, err := kong.New(&c, kong.Name("mmr"), kong.Description("Talk in rooms without any server learning who talks to whom."),
		kong.Writers(stdout, stderr), kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars{"version": "mmr " + buildinfo.Version(), "home": filepath.Join(home, "mmr")},
		kong.Exit(func(int) { exited = true }))
	if err != nil {
		return err
	}
	k, err := p.Parse(args)
	if exited {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w\nhint: mmr --help lists the commands", errUsage, err)
	}
	return explain(k.Run(&env{ctx: ctx, stdout: stdout, stderr: stderr, commands: &c}))
}

// hints say what to do about an error, where it is not obvious.
var hints = []struct {
	err  error
	hint string
}{
	{client.ErrNoAccount, "create one with 'mmr account register', or set --home"},
	{client.ErrExists, "use another --home for another account"},
	{client.ErrNoConnection, "connect first: 'mmr connect USER --hub HUB', and the other side accepts"},
	{client.ErrUnverified, "check the trust directory; somebody may be impersonating this user"},
	{client.ErrForked, "ask another member to add you to a new room"},
	{client.ErrMember, "'mmr room list' shows who is there; nobody was added"},
	{client.ErrLocked, "make a new room with its members"},
	{client.ErrStuck, "let 'mmr listen' run, or try 'mmr room resync'"},
	{client.ErrSuspect, "'mmr room list' shows the room; 'mmr room continue' uses it again"},
	{mmrerr.NoConsent, "the user does not exist, has no packages left, or did not give consent; which of these it is, nobody is told"},
	{mmrerr.TokenInvalid, "the service may not trust your provider yet; try again in a minute"},
	{token.ErrInconsistent, "the provider gives this account another key than everybody, or has just made a new one: try again in ten minutes, then ask the provider"},
	{mmrerr.RateLimited, "wait a while"},
	{mmrerr.Unavailable, "a service on the way does not answer; 'mmr ping' checks one"},
	{mmrerr.Role, "ask an admin of the room"},
}

// explain adds a hint, and puts a service's code in place of gRPC's wording.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok {
		for _, d := range s.Details() {
			if e, ok := d.(*typesv1.Error); ok && e.GetCode() != 0 {
				code := mmrerr.Code(e.GetCode())
				if code == mmrerr.Malformed {
					err = errors.New(s.Message()) // names the field
				} else {
					err = fmt.Errorf("%w", code)
				}
			}
		}
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return fmt.Errorf("%w\nhint: %s", err, h.hint)
		}
	}
	return err
}

// print writes a result: as JSON, or in words.
func (e *env) print(v any, words string) error {
	if e.JSON {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(e.stdout, string(b))
		return err
	}
	_, err := fmt.Fprintln(e.stdout, words)
	return err
}

func (e *env) storeDir() string { return filepath.Join(e.Home, "store") }
func (e *env) trustDir() string { return filepath.Join(e.Home, "trust") }

func (e *env) options() []client.Option {
	if !e.Verbose {
		return nil
	}
	return []client.Option{client.WithLogger(slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))}
}

// open opens this client's state.
func (e *env) open() (*client.Client, error) {
	if _, err := os.Stat(e.storeDir()); err != nil {
		return nil, client.ErrNoAccount
	}
	trust, err := client.LoadTrust(e.trustDir())
	if err != nil {
		return nil, err
	}
	store, err := e.openStore()
	if err != nil {
		return nil, err
	}
	c, err := client.Open(store, trust, e.options()...)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return c, nil
}

func (e *env) openStore() (*client.PebbleStore, error) {
	if err := os.MkdirAll(e.Home, 0o700); err != nil {
		return nil, err
	}
	store, err := client.OpenPebbleStore(e.storeDir())
	if err != nil {
		return nil, fmt.Errorf("opening the state in %s: %w\nhint: another mmr may be using this --home", e.Home, err)
	}
	return store, nil
}

// with opens the client, reads its mailbox, runs f and closes the client.
func (e *env) with(f func(c *client.Client) error) error {
	c, err := e.open()
	if err != nil {
		return err
	}
	err = c.Sync(e.ctx)
	if err != nil {
		err = fmt.Errorf("reading the mailbox: %w", explain(err))
	} else {
		err = f(c)
	}
	return errors.Join(err, c.Close())
}
