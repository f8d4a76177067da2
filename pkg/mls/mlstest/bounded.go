package mlstest

import (
	"runtime"
	"testing"
	"time"
)

// Bounded runs f on an input of n bytes and fails the test if that takes two
// seconds or allocates 64 times the input, as no parser may. A constant is
// granted for what every call needs.
func Bounded(tb testing.TB, n int, f func()) {
	tb.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if took > 2*time.Second {
		tb.Errorf("%d bytes took %v", n, took)
	}
	if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(64*n)+256<<10 {
		tb.Errorf("%d bytes made %d be allocated", n, spent)
	}
}
