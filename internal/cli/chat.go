package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"

	"github.com/mmrelay/mmrelay/pkg/client"
)

type chatCmd struct {
	Room string `arg:"" help:"The room's URI."`
}

// Run shows a room's messages as they come and sends each line that is typed.
// It ends with the input.
func (k *chatCmd) Run(e *env) error {
	c, err := e.open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // every event is written before it is shown
	info, err := c.Room(k.Room)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(e.stderr, describe(info)+"\neach line you type is sent; end with Ctrl-D"); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	listening := make(chan error, 1)
	go func() {
		listening <- c.Listen(ctx, func(ev client.Event) error {
			if ev.Room != info.Room {
				return nil
			}
			return e.print(ev, chatLine(ev))
		})
	}()
	typed := make(chan string)
	go func() { // ends with the process, or with the input
		defer close(typed)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			typed <- in.Text()
		}
	}()
	for {
		select {
		case err := <-listening:
			if ctx.Err() != nil {
				return nil
			}
			return err
		case line, ok := <-typed:
			if !ok {
				cancel()
				if err := <-listening; err != nil && !errors.Is(err, context.Canceled) {
					return err
				}
				return nil
			}
			if line == "" {
				continue
			}
			if err := c.Send(ctx, k.Room, []byte(line)); err != nil {
				if _, err := fmt.Fprintln(e.stderr, "not sent:", explain(err)); err != nil {
					return err
				}
			}
		}
	}
}

// chatLine says an event of the room in one line.
func chatLine(ev client.Event) string {
	if ev.Kind != client.KindMessage {
		return "* " + strings.TrimPrefix(sentence(ev), ev.Room+"  ")
	}
	who := ev.User
	if who == "" {
		who = "somebody unverified"
	}
	return fmt.Sprintf("%s %s: %s", ev.Accepted.Local().Format("15:04"), who, printable(ev.Data))
}

// printable removes what could control the terminal.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(string(b), string(unicode.ReplacementChar)))
}
