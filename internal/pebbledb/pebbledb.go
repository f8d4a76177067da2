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
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// Version is the format of what mmrelay keeps in a database. It rises when an
// older program could not read a newer database.
const Version = 1

// ErrNewer reports a database of a newer version of this program.
var ErrNewer = errors.New("pebbledb: the database was written by a newer version of mmrelay")

// ErrBusy reports a database that another process has open.
var ErrBusy = errors.New("pebbledb: another process has the database open")

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
	db, fresh, err := open(dir, options())
	if err != nil || !fresh {
		return db, err
	}
	// Pebble begins the log of a new database before it raises the format to the one
	// in which damage of the log can be told from its end. The next log is begun in it.
	if err := db.Close(); err != nil {
		return nil, err
	}
	db, _, err = open(dir, options())
	return db, err
}

// Close writes what is in the log to tables, whose every block has a checksum, and
// closes the database: the next process need not replay a log.
func Close(db *pebble.DB) error { return errors.Join(db.Flush(), db.Close()) }

// OpenReadOnly opens a database that exists and changes nothing of it. What its
// log has is read, but not written to tables. Damage is an error of the call that
// meets it, where Open's database ends the process.
func OpenReadOnly(dir string) (*pebble.DB, error) {
	o := options()
	o.ReadOnly, o.ErrorIfNotExists = true, true
	o.EventListener = &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}
	db, _, err := open(dir, o)
	return db, err
}

func options() *pebble.Options {
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
	return o
}

// open opens a database. fresh reports that it had no format version.
func open(dir string, o *pebble.Options) (db *pebble.DB, fresh bool, err error) {
	db, err = pebble.Open(dir, o)
	switch {
	case errors.Is(err, syscall.EAGAIN) || err != nil && strings.Contains(err.Error(), "lock held by current process"):
		return nil, false, ErrBusy
	case err != nil && strings.Contains(err.Error(), "written in unknown format"):
		return nil, false, ErrNewer
	case err != nil:
		return nil, false, fmt.Errorf("opening %s: %w", dir, err)
	}
	if fresh, err = checkVersion(db, o.ReadOnly); err != nil {
		return nil, false, errors.Join(err, db.Close())
	}
	return db, fresh, nil
}

// checkVersion compares the version of the format, or writes it.
func checkVersion(db *pebble.DB, readOnly bool) (fresh bool, err error) {
	v, closer, err := db.Get(versionKey)
	if errors.Is(err, pebble.ErrNotFound) {
		if readOnly {
			return false, errors.New("pebbledb: the database has no format version: it is not one of mmrelay")
		}
		return true, SetVersion(db, Version)
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = closer.Close() }() // releases the value, nothing else
	if len(v) != 4 || binary.BigEndian.Uint32(v) > Version {
		return false, ErrNewer
	}
	return false, nil
}

// SetVersion writes the version of the format, for migrations and tests.
func SetVersion(db *pebble.DB, v uint32) error {
	return db.Set(versionKey, binary.BigEndian.AppendUint32(nil, v), pebble.Sync)
}

// silent keeps Pebble's messages out of the logs: they name files and sizes.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// Fatalf is called when Pebble cannot go on, such as after a failed write of its
// log: what was not acknowledged must not be acknowledged later.
//
// The process ends whatever its callers recover from: they hold locks, and what
// they would answer is not known.
func (silent) Fatalf(string, ...any) {
	go panic("pebbledb: the database cannot go on: check disk space, permissions and the disk itself")
	select {}
}
