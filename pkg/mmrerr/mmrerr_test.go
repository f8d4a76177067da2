package mmrerr_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
)

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	known := 0
	for c := range mmrerr.Code(200) {
		if !c.Known() {
			continue
		}
		known++
		n := c.String()
		if !strings.HasPrefix(n, "mmr/") || strings.ToLower(n) != n || seen[n] || c.Error() != n {
			t.Errorf("code %d is called %q", uint16(c), n)
		}
		seen[n] = true
	}
	if known != 56 { // 55 of SPEC.md §19 and OK
		t.Errorf("%d codes", known)
	}
	// One from each block of the table.
	for c, want := range map[mmrerr.Code]string{
		0: "mmr/ok", 1: "mmr/malformed", 8: "mmr/unavailable", 12: "mmr/token-spent", 25: "mmr/ear-stale", 32: "mmr/aad",
		45: "mmr/log-truncated", 52: "mmr/link-ciphertext-length", 60: "mmr/link-keys-count", 67: "mmr/wrap-stale", 72: "mmr/pool-full",
		49: "mmr/49", 65535: "mmr/65535",
	} {
		if got := c.String(); got != want {
			t.Errorf("code %d is called %q, want %q", uint16(c), got, want)
		}
	}
}

func TestError(t *testing.T) {
	err := fmt.Errorf("updating: %w", mmrerr.New(mmrerr.WrongEpoch, []byte{0, 7}))
	if !errors.Is(err, mmrerr.WrongEpoch) || errors.Is(err, mmrerr.NoRoom) {
		t.Error("errors.Is")
	}
	if c, ok := mmrerr.Of(err); !ok || c != mmrerr.WrongEpoch {
		t.Errorf("Of = %v, %v", c, ok)
	}
	if d := mmrerr.Detail(err); !bytes.Equal(d, []byte{0, 7}) {
		t.Errorf("Detail = %x", d)
	}
	if err.Error() != "updating: mmr/wrong-epoch" {
		t.Errorf("text %q", err)
	}
	if c, ok := mmrerr.Of(fmt.Errorf("x: %w", mmrerr.Leaving)); !ok || c != mmrerr.Leaving {
		t.Errorf("Of = %v, %v", c, ok)
	}
	if c, ok := mmrerr.Of(nil); !ok || c != mmrerr.OK {
		t.Errorf("Of(nil) = %v, %v", c, ok)
	}
	if c, ok := mmrerr.Of(errors.New("other")); ok || c != mmrerr.OK {
		t.Errorf("Of(other) = %v, %v", c, ok)
	}
	if mmrerr.New(mmrerr.OK, nil) != nil || mmrerr.Detail(mmrerr.Leaving) != nil {
		t.Error("OK is an error, or a bare code has a detail")
	}
}
