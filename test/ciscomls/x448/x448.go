// Package x448 stands in for a dependency of cisco/go-hpke whose host is not
// reachable everywhere: the two functions that it calls, over circl.
package x448

import "github.com/cloudflare/circl/dh/x448"

// ScalarBaseMult sets out to the public key of a private one.
func ScalarBaseMult(out, private *[56]byte) int {
	x448.KeyGen((*x448.Key)(out), (*x448.Key)(private))
	return 0
}

// ScalarMult sets out to the shared secret, and returns 0 if it is usable.
func ScalarMult(out, private, public *[56]byte) int {
	if !x448.Shared((*x448.Key)(out), (*x448.Key)(private), (*x448.Key)(public)) {
		return -1
	}
	return 0
}
