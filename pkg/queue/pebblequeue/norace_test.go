//go:build !race

package pebblequeue_test

const raceEnabled = false
