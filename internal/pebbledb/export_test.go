package pebbledb

// Fail is what Pebble calls when it cannot go on.
func Fail() { silent{}.Fatalf("") }
