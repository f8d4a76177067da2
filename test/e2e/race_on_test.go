//go:build race

package e2e_test

// raceEnabled: the race detector of Go 1.26 crashes in its own runtime with the
// timers of synctest bubbles ("CHECK failed: tsan_rtl.cpp", or a fault on g0),
// so tests in bubbles run without it; make test does both.
const raceEnabled = true
