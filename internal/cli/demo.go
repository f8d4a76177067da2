package cli

import "github.com/mmrelay/mmrelay/internal/demo"

type demoCmd struct {
	Store string `help:"Where the daemons keep their state." enum:"pebble,redis" default:"pebble"`
	Bin   string `help:"Directory of hub and relay built with '-tags mmrtap'; default: 'tap' beside this program." type:"existingdir" placeholder:"DIR"`
	Keep  bool   `help:"Leave keys, stores and captures in place and say where."`
}

func (k *demoCmd) Run(e *env) error {
	return demo.Run(e.ctx, demo.Config{Store: k.Store, Bin: k.Bin, Keep: k.Keep, Stdout: e.stdout, Stderr: e.stderr})
}
