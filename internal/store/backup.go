package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/pebbledb"
)

// The record that a restored store has: it may be behind what its clients saw. A
// hub that finds it starts with all rooms frozen (SPEC.md R-106). Its value means
// nothing. An operator who has verified the rooms removes it.
const (
	GroupStore   = "store"
	NameRestored = "restored"
)

// Restored is the key of that record.
var Restored = kv.Key{Group: GroupStore, Name: NameRestored}

// manifestFile marks a directory as a backup, lest a daemon runs on it.
const manifestFile = "BACKUP"

type manifest struct {
	Version int      `json:"version"` // pebbledb.Version
	Kinds   []string `json:"kinds"`
}

var (
	// ErrNoBackup reports a backend that has its own means of backup.
	ErrNoBackup = errors.New("only an embedded store (pebble:) can be backed up by mmrelay")
	// ErrThere reports that a backup or a restored store would overwrite something.
	ErrThere = errors.New("there is something already")
)

// Kinds are the kinds of data that daemons keep, as Open takes them.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// Set is what one daemon has open, by kind.
type Set map[string]*Stores

// Backup writes all stores of the set to a new directory, while they are in use.
// Each is complete and as of one moment, at or after the call; what was answered
// before is in it. A backup is there as a whole or not at all.
func (set Set) Backup(dir string) error {
	m := manifest{Version: pebbledb.Version, Kinds: slices.Sorted(maps.Keys(set))}
	for _, s := range set {
		if s.db == nil {
			return fmt.Errorf("%w\nhint: Redis is backed up by itself: BGSAVE and a copy of its dump, or copies of its append-only files; see docs/operations.md", ErrNoBackup)
		}
	}
	return build(dir, func(tmp string) error {
		for _, k := range m.Kinds {
			if err := pebbledb.Checkpoint(set[k].db, filepath.Join(tmp, k)); err != nil {
				return fmt.Errorf("writing the backup of %s: %w", k, err)
			}
		}
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		return writeSynced(filepath.Join(tmp, manifestFile), append(b, '\n'))
	})
}

// build makes a directory that must not exist: under another name first, so that
// half of it is never taken for the whole.
func build(dir string, fill func(tmp string) error) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrThere, filepath.Base(dir))
	}
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil { // of one that was interrupted
		return err
	}
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	err := fill(tmp)
	if err == nil {
		err = errors.Join(syncDir(tmp), os.Rename(tmp, dir), syncDir(filepath.Dir(dir)))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return nil
}

func writeSynced(path string, b []byte) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.Write(b)
	return errors.Join(err, f.Sync())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Backup backs up the embedded store of a daemon that does not run.
func Backup(ctx context.Context, url, dir string) ([]string, error) {
	set, err := OpenAll(ctx, url)
	if err != nil {
		return nil, err
	}
	err = errors.Join(set.Backup(dir), set.Close())
	return slices.Sorted(maps.Keys(set)), err
}

// Close closes all stores.
func (set Set) Close() error {
	var errs []error
	for _, s := range set {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Restore makes an embedded store of a backup. The place must not have a store
// of any of its kinds. The new store has the record Restored.
func Restore(ctx context.Context, backup, url string) ([]string, error) {
	dir, ok := strings.CutPrefix(url, "pebble:")
	if !ok || dir == "" {
		return nil, fmt.Errorf("%w\nhint: restore to pebble:DIR; a Redis server is restored with its own files, then marked with 'mmr store freeze'", ErrURL)
	}
	m, err := readManifest(backup)
	if err != nil {
		return nil, err
	}
	for _, k := range m.Kinds {
		if _, err := os.Lstat(filepath.Join(dir, k)); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: a store of %s\nhint: restore to an empty directory, or move the old store away", ErrThere, k)
		}
	}
	for _, k := range m.Kinds {
		err := build(filepath.Join(dir, k), func(tmp string) error {
			if err := copyDir(tmp, filepath.Join(backup, k)); err != nil {
				return err
			}
			s, err := openPebbleDir(tmp, pebbledb.Open, pebbledb.Close)
			if err != nil {
				return err
			}
			return errors.Join(s.Freeze(ctx), s.Close())
		})
		if err != nil {
			return nil, fmt.Errorf("restoring %s: %w", k, err)
		}
	}
	return m.Kinds, nil
}

// Freeze writes the record Restored.
func (s *Stores) Freeze(ctx context.Context) error {
	_, err := s.KV.Apply(ctx, []kv.Op{{Key: Restored, Value: []byte{1}}})
	return err
}

func readManifest(backup string) (manifest, error) {
	var m manifest
	b, err := os.ReadFile(filepath.Join(backup, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, errors.New("the directory is not a backup, or one that was not finished")
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, errors.New("the backup's list of contents is damaged")
	}
	if m.Version > pebbledb.Version {
		return m, ErrNewer
	}
	for _, k := range m.Kinds {
		if _, ok := kinds[k]; !ok {
			return m, errors.New("the backup has a kind of data that this version does not know")
		}
	}
	return m, nil
}

// copyDir copies plain files, synced: a checkpoint has nothing else.
func copyDir(to, from string) error {
	es, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range es {
		if !e.Type().IsRegular() {
			return errors.New("the backup has something else than files")
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name())) // tables are smaller than memory tables, logs too
		if err != nil {
			return err
		}
		if err := writeSynced(filepath.Join(to, e.Name()), b); err != nil {
			return err
		}
	}
	return nil
}
