package cli

import (
	"context"

	"github.com/mmrelay/mmrelay/pkg/client"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// roomArg is a command that needs a room and nothing else.
type roomArg struct {
	Room string `arg:"" help:"The room's URI."`
}

func (k *roomArg) do(e *env, words string, f func(*client.Client, context.Context, string) error) error {
	return e.with(func(c *client.Client) error {
		if err := f(c, e.ctx, k.Room); err != nil {
			return err
		}
		return e.print(map[string]string{"room": k.Room}, words)
	})
}

type roomLeave struct{ roomArg }

func (k *roomLeave) Run(e *env) error {
	return k.do(e, "left; the others carry it out with their next commit", (*client.Client).Leave)
}

type roomRevoke struct{ roomArg }

func (k *roomRevoke) Run(e *env) error {
	return k.do(e, "no link opens this room any more", (*client.Client).RevokeLinks)
}

type roomResync struct{ roomArg }

func (k *roomResync) Run(e *env) error {
	return k.do(e, "joined again", (*client.Client).Resync)
}

type roomBlock struct{ roomArg }

func (k *roomBlock) Run(e *env) error {
	return k.do(e, "your relay drops what comes to your present address in this room", (*client.Client).Block)
}

type roomContinue struct{ roomArg }

func (k *roomContinue) Run(e *env) error {
	return k.do(e, "used again, on your word", (*client.Client).Continue)
}

type roomRefresh struct{ roomArg }

func (k *roomRefresh) Run(e *env) error { return k.do(e, "refreshed", (*client.Client).Refresh) }

type roomBan struct {
	Room string `arg:"" help:"The room's URI."`
	User string `arg:"" help:"User to ban: mimi://domain/u/name."`
}

func (k *roomBan) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		if err := c.Ban(e.ctx, k.Room, k.User); err != nil {
			return err
		}
		return e.print(map[string]string{"room": k.Room, "banned": k.User}, "removed "+k.User+"; 'mmr listen' tells if they are back")
	})
}

type roomRole struct {
	Room string `arg:"" help:"The room's URI."`
	User string `arg:"" help:"The member: mimi://domain/u/name, or its pseudonym."`
	Role string `arg:"" help:"observer, member, moderator or admin." enum:"observer,member,moderator,admin"`
}

func (k *roomRole) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		if err := c.SetRole(e.ctx, k.Room, k.User, k.Role); err != nil {
			return err
		}
		return e.print(map[string]string{"room": k.Room, "user": k.User, "role": k.Role}, k.User+" is "+k.Role)
	})
}

var requirements = map[string]pseudonym.LinkKeyRequirement{
	"all": pseudonym.RequireAll, "admins": pseudonym.RequireAdmins, "optional": pseudonym.RequireOptional, "none": pseudonym.RequireNone,
}

type roomCreate struct {
	Hub        string `help:"Domain of the hub." required:"" placeholder:"DOMAIN"`
	Identities string `help:"Who shows the others who they are: all, admins, optional, none." enum:"all,admins,optional,none" default:"all"`
	InviteOnly bool   `help:"Nobody joins by a link."`
	Observers  bool   `help:"Who joins only reads, until given a role."`
	Static     bool   `help:"Share link keys as the draft describes it, without forward secrecy: for conformance."`
	HubKey     bool   `help:"Let the hub store the room under a key of its own."`
}

func (k *roomCreate) options() []client.RoomOption {
	out := []client.RoomOption{client.WithIdentities(requirements[k.Identities])}
	for _, o := range []struct {
		on bool
		o  client.RoomOption
	}{
		{k.InviteOnly, client.WithInviteOnly()},
		{k.Observers, client.WithObservers()},
		{k.Static, client.WithStaticLinks()},
		{k.HubKey, client.WithHubKey()},
	} {
		if o.on {
			out = append(out, o.o)
		}
	}
	return out
}

func (k *roomCreate) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		room, err := c.CreateRoom(e.ctx, k.Hub, k.options()...)
		if err != nil {
			return err
		}
		return e.print(map[string]string{"room": room}, room)
	})
}
