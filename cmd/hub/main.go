// Command hub runs a hub: it orders and fans out rooms without learning who
// talks to whom.
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
	err := daemon.RunHub(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hub: error:", err)
		os.Exit(daemon.ExitCode(err))
	}
}
