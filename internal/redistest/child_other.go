//go:build !linux

package redistest

import "syscall"

// childOfTest has no means here to end the server with a test process that is
// killed; one that ends by itself ends it.
func childOfTest() *syscall.SysProcAttr { return nil }
