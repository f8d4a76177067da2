package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/mmrelay/mmrelay/pkg/client"
)

type mailboxCmd struct {
	Show mailboxShow `cmd:"" help:"Say how full the mailbox is."`
	Push mailboxPush `cmd:"" help:"Give the relay a token for its push webhook, or take it back."`
}

type mailboxShow struct{}

func (mailboxShow) Run(e *env) error {
	c, err := e.open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // read only
	st, err := c.Mailbox(e.ctx)
	if err != nil {
		return explain(err)
	}
	return e.print(st, fmt.Sprintf("%d envelopes wait; %d were refused since the mailbox was made, because it was full", st.Entries, st.Dropped))
}

type mailboxPush struct {
	Token string `arg:"" optional:"" help:"File with the token, sealed to the push gateway, at most 512 bytes; none ends wake-ups." type:"existingfile"`
}

func (k *mailboxPush) Run(e *env) error {
	var token []byte
	words := "no wake-ups any more"
	if k.Token != "" {
		var err error
		if token, err = os.ReadFile(k.Token); err != nil {
			return err
		}
		words = "the push gateway is told when envelopes come"
	}
	return e.with(func(c *client.Client) error {
		if err := c.SetPush(e.ctx, token); err != nil {
			return err
		}
		return e.print(map[string]bool{"push": len(token) > 0}, words)
	})
}

type roomRecreate struct {
	Room    string   `arg:"" help:"The room's URI."`
	Hub     string   `help:"Domain of another hub." placeholder:"DOMAIN"`
	Without []string `help:"Users to leave out: mimi://domain/u/name." placeholder:"USER"`
}

func (k *roomRecreate) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		room, missing, err := c.Recreate(e.ctx, k.Room, k.Hub, k.Without...)
		if err != nil {
			return err
		}
		words := []string{room}
		for _, u := range missing {
			words = append(words, "not added, since there is no connection: "+u)
		}
		return e.print(map[string]any{"room": room, "missing": missing}, strings.Join(words, "\n"))
	})
}
