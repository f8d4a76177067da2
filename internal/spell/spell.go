// Package spell searches for a value in every form in which it could leak: raw,
// hex in both cases, base64 in both alphabets at each alignment.
package spell

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// Needle is a value in every spelling it could have.
type Needle [][]byte

// Of returns the spellings of a value. In base64 the characters that a value's
// neighbours influence are left out, and forms shorter than 6 characters too,
// which random data contains by chance.
func Of(v []byte) Needle {
	n := Needle{v, []byte(hex.EncodeToString(v)), []byte(strings.ToUpper(hex.EncodeToString(v)))}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			s := enc.EncodeToString(append(make([]byte, shift), v...))
			from := []int{0, 2, 3}[shift]
			to := len(s)
			if (shift+len(v))%3 != 0 {
				to--
			}
			if to-from >= 6 {
				n = append(n, []byte(s[from:to]))
			}
		}
	}
	return n
}

// All returns the needles of several texts.
func All(vs ...string) []Needle {
	var ns []Needle
	for _, v := range vs {
		ns = append(ns, Of([]byte(v)))
	}
	return ns
}

// In reports whether a record holds the value in any spelling.
func (n Needle) In(record []byte) bool {
	for _, s := range n {
		if bytes.Contains(record, s) {
			return true
		}
	}
	return false
}

// Any reports whether a record holds any of the needles.
func Any(ns []Needle, record []byte) bool {
	for _, n := range ns {
		if n.In(record) {
			return true
		}
	}
	return false
}
