package suite

import "github.com/cloudflare/circl/hpke"

// order25519 lists the encodings of the u-coordinates of small order on
// Curve25519 and its twist, with the unused top bit clear (RFC 7748 §5, §6.1):
// 0, 1, two of order 8, p-1, and p and p+1 as second encodings of 0 and 1.
var order25519 = [...][32]byte{
	{},
	{1},
	{
		0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
	},
	{
		0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
	},
	p25519(0xec), p25519(0xed), p25519(0xee),
}

// order448 does the same for Curve448: 0, 1, p-1, p, p+1.
var order448 = [...][56]byte{{}, {1}, p448(0xfe, 0xfe), p448(0xff, 0xfe), p448(0, 0xff)}

func p25519(low byte) (v [32]byte) {
	for i := range v {
		v[i] = 0xff
	}
	v[0], v[31] = low, 0x7f
	return v
}

// p448 returns a number near p = 2^448 - 2^224 - 1: the lowest byte is given,
// the rest of the lower half is ones, or zeros if low is 0, and mid is the
// byte of weight 2^224.
func p448(low, mid byte) (v [56]byte) {
	for i := range v {
		if i >= 28 || low != 0 {
			v[i] = 0xff
		}
	}
	v[0], v[28] = low, mid
	return v
}

// smallOrder reports whether a Diffie-Hellman with public is zero whatever the
// private key. NIST curves have prime order, so no such points.
func smallOrder(kem hpke.KEM, public []byte) bool {
	switch kem {
	case hpke.KEM_X25519_HKDF_SHA256:
		var v [32]byte
		copy(v[:], public)
		v[31] &= 0x7f
		for _, bad := range order25519 {
			if v == bad {
				return true
			}
		}
	case hpke.KEM_X448_HKDF_SHA512:
		var v [56]byte
		copy(v[:], public)
		for _, bad := range order448 {
			if v == bad {
				return true
			}
		}
	}
	return false
}
