//go:build race

package pebblequeue_test

// raceEnabled: Pebble's builds for the race detector check themselves all the time
// and are ten times slower.
const raceEnabled = true
