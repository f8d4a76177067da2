// Package limits_test holds real processes to their limits: what a relay needs in
// memory for its listeners and under a flood, and that services which were loaded
// beyond what they can do go on by themselves.
//
//	make bench-listeners   10,000 listeners on one relay, with a table
package limits_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

var (
	listeners = flag.Int("listeners", 2000, "how many mailboxes are listened to at once, one connection each")
	idleFor   = flag.Duration("idle", 5*time.Second, "how long a relay with idle listeners is watched")
)

// asListeners makes the test's program one that listens to mailboxes: the clients
// of a relay need processes of their own.
const asListeners = "MMR_TEST_LISTENERS"

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(asListeners) != "" {
		os.Exit(listenAll(os.Stdin, os.Stdout, os.Stderr))
	}
	if testing.Short() {
		return // all of this is slow
	}
	if raceEnabled {
		fmt.Fprintln(os.Stderr, "limits: the daemons are built without the race detector, and what is measured here too: make test runs this package by itself")
		return
	}
	code := m.Run()
	if madeRoot != "" {
		_ = os.RemoveAll(madeRoot) // of the tests, whose results are known
	}
	os.Exit(code)
}
