package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mmrelay/mmrelay/pkg/client"
)

type deviceCmd struct {
	Request deviceRequest `cmd:"" help:"On a new device: print a request to be added, for 'mmr device add'."`
	Add     deviceAdd     `cmd:"" help:"On a device of yours: add a new one from its request, and print the response for it."`
	Join    deviceJoin    `cmd:"" help:"On the new device: complete it with the response."`
	List    deviceList    `cmd:"" help:"List your devices."`
	Remove  deviceRemove  `cmd:"" help:"Remove a device that was lost."`
}

type deviceRequest struct {
	Device string `arg:"" help:"Name of the new device, unique at the provider."`
}

func (k *deviceRequest) Run(e *env) error {
	store, err := e.openStore()
	if err != nil {
		return err
	}
	request, err := client.BeginDevice(store, k.Device)
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	return e.print(map[string]string{"request": request}, request)
}

type deviceAdd struct {
	Request string `arg:"" help:"What 'mmr device request' printed on the new device."`
	Hub     string `help:"Domain of the hub for the room of your devices; needed for the first one." placeholder:"DOMAIN"`
}

func (k *deviceAdd) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		response, err := c.AddDevice(e.ctx, k.Request, k.Hub)
		if err != nil {
			return err
		}
		if err := e.print(map[string]string{"response": response}, response); err != nil {
			return err
		}
		_, err = fmt.Fprintln(e.stderr, "give this to the new device within an hour: mmr device join RESPONSE; then let 'mmr listen' run on both for a minute")
		return err
	})
}

type deviceJoin struct {
	Response string `arg:"" help:"What 'mmr device add' printed."`
	Trust    string `help:"Trust directory made by 'mmr keygen trust'." required:"" type:"existingdir" placeholder:"DIR"`
}

func (k *deviceJoin) Run(e *env) error {
	trust, err := client.LoadTrust(k.Trust)
	if err != nil {
		return err
	}
	if err := os.CopyFS(e.trustDir(), os.DirFS(k.Trust)); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	store, err := e.openStore()
	if err != nil {
		return err
	}
	c, err := client.JoinDevice(e.ctx, store, k.Response, trust, e.options()...)
	if err != nil {
		return errors.Join(err, store.Close())
	}
	defer func() { _ = c.Close() }() // everything is written
	return e.print(map[string]string{"user": c.User()}, "added as a device of "+c.User())
}

type deviceList struct{}

func (deviceList) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		ds := c.Devices()
		return e.print(ds, strings.Join(ds, "\n"))
	})
}

type deviceRemove struct {
	Device string `arg:"" help:"The device's name."`
}

func (k *deviceRemove) Run(e *env) error {
	return e.with(func(c *client.Client) error {
		if err := c.RemoveDevice(e.ctx, k.Device); err != nil {
			return err
		}
		return e.print(map[string]string{"removed": k.Device}, "removed; its leaves in rooms go over the next hours, while 'mmr listen' runs")
	})
}
