package member

// DecryptExternal opens what mls.EncryptWithLabel sealed to the external_pub of
// the current epoch (RFC 9420 §5.1.3, §8). The key is gone once the Group was
// retired for a later one.
func (g *Group) DecryptExternal(label string, context, kemOutput, ciphertext []byte) ([]byte, error) {
	if err := g.active(); err != nil {
		return nil, err
	}
	if !g.cur.secrets.External.IsSet() {
		return nil, ErrWiped
	}
	_, private, err := g.cur.secrets.ExternalKey(g.suite())
	if err != nil {
		return nil, err
	}
	defer private.Wipe()
	plaintext, err := g.suite().DecryptWithLabel(private, label, context, kemOutput, ciphertext)
	return plaintext.Bytes(), err
}
