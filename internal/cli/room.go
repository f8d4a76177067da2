package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/mmrelay/mmrelay/pkg/client"
)

type roomCmd struct {
	Create   roomCreate   `cmd:"" help:"Create a room at a hub."`
	List     roomList     `cmd:"" help:"List rooms and their members."`
	Add      roomAdd      `cmd:"" help:"Add users this client is connected with."`
	Remove   roomRemove   `cmd:"" help:"Remove a user with all devices."`
	Link     roomLink     `cmd:"" help:"Make a secret link by which its holder can join."`
	Join     roomJoin     `cmd:"" help:"Join a room by a link."`
	Leave    roomLeave    `cmd:"" help:"Leave a room with all your devices."`
	Role     roomRole     `cmd:"" help:"Give a member a role."`
	Ban      roomBan      `cmd:"" help:"Remove a user, and be told if it is back."`
	Revoke   roomRevoke   `cmd:"" help:"End all links of a room."`
	Refresh  roomRefresh  `cmd:"" help:"Replace this client's keys, address and credential in a room."`
	Resync   roomResync   `cmd:"" help:"Join a room again, with the same identity, after losing one's place in it."`
	Recreate roomRecreate `cmd:"" help:"Make a room anew that is forked, locked or stuck."`
	Block    roomBlock    `cmd:"" help:"Let the relay drop what comes from a room that cannot be left."`
	Continue roomContinue `cmd:"" help:"Use a room again in which the rules were broken."`
}

type roomList struct{}

func (roomList) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		for _, r := range c.Rooms() {
			if err := e.print(r, describe(r)); err != nil {
				return err
			}
		}
		return nil
	})
}

func describe(r client.RoomInfo) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (epoch %d)", r.Room, r.Epoch)
	for _, warning := range []struct {
		on    bool
		words string
	}{
		{r.Forked, " FORKED BY THE HUB"},
		{r.Locked, " LOCKED BY A MEMBER: make a new room"},
		{r.Gone, " GONE: the hub does not know you as a member"},
		{r.Stuck, " STUCK: trying to join it again"},
		{r.Suspect, " SUSPECT: hub and a member broke the rules; see 'mmr room continue'"},
	} {
		if warning.on {
			b.WriteString(warning.words)
		}
	}
	for _, m := range r.Members {
		name := m.User
		if !m.Verified {
			name = "UNVERIFIED " + m.Pseudonym
		}
		switch m.Identity {
		case client.Confirmed:
			name += " (confirmed)"
		case client.Changed:
			name += " (DEVICE CHANGED since you confirmed: compare 'mmr verify' again)"
		}
		if m.Shared {
			name += " (ALSO UNDER ANOTHER PSEUDONYM)"
		}
		if m.Own {
			name += " (you)"
		}
		fmt.Fprintf(&b, "\n  %-10s %s", m.Role, name)
	}
	return b.String()
}

type roomAdd struct {
	Room string   `arg:"" help:"The room's URI."`
	User []string `arg:"" help:"Users to add: mimi://domain/u/name."`
}

func (k *roomAdd) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		if err := c.Add(e.ctx, k.Room, k.User...); err != nil {
			return err
		}
		return e.print(map[string]any{"room": k.Room, "added": k.User}, "added "+strings.Join(k.User, ", "))
	})
}

type roomRemove struct {
	Room string `arg:"" help:"The room's URI."`
	User string `arg:"" help:"User to remove: mimi://domain/u/name."`
}

func (k *roomRemove) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		if err := c.Remove(e.ctx, k.Room, k.User); err != nil {
			return err
		}
		return e.print(map[string]string{"room": k.Room, "removed": k.User}, "removed "+k.User)
	})
}

type roomLink struct {
	Room  string        `arg:"" help:"The room's URI."`
	Valid time.Duration `help:"How long the link can be used." default:"24h"`
}

func (k *roomLink) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		link, err := c.CreateLink(e.ctx, k.Room, k.Valid)
		if err != nil {
			return err
		}
		return e.print(map[string]string{"link": link}, link)
	})
}

type roomJoin struct {
	Link string `arg:"" help:"The link."`
}

func (k *roomJoin) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		room, err := c.Join(e.ctx, k.Link)
		if err != nil {
			return err
		}
		return e.print(map[string]string{"room": room}, room)
	})
}

type sendCmd struct {
	Room string `arg:"" help:"The room's URI."`
	Text string `arg:"" help:"What to say."`
}

func (k *sendCmd) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		if err := c.Send(e.ctx, k.Room, []byte(k.Text)); err != nil {
			return err
		}
		return e.print(map[string]string{"room": k.Room}, "accepted by the hub")
	})
}

type listenCmd struct {
	For  time.Duration `help:"Stop after this long; 0 listens until interrupted." default:"0s"`
	Once bool          `help:"Print what is waiting and stop."`
}

func (k *listenCmd) Run(e *env) error {
	c, err := e.open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // every event is written before it is shown
	show := func(ev client.Event) error { return e.print(ev, sentence(ev)) }
	if k.Once {
		if err := c.Sync(e.ctx); err != nil {
			return err
		}
		return c.Take(show)
	}
	ctx := e.ctx
	if k.For > 0 {
		var cancel func()
		ctx, cancel = contextWithTimeout(ctx, k.For)
		defer cancel()
	}
	err = c.Listen(ctx, show)
	if ctx.Err() != nil {
		return nil // told to stop
	}
	return err
}

// sentence says an event in words. Foreign text is quoted, so that it cannot
// control the terminal.
func sentence(ev client.Event) string {
	who := ev.User
	if who == "" {
		who = "somebody unverified"
	}
	switch ev.Kind {
	case client.KindMessage:
		return fmt.Sprintf("%s  %s: %q", ev.Room, who, ev.Data)
	case client.KindJoined:
		return fmt.Sprintf("%s  %s added you", ev.Room, who)
	case client.KindMembers:
		return fmt.Sprintf("%s  members changed: +%v -%v", ev.Room, ev.Added, ev.Removed)
	case client.KindRemoved:
		return ev.Room + "  you were removed"
	case client.KindConnected:
		return "connected with " + who
	case client.KindLeft:
		return ev.Room + "  you left"
	case client.KindBanned:
		return fmt.Sprintf("%s  WARNING: banned and back: %v", ev.Room, ev.Added)
	case client.KindForked:
		return ev.Room + "  WARNING: the hub showed two histories of this room"
	case client.KindStuck:
		return ev.Room + "  a commit could not be processed; trying to join again"
	case client.KindLocked:
		return ev.Room + "  WARNING: a member has locked this room; make a new one"
	case client.KindGone:
		return ev.Room + "  WARNING: the hub does not know you as a member any more; you were removed while your mailbox was full, or it has lost the room"
	case client.KindSuspect:
		return ev.Room + "  WARNING: the hub let a member break the rules of this room; nothing is sent until 'mmr room continue'"
	}
	return string(ev.Kind)
}
