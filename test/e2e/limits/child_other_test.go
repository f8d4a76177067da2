//go:build !linux

package limits_test

import "syscall"

func childOfTest() *syscall.SysProcAttr { return nil }
