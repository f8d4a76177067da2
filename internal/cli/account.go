package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mmrelay/mmrelay/pkg/client"
)

type accountCmd struct {
	Register registerCmd `cmd:"" help:"Create an account at a provider, with a mailbox."`
	Show     showCmd     `cmd:"" help:"Show this client's account."`
}

type registerCmd struct {
	User    string `help:"User name: a-z 0-9 . _ -" required:"" placeholder:"NAME"`
	Device  string `help:"Device name, unique at the provider." required:"" placeholder:"NAME"`
	Relay   string `help:"The provider: domain=host:port of its client listener." required:"" placeholder:"RELAY"`
	Partner string `help:"A partner relay, domain=host:port, through which the own provider is reached without the account. Strongly recommended." placeholder:"RELAY"`
	Trust   string `help:"Trust directory made by 'mmr keygen trust'." required:"" type:"existingdir" placeholder:"DIR"`
	Code    string `help:"File whose first line is the provider's registration code." type:"existingfile" name:"code-file" placeholder:"FILE"`
}

func domainAddr(s string) (domain, addr string, err error) {
	domain, addr, ok := strings.Cut(s, "=")
	if !ok || domain == "" || addr == "" {
		return "", "", fmt.Errorf("%w: %q is not domain=host:port", errUsage, s)
	}
	return domain, addr, nil
}

func (r *registerCmd) Run(e *env) error {
	a := client.Account{User: r.User, Device: r.Device}
	var err error
	if a.Domain, a.Relay, err = domainAddr(r.Relay); err != nil {
		return err
	}
	if r.Partner != "" {
		if a.PartnerDomain, a.Partner, err = domainAddr(r.Partner); err != nil {
			return err
		}
	}
	if r.Code != "" {
		data, err := os.ReadFile(r.Code)
		if err != nil {
			return err
		}
		line, _, _ := strings.Cut(string(data), "\n")
		a.Code = strings.TrimSpace(line)
	}
	trust, err := client.LoadTrust(r.Trust)
	if err != nil {
		return err
	}
	store, err := e.openStore()
	if err != nil {
		return err
	}
	if err := os.CopyFS(e.trustDir(), os.DirFS(r.Trust)); err != nil && !errors.Is(err, os.ErrExist) {
		return errors.Join(err, store.Close())
	}
	c, err := client.Register(e.ctx, store, a, trust, e.options()...)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	defer func() { _ = c.Close() }() // everything is written
	return e.print(map[string]string{"user": c.User()}, "registered as "+c.User())
}

type showCmd struct{}

func (showCmd) Run(e *env) error {
	c, err := e.open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // read only
	return e.print(map[string]string{"user": c.User()}, c.User())
}

type connectCmd struct {
	User string `arg:"" help:"Whom to ask: mimi://domain/u/name."`
	Hub  string `help:"Domain of the hub for the connection room." required:"" placeholder:"DOMAIN"`
}

func (k *connectCmd) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		if err := c.Connect(e.ctx, k.User, k.Hub); err != nil {
			return err
		}
		return e.print(map[string]string{"requested": k.User}, "request sent; 'mmr listen' shows when it is accepted")
	})
}

type requestsCmd struct{}

func (requestsCmd) Run(e *env) error {
	c, err := e.open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // everything is written
	rs, err := c.Requests(e.ctx)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if err := e.print(r, r.ID+"  "+r.User); err != nil {
			return err
		}
	}
	return nil
}

type acceptCmd struct {
	ID string `arg:"" help:"The request's id, from 'mmr requests'."`
}

func (k *acceptCmd) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		if err := c.Accept(e.ctx, k.ID); err != nil {
			return err
		}
		return e.print(map[string]string{"accepted": k.ID}, "connected")
	})
}

type rejectCmd struct {
	ID string `arg:"" help:"The request's id, from 'mmr requests'."`
}

func (k *rejectCmd) Run(e *env) error {
	c, err := e.open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // everything is written
	if err := c.Reject(e.ctx, k.ID); err != nil {
		return err
	}
	return e.print(map[string]string{"rejected": k.ID}, "rejected")
}

type connectionsCmd struct{}

func (connectionsCmd) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		for _, u := range c.Connections() {
			if err := e.print(map[string]string{"user": u}, u); err != nil {
				return err
			}
		}
		return nil
	})
}
