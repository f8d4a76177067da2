// Package childproc starts processes for tests so that they end with the test.
package childproc

import "syscall"

// Attr makes a process end with the one that starts it, even if that is killed.
func Attr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
