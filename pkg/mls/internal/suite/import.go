package suite

// ImportPrivateKey returns a Secret with a copy of an HPKE private key that
// came from outside. Scalars of the NIST curves may lack leading zero bytes, as
// some implementations write them; the copy has the full size.
func (s *Suite) ImportPrivateKey(b []byte) (Secret, error) {
	private := pad(b, s.kem.Scheme().PrivateKeySize(), s.nist())
	if _, err := s.public(private); err != nil {
		return Secret{}, err
	}
	return private, nil
}

// ImportSignatureKey does the same for a signature private key.
func (s *Suite) ImportSignatureKey(b []byte) (Secret, error) {
	size := len(b)
	if e, ok := s.signature.(ecdsaScheme); ok {
		size = (e.curve.Params().BitSize + 7) / 8
	}
	private := pad(b, size, true)
	if _, err := s.signature.public(private); err != nil {
		return Secret{}, err
	}
	return private, nil
}

// pad copies b and, if allowed, fills it up with zeros in front.
func pad(b []byte, size int, allowed bool) Secret {
	if !allowed || len(b) >= size {
		return NewSecret(b)
	}
	full := make([]byte, size)
	copy(full[size-len(b):], b)
	return TakeSecret(full)
}
