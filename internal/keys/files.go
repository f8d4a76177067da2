package keys

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// PEM types of the files.
const (
	pemCertificate = "CERTIFICATE"
	pemPrivateKey  = "PRIVATE KEY"
	pemHPKEKey     = "MMR HPKE KEY"
	pemSecret      = "MMR SECRET"
)

// ErrFile reports a key file that does not hold what it should.
var ErrFile = errors.New("keys: malformed file")

// writeFile writes a file that only the owner can read, atomically: a reader
// sees the old content or the new, and a crash leaves no half file.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	if _, err := f.Write(data); err != nil {
		_ = f.Close() // the write's error is the one to report
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close() // as above
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func writePEM(path, typ string, blocks ...[]byte) error {
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b})...)
	}
	return writeFile(path, out)
}

// readPEM returns the blocks of a file, all of which must be of the type.
func readPEM(path, typ string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var blocks [][]byte
	for {
		b, rest := pem.Decode(data)
		if b == nil {
			break
		}
		if b.Type != typ {
			return nil, fmt.Errorf("%s: %w: want %s", path, ErrFile, typ)
		}
		blocks = append(blocks, b.Bytes)
		data = rest
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("%s: %w: no PEM block", path, ErrFile)
	}
	return blocks, nil
}

func writeKey(path string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, pemPrivateKey, der)
}

func readKey(path string) (crypto.Signer, error) {
	blocks, err := readPEM(path, pemPrivateKey)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(blocks[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, ErrFile)
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: %w: no signature key", path, ErrFile)
	}
	return s, nil
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	blocks, err := readPEM(path, pemCertificate)
	if err != nil {
		return nil, err
	}
	certs := make([]*x509.Certificate, len(blocks))
	for i, b := range blocks {
		if certs[i], err = x509.ParseCertificate(b); err != nil {
			return nil, fmt.Errorf("%s: %w", path, ErrFile)
		}
	}
	return certs, nil
}

// Pool reads a bundle of root certificates.
func Pool(path string) (*x509.CertPool, error) {
	certs, err := readCertificates(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}
