//go:build race

package member_test

// raceEnabled says that the race detector is on: random runs are shorter then,
// as what it looks for does not hide in their length. make test runs them in
// full as well.
const raceEnabled = true
