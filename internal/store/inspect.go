package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/pebbledb"
	"github.com/mmrelay/mmrelay/pkg/queue"
	"github.com/mmrelay/mmrelay/pkg/queue/audit"
)

// Inspector knows what the rows of one kind of data are for: a hub's or a
// relay's. Backends know whether rows are whole; an Inspector knows whether what
// they hold decodes, and whether what they belong to still exists.
//
// A finding is about the moment of the call; the store may be in use. An
// Inspector must call something an orphan only if no call under way can be about
// to give it an owner, for example by its age.
type Inspector interface {
	// Record says what a record is. s is for looking up its owner.
	Record(ctx context.Context, s *Stores, r kv.Record) (Finding, error)
	// Queue says what a queue is.
	Queue(ctx context.Context, s *Stores, id queue.ID) (Finding, error)
}

// Finding is what an Inspector says about a row. It has no part of the row.
type Finding struct {
	// Kind says what the row is, in a constant word or two.
	Kind string
	// Fault says what is wrong with it, in constant words; empty if nothing is.
	Fault string
	// Orphan says that nobody can reach the row any more.
	Orphan bool
}

// OpenAll opens the stores of every kind that a place has, for tools. Nothing is
// made that was not there.
func OpenAll(ctx context.Context, url string) (Set, error) {
	return openAll(ctx, url, openPebble)
}

// OpenAllReadOnly is OpenAll without a change to an embedded store. A backup can
// be opened with it too. (Redis has no such thing; nothing is written there
// unless a method that writes is called.)
func OpenAllReadOnly(ctx context.Context, url string) (Set, error) {
	return openAll(ctx, url, func(dir string) (*Stores, error) {
		return openPebbleDir(dir, pebbledb.OpenReadOnly, (*pebble.DB).Close)
	})
}

func openAll(ctx context.Context, url string, openDir func(dir string) (*Stores, error)) (Set, error) {
	set := make(Set)
	var err error
	for _, k := range Kinds() {
		var s *Stores
		switch dir, ok := strings.CutPrefix(url, "pebble:"); {
		case ok && dir != "":
			if _, err := os.Stat(filepath.Join(dir, k)); err != nil {
				continue
			}
			s, err = openDir(filepath.Join(dir, k))
		case strings.HasPrefix(url, "redis"):
			s, err = openRedisExisting(ctx, url, k)
		default:
			_, err = Open(ctx, url, k) // says what is wrong with the URL
			if err == nil {
				err = fmt.Errorf("%w\nhint: a store in memory is gone with its process", ErrURL)
			}
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("opening the store of %s: %w", k, err), set.Close())
		}
		if s != nil {
			set[k] = s
		}
	}
	if len(set) == 0 {
		return nil, errors.New("there is no store of mmrelay\nhint: the value of --store, such as pebble:./data/hub")
	}
	return set, nil
}

// openRedisExisting opens a kind of which a server has the format version.
func openRedisExisting(ctx context.Context, url, kind string) (*Stores, error) {
	silence()
	u, err := parseRedisURL(url)
	if err != nil {
		return nil, err
	}
	c := redis.NewUniversalClient(&u.options)
	n, err := c.Exists(ctx, u.prefix+kinds[kind]+formatKey).Result()
	if err = errors.Join(err, c.Close()); err != nil {
		return nil, fmt.Errorf("reaching redis: %w\nhint: check address, user and password; a cluster needs redis+cluster://", err)
	}
	if n == 0 {
		return nil, nil
	}
	return openRedis(ctx, url, kind)
}

// Audit looks at every row: with the eyes of the backend, and of an Inspector if
// there is one. With remove it deletes orphans.
func (s *Stores) Audit(ctx context.Context, i Inspector, remove bool) (*audit.Report, error) {
	r := audit.New()
	if s.db != nil && !remove {
		if err := pebbledb.Verify(ctx, s.db, s.dir); errors.Is(err, pebbledb.ErrDamaged) {
			r.Fault("database: a checksum or the order of a table is wrong")
		} else if err != nil {
			return nil, err
		}
	}
	ka, ok := s.KV.(kv.Auditor)
	qa, ok2 := s.Queue.(queue.Auditor)
	if !ok || !ok2 {
		return nil, errors.New("this backend cannot look at all it has")
	}
	if i != nil { // first: what it deletes is gone for the backend too
		if err := s.inspect(ctx, i, qa, remove, r); err != nil {
			return nil, err
		}
	}
	for _, f := range []func(context.Context, bool) (*audit.Report, error){ka.Audit, qa.Audit} {
		x, err := f(ctx, remove)
		if err != nil {
			return nil, err
		}
		r.Add(x)
	}
	return r, nil
}

// inspect shows an Inspector every record and every queue.
func (s *Stores) inspect(ctx context.Context, i Inspector, qa queue.Auditor, remove bool, r *audit.Report) error {
	for g, err := range s.KV.Groups(ctx, "") {
		if err != nil {
			return err
		}
		for rec, err := range s.KV.Scan(ctx, g, "") {
			if err != nil {
				return err
			}
			if rec.Key == Restored {
				continue
			}
			f, err := i.Record(ctx, s, rec)
			if err != nil {
				return err
			}
			if count(r, f, remove) {
				// Only as it was looked at: it may have been written meanwhile.
				if _, err := s.KV.Apply(ctx, []kv.Op{{Key: rec.Key, Check: true, Old: rec.Version}}); err != nil && !errors.Is(err, kv.ErrConflict) {
					return err
				}
			}
		}
	}
	for id, err := range qa.Queues(ctx) {
		if err != nil {
			return err
		}
		f, err := i.Queue(ctx, s, id)
		if err != nil {
			return err
		}
		if count(r, f, remove) {
			if err := s.Queue.Delete(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// count counts a finding and reports whether its row is to be deleted.
func count(r *audit.Report, f Finding, remove bool) bool {
	if f.Fault != "" {
		r.Fault(f.Kind + ": " + f.Fault)
	}
	if !f.Orphan {
		return false
	}
	r.Orphan(f.Kind + " without an owner")
	if remove {
		r.Deleted++
	}
	return remove
}
