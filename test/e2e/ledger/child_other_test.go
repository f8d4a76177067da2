//go:build !linux

package ledger_test

import "syscall"

func childOfTest() *syscall.SysProcAttr { return nil }
