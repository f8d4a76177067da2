package pebbledb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrDamaged reports a database of which a checksum or an order is wrong.
var ErrDamaged = errors.New("pebbledb: the database is damaged")

// Verify compares every block of every table of an open database with its
// checksum, and checks that tables are ordered within and between levels.
func Verify(ctx context.Context, db *pebble.DB, dir string) error {
	levels, err := db.SSTables()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, tables := range levels {
		for _, t := range tables {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := verifyTable(ctx, filepath.Join(dir, fmt.Sprintf("%s.sst", t.BackingSSTNum))); err != nil {
				return fmt.Errorf("%w: a table: %w", ErrDamaged, err)
			}
		}
	}
	if err := db.CheckLevels(nil); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

func verifyTable(ctx context.Context, path string) error {
	f, err := vfs.Default.Open(path)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, options().MakeReaderOptions())
	if err != nil {
		return err // the reader closed the file
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// Checkpoint writes the database as it is now to a directory that does not
// exist yet, while it is in use. Everything that was synced is in it.
func Checkpoint(db *pebble.DB, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	return db.Checkpoint(dir, pebble.WithFlushedWAL())
}
