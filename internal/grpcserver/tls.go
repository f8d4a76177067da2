package grpcserver

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// reloadEvery is how often a certificate's files are looked at.
const reloadEvery = 10 * time.Second

// Certificate is a TLS certificate that is read again when its files change.
// A pair that does not load leaves the old one in use.
type Certificate struct {
	certFile, keyFile string

	mu      sync.Mutex // guards all below
	cert    *tls.Certificate
	checked time.Time
	mtime   time.Time
}

// LoadCertificate reads a certificate chain and its key from PEM files.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Certificate) load() error {
	st, err := os.Stat(c.certFile)
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("reading %s: %w", c.certFile, err)
	}
	c.cert, c.mtime, c.checked = &cert, st.ModTime(), time.Now()
	return nil
}

// Get returns the current certificate.
func (c *Certificate) Get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) > reloadEvery {
		c.checked = time.Now()
		if st, err := os.Stat(c.certFile); err == nil && !st.ModTime().Equal(c.mtime) {
			_ = c.load() // a half-written pair: the old one stays until the next look
		}
	}
	return c.cert
}

// ServerTLS is the configuration of a listener. clientCAs nil means that
// clients present no certificate; require makes a certificate mandatory.
func (c *Certificate) ServerTLS(clientCAs *x509.CertPool, require bool) *tls.Config {
	t := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Get(), nil },
	}
	if clientCAs != nil {
		t.ClientCAs = clientCAs
		t.ClientAuth = tls.VerifyClientCertIfGiven
		if require {
			t.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return t
}

// ClientTLS is the configuration for calls to peers.
func (c *Certificate) ClientTLS(roots *x509.CertPool, serverName string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		RootCAs:              roots,
		ServerName:           serverName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.Get(), nil },
	}
}
