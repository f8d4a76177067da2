package token

// NewRequestFrom is NewRequest with given digest, nonce and randomness.
var NewRequestFrom = newRequest

// VerifyToken checks the signature of a token only.
func (k *PublicKey) VerifyToken(t Token) bool { return k.verify(t) }

// Input is token_authenticator_input.
func (t Token) Input() []byte { return t.input() }
