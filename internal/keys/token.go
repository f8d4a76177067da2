package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// tokenKey is an issuer key of one epoch (SPEC.md R-82). The key of the next
// epoch is made a day ahead, so that it can be published before its first use.
type tokenKey struct {
	epoch  uint64
	spki   []byte
	issuer *token.IssuerKey
}

func (t *tokenKey) current(now time.Time) bool { return uint64(token.EpochOf(now)) == t.epoch }

// published reports whether the key is one that redeemers must accept.
func (t *tokenKey) published(now time.Time) bool { return token.Epoch(t.epoch).ValidAt(now) }

func tokenFile(dir string, epoch uint64) string {
	return filepath.Join(dir, "token", strconv.FormatUint(epoch, 10)+".pem")
}

func loadTokenKeys(dir string) ([]*tokenKey, error) {
	files, err := filepath.Glob(filepath.Join(dir, "token", "*.pem"))
	if err != nil {
		return nil, err
	}
	var ks []*tokenKey
	for _, f := range files {
		epoch, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(f), ".pem"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: the name is not an epoch", f, ErrFile)
		}
		blocks, err := readPEM(f, pemPrivateKey)
		if err != nil {
			return nil, err
		}
		k, err := token.ParseIssuerKey(blocks[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, ErrFile)
		}
		ks = append(ks, &tokenKey{epoch: epoch, spki: k.Public().SPKI(), issuer: k})
	}
	slices.SortFunc(ks, func(a, b *tokenKey) int { return int(int64(b.epoch) - int64(a.epoch)) })
	return ks, nil
}

// rotateTokenKeys makes the keys of this epoch and, in its last day, of the
// next one, and removes those of epochs that ended.
func rotateTokenKeys(dir string, now time.Time) error {
	for _, at := range []time.Time{now, now.Add(24 * time.Hour)} {
		epoch := uint64(token.EpochOf(at))
		if _, err := os.Stat(tokenFile(dir, epoch)); err == nil {
			continue
		}
		k, err := token.GenerateIssuerKey()
		if err != nil {
			return err
		}
		der, err := k.PKCS8()
		if err != nil {
			return err
		}
		if err := writePEM(tokenFile(dir, epoch), pemPrivateKey, der); err != nil {
			return err
		}
	}
	ks, err := loadTokenKeys(dir)
	if err != nil {
		return err
	}
	if err := appendTokenLog(dir, ks); err != nil { // before a key is used
		return err
	}
	for _, k := range ks {
		if !now.Before(token.Epoch(k.epoch).Expires()) {
			if err := os.Remove(tokenFile(dir, k.epoch)); err != nil {
				return err
			}
		}
	}
	return nil
}

// TokenKeys returns the issuer keys to be published at now.
func (s *Set) TokenKeys(now time.Time) []*typesv1.TokenKey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var ks []*typesv1.TokenKey
	for _, t := range s.tokens {
		if t.published(now) {
			ks = append(ks, &typesv1.TokenKey{Epoch: t.epoch, Spki: t.spki})
		}
	}
	return ks
}

// Issuer returns the issuer with the keys loaded now.
func (s *Set) Issuer() *token.Issuer {
	s.mu.RLock()
	defer s.mu.RUnlock()
	keys := make(map[token.Epoch]*token.IssuerKey, len(s.tokens))
	for _, t := range s.tokens {
		keys[token.Epoch(t.epoch)] = t.issuer
	}
	return token.NewIssuer(keys)
}
