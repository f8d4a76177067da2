//go:build !linux

package ledger_test

import "testing"

func smallDisk(t *testing.T, _ string) string {
	t.Helper()
	t.Log("NOT PROVEN: a full disk: no small file system can be mounted here")
	return ""
}
