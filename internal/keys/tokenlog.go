package keys

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	typesv1 "github.com/mmrelay/mmrelay/gen/mmr/types/v1"
	"github.com/mmrelay/mmrelay/pkg/token"
)

// The file token/log is the issuer's append-only list of its keys (SPEC.md
// a line "EPOCH HEX" for each, HEX being the token_key_id. Losing it makes
// every client refuse the issuer, so that it belongs into backups.
func tokenLogFile(dir string) string { return filepath.Join(dir, "token", "log") }

func loadTokenLog(dir string) ([]token.LogEntry, error) {
	data, err := os.ReadFile(tokenLogFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var log []token.LogEntry
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		epoch, id, _ := strings.Cut(lines.Text(), " ")
		e, err := strconv.ParseUint(epoch, 10, 64)
		raw, err2 := hex.DecodeString(id)
		if err != nil || err2 != nil || len(raw) != token.KeyIDSize || len(log) > 0 && log[len(log)-1].Epoch >= token.Epoch(e) {
			return nil, fmt.Errorf("%s: line %d: %w", tokenLogFile(dir), n, ErrFile)
		}
		log = append(log, token.LogEntry{Epoch: token.Epoch(e), ID: token.KeyID(raw)})
	}
	return log, lines.Err()
}

// appendTokenLog adds the keys that the list lacks.
func appendTokenLog(dir string, ks []*tokenKey) error {
	log, err := loadTokenLog(dir)
	if err != nil {
		return err
	}
	ks = slices.Clone(ks)
	slices.SortFunc(ks, func(a, b *tokenKey) int { return int(int64(a.epoch) - int64(b.epoch)) })
	var lines []byte
	for _, k := range ks {
		if n := len(log); n > 0 && log[n-1].Epoch >= token.Epoch(k.epoch) {
			continue
		}
		id := k.issuer.Public().ID()
		lines = fmt.Appendf(lines, "%d %x\n", k.epoch, id[:])
		log = append(log, token.LogEntry{Epoch: token.Epoch(k.epoch), ID: id})
	}
	if len(lines) == 0 {
		return nil
	}
	f, err := os.OpenFile(tokenLogFile(dir), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(lines)
	return errors.Join(err, f.Sync(), f.Close())
}

// tokenLog returns the list as it is published.
func (s *Set) tokenLog() []*typesv1.TokenKeyRecord {
	var rs []*typesv1.TokenKeyRecord
	for _, e := range s.log {
		rs = append(rs, &typesv1.TokenKeyRecord{Epoch: uint64(e.Epoch), TokenKeyId: e.ID[:]})
	}
	return rs
}
