//go:build !mmrtap

package daemon

type tapFlags struct{}

func (tapFlags) open() (*tap, error) { return nil, nil }
