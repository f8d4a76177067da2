package suite

import (
	"crypto/hkdf"
	"encoding/binary"
	"errors"

	"github.com/cloudflare/circl/hpke"

	"github.com/mmrelay/mmrelay/pkg/codec"
)

// ErrKey is returned for a public or private key that the suite cannot use.
var ErrKey = errors.New("suite: invalid key")

// externalInitLabel is the HPKE exporter context of RFC 9420 §8.3.
const externalInitLabel = labelPrefix + "external init secret"

// DeriveKeyPair is KEM.DeriveKeyPair (RFC 9180 §7.1.3) for input of any length.
// circl's own accepts only seeds of the KEM's key size, and RFC 9420 §7.4 and
// §8 give it Nh bytes, which differ in suites 4, 5 and 6.
func (s *Suite) DeriveKeyPair(ikm Secret) (public []byte, private Secret, err error) {
	counted(OpDerive)
	prk := s.labeledExtract("dkp_prk", ikm)
	defer prk.Wipe()
	size := s.kem.Scheme().PrivateKeySize()
	if !s.nist() {
		private := s.labeledExpand(prk, "sk", nil, size)
		public, err := s.public(private)
		return public, private, err
	}
	for counter := range 256 {
		candidate := s.labeledExpand(prk, "candidate", []byte{byte(counter)}, size)
		if s.kem == hpke.KEM_P521_HKDF_SHA512 {
			candidate.Bytes()[0] &= 1
		}
		if public, err := s.public(candidate); err == nil {
			return public, candidate, nil
		}
		candidate.Wipe()
	}
	return nil, Secret{}, ErrKey // Probability below 2^-8000.
}

// GenerateKeyPair returns a fresh HPKE key pair.
func (s *Suite) GenerateKeyPair() (public []byte, private Secret, err error) {
	ikm := RandomSecret(s.HashSize())
	defer ikm.Wipe()
	return s.DeriveKeyPair(ikm)
}

// PublicKey returns the public key of an HPKE private key.
func (s *Suite) PublicKey(private Secret) ([]byte, error) { return s.public(private) }

// CheckPublicKey returns ErrKey unless public is a key that others can encrypt
// to: the right length, a point of the curve, and not of small order, since
// RFC 9180 §7.1.4 makes every encryption to such a key fail.
func (s *Suite) CheckPublicKey(public []byte) error {
	if _, err := s.kem.Scheme().UnmarshalBinaryPublicKey(public); err != nil {
		return ErrKey
	}
	if smallOrder(s.kem, public) {
		return ErrKey
	}
	return nil
}

// EncryptWithLabel seals plaintext to a public key (RFC 9420 §5.1.3).
func (s *Suite) EncryptWithLabel(public []byte, label string, context, plaintext []byte) (kemOutput, ciphertext []byte, err error) {
	enc, sealer, err := s.setupSender(public, encryptContext(label, context))
	if err != nil {
		return nil, nil, err
	}
	ciphertext, err = sealer.Seal(plaintext, nil)
	if err != nil {
		return nil, nil, ErrKey
	}
	return enc, ciphertext, nil
}

// DecryptWithLabel opens what EncryptWithLabel made, or returns ErrOpen.
func (s *Suite) DecryptWithLabel(private Secret, label string, context, kemOutput, ciphertext []byte) (Secret, error) {
	opener, err := s.setupReceiver(private, encryptContext(label, context), kemOutput)
	if err != nil {
		return Secret{}, ErrOpen
	}
	plaintext, err := opener.Open(ciphertext, nil)
	if err != nil {
		return Secret{}, ErrOpen
	}
	return TakeSecret(plaintext), nil
}

// ExternalInit makes the init secret of an external commit from the group's
// external public key (RFC 9420 §8.3).
func (s *Suite) ExternalInit(externalPublic []byte) (kemOutput []byte, init Secret, err error) {
	enc, sealer, err := s.setupSender(externalPublic, nil)
	if err != nil {
		return nil, Secret{}, err
	}
	return enc, TakeSecret(sealer.Export([]byte(externalInitLabel), uint(s.HashSize()))), nil
}

// OpenExternalInit recovers the init secret that ExternalInit made.
func (s *Suite) OpenExternalInit(externalPrivate Secret, kemOutput []byte) (Secret, error) {
	opener, err := s.setupReceiver(externalPrivate, nil, kemOutput)
	if err != nil {
		return Secret{}, ErrOpen
	}
	return TakeSecret(opener.Export([]byte(externalInitLabel), uint(s.HashSize()))), nil
}

func encryptContext(label string, context []byte) []byte {
	b := codec.AppendVector(nil, labelPrefix+label)
	return codec.AppendVector(b, context)
}

func (s *Suite) setupSender(public, info []byte) ([]byte, hpke.Sealer, error) {
	counted(OpSeal)
	pk, err := s.kem.Scheme().UnmarshalBinaryPublicKey(public)
	if err != nil {
		return nil, nil, ErrKey
	}
	sender, err := s.hpke().NewSender(pk, info)
	if err != nil {
		return nil, nil, ErrKey
	}
	enc, sealer, err := sender.Setup(nil) // crypto/rand
	if err != nil {
		return nil, nil, ErrKey
	}
	return enc, sealer, nil
}

func (s *Suite) setupReceiver(private Secret, info, kemOutput []byte) (hpke.Opener, error) {
	counted(OpOpen)
	// circl's private keys print themselves under %v, so they live only here.
	sk, err := s.kem.Scheme().UnmarshalBinaryPrivateKey(private.Bytes())
	if err != nil {
		return nil, err
	}
	receiver, err := s.hpke().NewReceiver(sk, info)
	if err != nil {
		return nil, err
	}
	return receiver.Setup(kemOutput)
}

func (s *Suite) public(private Secret) ([]byte, error) {
	sk, err := s.kem.Scheme().UnmarshalBinaryPrivateKey(private.Bytes())
	if err != nil {
		return nil, ErrKey
	}
	public, err := sk.Public().MarshalBinary()
	if err != nil {
		return nil, ErrKey
	}
	return public, nil
}

func (s *Suite) hpke() hpke.Suite { return hpke.NewSuite(s.kem, s.kdf, s.aead) }

func (s *Suite) nist() bool {
	return s.kem != hpke.KEM_X25519_HKDF_SHA256 && s.kem != hpke.KEM_X448_HKDF_SHA512
}

// kemSuiteID is suite_id of RFC 9180 §4.1. The KEM's hash is the suite's hash
// in every row of the table.
func (s *Suite) kemSuiteID() []byte {
	return binary.BigEndian.AppendUint16([]byte("KEM"), uint16(s.kem))
}

func (s *Suite) labeledExtract(label string, ikm Secret) Secret {
	labeled := append([]byte("HPKE-v1"), s.kemSuiteID()...)
	labeled = append(labeled, label...)
	in := TakeSecret(append(append(make([]byte, 0, len(labeled)+ikm.Len()), labeled...), ikm.Bytes()...))
	defer in.Wipe()
	prk, err := hkdf.Extract(s.newHash(), in.Bytes(), nil)
	if err != nil {
		panic("suite: internal error: HKDF-Extract")
	}
	return TakeSecret(prk)
}

func (s *Suite) labeledExpand(prk Secret, label string, info []byte, n int) Secret {
	labeled := binary.BigEndian.AppendUint16(nil, uint16(n))
	labeled = append(labeled, "HPKE-v1"...)
	labeled = append(labeled, s.kemSuiteID()...)
	labeled = append(labeled, label...)
	labeled = append(labeled, info...)
	out, err := hkdf.Expand(s.newHash(), prk.Bytes(), string(labeled), n)
	if err != nil {
		panic("suite: internal error: HKDF-Expand")
	}
	return TakeSecret(out)
}
