//go:build race

package limits_test

// raceEnabled: what is measured are processes without the race detector.
const raceEnabled = true
