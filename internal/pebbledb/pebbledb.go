// Package pebbledb opens the embedded database that a daemon's stores share.
//
// The database is tuned for what the stores keep: sealed bytes, which no
// compression makes smaller; many lookups of keys that do not exist (dedup
// keys, replay entries), which filters answer; appends that are synced in
// groups. It logs nothing.
package pebbledb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// Version is the format of what mmrelay keeps in a database. It rises when an
// older program could not read a newer database.
const Version = 1

// ErrNewer reports a database of a newer version of this program.
var ErrNewer = errors.New("pebbledb: the database was written by a newer version of mmrelay")

// versionKey sorts before every store's prefix.
var versionKey = []byte{0}

const (
	memTableSize = 64 << 20 // PERF.md, design hint 4
	cacheSize    = 64 << 20
	filterBits   = 10 // one lookup in a hundred of a missing key reads a block
)

// Open opens or creates the database in dir, for this user alone. One process
// can have it open.
func Open(dir string) (*pebble.DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	o := &pebble.Options{
		Logger:                silent{},
		FormatMajorVersion:    pebble.FormatNewest,
		CacheSize:             cacheSize,
		MemTableSize:          memTableSize,
		L0CompactionThreshold: 4,
		MaxOpenFiles:          1000,
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(filterBits)
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w\nhint: another process may have it open", dir, err)
	}
	if err := checkVersion(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func checkVersion(db *pebble.DB) error {
	v, closer, err := db.Get(versionKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return db.Set(versionKey, binary.BigEndian.AppendUint32(nil, Version), pebble.Sync)
	}
	if err != nil {
		return err
	}
	defer func() { _ = closer.Close() }() // releases the value, nothing else
	if len(v) != 4 || binary.BigEndian.Uint32(v) > Version {
		return ErrNewer
	}
	return nil
}

// silent keeps Pebble's messages out of the logs: they name files and sizes.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// Fatalf is called when Pebble cannot go on, such as after a failed write of its
// log: what was not acknowledged must not be acknowledged later.
func (silent) Fatalf(string, ...any) {
	panic("pebbledb: the database cannot go on: check disk space and permissions")
}
