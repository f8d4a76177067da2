package limits_test

import "syscall"

// childOfTest makes a process end with the test, even if that is killed.
func childOfTest() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
