package keys

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mmrelay/mmrelay/pkg/codec"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

// hpkeKey is one published HPKE key with its private half.
type hpkeKey struct {
	config    seal.KeyConfig
	published []byte // the serialized configuration
	signature []byte
	private   *primitive.KEMPrivateKey
	keep      time.Duration // how long after NotAfter the private key may be used
}

// schedule says how keys of one kind follow each other (SPEC.md R-61).
type schedule struct {
	dir      string        // below the key directory
	validity time.Duration // NotAfter - NotBefore
	overlap  time.Duration // a successor is made this long before the end
	keep     time.Duration // private keys live this much longer than NotAfter
}

// Gateway keys live 7 days with a day of overlap and are destroyed an hour
// after: a stolen key opens recorded requests. Queue keys are honoured for 90
// days; a new one is made every 30.
var (
	gatewayKeys = schedule{dir: "gateway", validity: 7 * 24 * time.Hour, overlap: 24 * time.Hour, keep: time.Hour}
	queueKeys   = schedule{dir: "queue", validity: 90 * 24 * time.Hour, overlap: 60 * 24 * time.Hour, keep: 24 * time.Hour}
)

// usable reports whether the private key may still be used.
func (k *hpkeKey) usable(now time.Time) bool {
	return now.Unix() >= 0 && uint64(now.Unix()) <= k.config.NotAfter+uint64(k.keep/time.Second)
}

func (s schedule) load(dir string) ([]*hpkeKey, error) {
	files, err := filepath.Glob(filepath.Join(dir, s.dir, "*.pem"))
	if err != nil {
		return nil, err
	}
	var ks []*hpkeKey
	for _, f := range files {
		blocks, err := readPEM(f, pemHPKEKey)
		if err != nil {
			return nil, err
		}
		k, err := parseHPKEKey(blocks[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		k.keep = s.keep
		ks = append(ks, k)
	}
	slices.SortFunc(ks, func(a, b *hpkeKey) int { return int(int64(a.config.NotBefore) - int64(b.config.NotBefore)) })
	return ks, nil
}

// rotate makes a successor when the newest key is within its overlap, and
// destroys keys past their end. It reports whether anything changed.
func (s schedule) rotate(dir, audience string, identity primitive.Signer, now time.Time) (bool, error) {
	ks, err := s.load(dir)
	if err != nil {
		return false, err
	}
	changed := false
	for _, k := range ks {
		if !k.usable(now) {
			if err := os.Remove(s.file(dir, k.config.ID)); err != nil {
				return changed, err
			}
			changed = true
		}
	}
	if n := len(ks); n > 0 && uint64(now.Add(s.overlap).Unix()) < ks[n-1].config.NotAfter {
		return changed, nil
	}
	id := uint8(1)
	if n := len(ks); n > 0 {
		id = ks[n-1].config.ID + 1 // wraps: 256 keys ago is long destroyed
	}
	k, err := s.generate(audience, id, identity, now)
	if err != nil {
		return changed, err
	}
	return true, writePEM(s.file(dir, id), pemHPKEKey, k.marshal())
}

func (s schedule) file(dir string, id uint8) string {
	return filepath.Join(dir, s.dir, fmt.Sprintf("%03d.pem", id))
}

func (s schedule) generate(audience string, id uint8, identity primitive.Signer, now time.Time) (*hpkeKey, error) {
	priv, err := primitive.GenerateKEMKey(primitive.X25519)
	if err != nil {
		return nil, err
	}
	// An hour of tolerance for clients whose clock is behind.
	k := &hpkeKey{private: priv, keep: s.keep, config: seal.KeyConfig{
		Audience: audience, ID: id, Key: priv.Public(),
		NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(s.validity).Unix()),
	}}
	k.published, k.signature, err = k.config.Sign(identity)
	return k, err
}

// marshal is {config<V>, signature<V>, private<V>}.
func (k *hpkeKey) marshal() []byte {
	b := codec.AppendVector(nil, k.published)
	b = codec.AppendVector(b, k.signature)
	return codec.AppendVector(b, k.private.Raw().Bytes())
}

func parseHPKEKey(b []byte) (*hpkeKey, error) {
	r := codec.NewReader(b)
	k := &hpkeKey{published: r.Vector(math.MaxInt), signature: r.Vector(math.MaxInt)}
	raw := r.Vector(math.MaxInt)
	if r.Done() != nil {
		return nil, ErrFile
	}
	var err error
	if k.config, err = seal.ParseKeyConfig(k.published); err != nil {
		return nil, ErrFile
	}
	secret, err := primitive.ParseSecret(raw)
	if err != nil {
		return nil, ErrFile
	}
	if k.private, err = primitive.ParseKEMKey(k.config.Key.KEM(), secret); err != nil || string(k.private.Public().Bytes()) != string(k.config.Key.Bytes()) {
		return nil, ErrFile
	}
	return k, nil
}

// audienceFor is the audience of a kind of key.
func (s schedule) audienceFor(role Role, domain string) string {
	if s.dir == queueKeys.dir {
		return seal.QueueAudience(domain)
	}
	return strings.ToLower(string(role)) + ":" + domain
}
