package redistest

import "syscall"

// childOfTest makes the server end when the test process is killed.
func childOfTest() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
