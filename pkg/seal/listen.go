package seal

// MethodListen is the method in the challenge of a mailbox stream (SPEC.md R-54).
const MethodListen = "mailbox.Listen"

// ListenChallenge returns the Request whose signature, of kind AuthQueue with
// the mailbox's read key, answers the challenge of a relay: it binds the relay's
// domain, the mailbox and the relay's 32-byte nonce. It is signed and verified
// like any Request and never sent.
func ListenChallenge(domain string, queueID, nonce []byte) *Request {
	q := &Request{Audience: RelayAudience(domain), Method: MethodListen}
	copy(q.RequestID[:], nonce)
	q.Body = append(append([]byte(nil), queueID...), nonce...)
	return q
}
