// Package scripttest runs the programs of mmrelay in testscripts: hub, relay and
// mmr are commands, and a few conditions of running daemons can be waited for.
package scripttest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mmrelay/mmrelay/internal/cli"
	"github.com/mmrelay/mmrelay/internal/daemon"
	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/pebbledb"
	"github.com/mmrelay/mmrelay/internal/store"
)

// Main is the TestMain of a package with scripts.
func Main(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"hub":   func() { exit("hub", daemon.RunHub, daemon.ExitCode) },
		"relay": func() { exit("relay", daemon.RunRelay, daemon.ExitCode) },
		"mmr":   func() { exit("mmr", cli.Run, cli.ExitCode) },
	})
}

type program = func(ctx context.Context, args []string, stdout, stderr io.Writer) error

func exit(name string, run program, code func(error) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, name+": error:", err)
		os.Exit(code(err))
	}
	os.Exit(0)
}

// Run runs the scripts of dir.
func Run(t *testing.T, dir string) {
	t.Helper()
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			// Addresses that are free now, for daemons that must know each other's.
			for i := range 6 {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				e.Setenv(fmt.Sprintf("ADDR%d", i), l.Addr().String())
				if err := l.Close(); err != nil {
					return err
				}
			}
			e.Setenv("MMR_HOME", e.WorkDir+"/home")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"waitfile": waitFile,
			"setvar":   setVar,
			"corrupt":  corrupt,
			"newer":    newer,
			"lose":     lose,
		},
	})
}

// waitFile FILE waits until a file exists: a daemon has bound its address.
func waitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfile FILE")
	}
	for range 1500 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("%s does not appear", args[0])
}

// corrupt DIR changes a byte in the middle of every table of an embedded store, and
// of its list of tables.
func corrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: corrupt DIR")
	}
	n := 0
	for _, pattern := range []string{"*.sst", "MANIFEST-*"} {
		files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), pattern))
		ts.Check(err)
		for _, f := range files {
			b, err := os.ReadFile(f)
			ts.Check(err)
			b[len(b)/2] ^= 0x41
			ts.Check(os.WriteFile(f, b, 0o600))
			n++
		}
	}
	if n == 0 {
		ts.Fatalf("%s has no store", args[0])
	}
}

// newer DIR makes an embedded store one of a version that does not exist yet.
func newer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: newer DIR")
	}
	db, err := pebbledb.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(pebbledb.SetVersion(db, pebbledb.Version+1))
	ts.Check(db.Close())
}

// lose DIR KIND NAME... deletes the records of some names or groups from an embedded
// store: as a program did that was cut before it deleted the rest.
func lose(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: lose DIR KIND NAME...")
	}
	ctx := context.Background()
	s, err := store.Open(ctx, "pebble:"+ts.MkAbs(args[0]), args[1])
	ts.Check(err)
	lost := 0
	for g, err := range s.KV.Groups(ctx, "") {
		ts.Check(err)
		for r, err := range s.KV.Scan(ctx, g, "") {
			ts.Check(err)
			if slices.Contains(args[2:], g) || slices.Contains(args[2:], r.Key.Name) {
				ts.Check(kv.Delete(ctx, s.KV, r.Key))
				lost++
			}
		}
	}
	ts.Check(s.Close())
	if lost == 0 {
		ts.Fatalf("%s has no such record", args[0])
	}
}

// setVar NAME FILE [KEY] sets a variable to the content of a file (stdout for
// the last command's output), or to the string value of a key in its JSON.
func setVar(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: setvar NAME FILE [KEY]")
	}
	v := strings.TrimSpace(ts.ReadFile(args[1]))
	if len(args) == 3 {
		_, rest, ok := strings.Cut(v, `"`+args[2]+`":"`)
		if !ok {
			ts.Fatalf("no %s in %s", args[2], args[1])
		}
		v, _, _ = strings.Cut(rest, `"`)
	}
	ts.Setenv(args[0], v)
}
