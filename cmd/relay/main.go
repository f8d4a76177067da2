// Command relay runs a provider: accounts, anonymous mailboxes, KeyPackages,
// forwarding of its clients and delivery from hubs.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/mmrelay/mmrelay/internal/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := daemon.RunRelay(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay: error:", err)
		os.Exit(daemon.ExitCode(err))
	}
}
