package cli

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mmrelay/mmrelay/pkg/client"
)

type verifyCmd struct {
	User    string `arg:"" help:"The user: mimi://domain/u/name."`
	Confirm bool   `help:"The code was compared and is right: tell from now on if a device of the user is another one."`
	Forget  bool   `help:"Take --confirm back."`
}

func (k *verifyCmd) Run(e *env) error {
	if k.Confirm && k.Forget {
		return fmt.Errorf("%w: only one of --confirm and --forget can be given", errUsage)
	}
	return e.with(func(c *client.Client) error {
		switch {
		case k.Confirm:
			if err := c.Confirm(e.ctx, k.User); err != nil {
				return err
			}
			return e.print(map[string]string{"confirmed": k.User}, "confirmed")
		case k.Forget:
			if err := c.Unconfirm(e.ctx, k.User); err != nil {
				return err
			}
			return e.print(map[string]string{"forgotten": k.User}, "not confirmed any more")
		}
		code, err := c.SafetyCode(k.User)
		if err != nil {
			return err
		}
		return e.print(map[string]string{"user": k.User, "code": code}, code+"\nboth see the same digits if nobody stands between you; then: mmr verify --confirm "+k.User)
	})
}

type reportCmd struct {
	Room  string `arg:"" help:"The room's URI."`
	Event string `arg:"" help:"File with the message as 'mmr --json listen' printed it; - for standard input." default:"-"`
	Note  string `help:"What to tell the hub's operator." placeholder:"TEXT"`
}

func (k *reportCmd) Run(e *env) error {
	var in io.Reader = os.Stdin
	if k.Event != "-" {
		f, err := os.Open(k.Event)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		in = f
	}
	var ev client.Event
	if err := json.NewDecoder(in).Decode(&ev); err != nil || len(ev.Evidence) == 0 {
		return errors.New("this is no message with evidence\nhint: give a line that 'mmr --json listen' printed")
	}
	return e.with(func(c *client.Client) error {
		if err := c.Report(e.ctx, k.Room, ev.Evidence, k.Note); err != nil {
			return err
		}
		return e.print(map[string]string{"room": k.Room}, "reported: the hub now knows this message and its sender's pseudonym, and not who reports")
	})
}

type discloseCmd struct {
	Make discloseMake `cmd:"" help:"Make a proof of who a member is, for its provider."`
	Open discloseOpen `cmd:"" help:"Check such a proof."`
}

type discloseMake struct {
	Room   string `arg:"" help:"The room's URI."`
	Leaf   uint32 `arg:"" help:"The member's leaf, from 'mmr --json room list'."`
	Unmask bool   `help:"Yes, this shows who the person is to everybody who gets the proof." required:""`
}

func (k *discloseMake) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		b, err := c.Disclosure(k.Room, k.Leaf)
		if err != nil {
			return err
		}
		s := base64.RawURLEncoding.EncodeToString(b)
		return e.print(map[string]string{"disclosure": s}, s)
	})
}

type discloseOpen struct {
	Proof string `arg:"" help:"What 'mmr disclose make' printed."`
	Trust string `help:"Trust directory made by 'mmr keygen trust'." required:"" type:"existingdir" placeholder:"DIR"`
}

func (k *discloseOpen) Run(e *env) error {
	b, err := base64.RawURLEncoding.DecodeString(k.Proof)
	if err != nil {
		return fmt.Errorf("%w: not a proof", errUsage)
	}
	trust, err := client.LoadTrust(k.Trust)
	if err != nil {
		return err
	}
	id, user, err := client.OpenDisclosure(b, trust)
	if err != nil {
		return err
	}
	return e.print(map[string]string{"pseudonym": id, "user": user}, id+" is "+user)
}

type tokensCmd struct{}

func (tokensCmd) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		ts := c.Tokens()
		words := "no tokens yet; they are fetched when needed, and ahead of need while 'mmr listen' runs"
		for i, t := range ts {
			line := fmt.Sprintf("%4d  %s", t.Count, t.Audience)
			if i == 0 {
				words = line
			} else {
				words += "\n" + line
			}
		}
		return e.print(ts, words)
	})
}

type maintainCmd struct{}

func (maintainCmd) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		if err := c.Maintain(e.ctx); err != nil {
			return err
		}
		return e.print(map[string]bool{"done": true}, "done")
	})
}

type disconnectCmd struct {
	User string `arg:"" help:"The user: mimi://domain/u/name."`
}

func (k *disconnectCmd) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		if err := c.Disconnect(e.ctx, k.User); err != nil {
			return err
		}
		return e.print(map[string]string{"disconnected": k.User}, k.User+" can add you to no more rooms; they are not told")
	})
}
