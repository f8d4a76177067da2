package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/redis/go-redis/v9"

	"github.com/mmrelay/mmrelay/internal/spell"
)

// party is one operator with everything its processes received and stored.
type party struct {
	name    string
	records [][]byte        // each one capture, stored record, file or log
	clients map[string]bool // addresses of clients that connected
	callers map[string]bool // names in certificates of other operators
}

// evidence collects what each party has: captured messages, store contents
// (logical and, with Pebble, raw files), logs.
func (d *deployment) evidence(ctx context.Context) ([]*party, error) {
	var ps []*party
	for i, domain := range []string{hubDomain, aDomain, bDomain} {
		p := &party{name: domain, clients: make(map[string]bool), callers: make(map[string]bool)}
		if err := p.captures(d.path(domain, "tap")); err != nil {
			return nil, err
		}
		log, err := os.ReadFile(d.path(domain + ".log"))
		if err != nil {
			return nil, err
		}
		p.records = append(p.records, log)
		if d.store == "redis" {
			err = p.redis(ctx, d.redis, i)
		} else {
			err = p.pebble(d.path(domain, "store"))
		}
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// captures reads a tap file: lines of internal/daemon's tapRecord.
func (p *party) captures(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	s := bufio.NewScanner(f)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var r struct {
			Place, Method, Who, Addr string
			Data                     []byte
		}
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			return err
		}
		switch r.Place {
		case "client":
			p.clients[r.Addr] = true
		case "peer":
			p.callers[r.Who] = true
		}
		p.records = append(p.records, append([]byte(r.Method+"\n"+r.Who+"\n"+r.Addr+"\n"), r.Data...))
	}
	return s.Err()
}

// pebble reads every database below dir, record by record, and every file as it is.
func (p *party) pebble(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !e.IsDir() {
			data, err := os.ReadFile(path)
			p.records = append(p.records, data)
			return err
		}
		if _, err := os.Stat(filepath.Join(path, "CURRENT")); err == nil || hasManifest(path) {
			return p.database(path)
		}
		return nil
	})
}

func hasManifest(dir string) bool {
	m, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	return err == nil && len(m) > 0
}

func (p *party) database(dir string) error {
	db, err := pebble.Open(dir, &pebble.Options{ReadOnly: true, Logger: quiet{}})
	if err != nil {
		return err
	}
	it, err := db.NewIter(nil)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	for it.First(); it.Valid(); it.Next() {
		p.records = append(p.records, append(append(bytes.Clone(it.Key()), '\n'), it.Value()...))
	}
	return errors.Join(it.Error(), it.Close(), db.Close())
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(f string, _ ...any) {
	panic("demo: " + f)
}

// redis reads every key of one database.
func (p *party) redis(ctx context.Context, socket string, db int) error {
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, DB: db, DisableIdentity: true})
	defer func() { _ = c.Close() }() // read only
	it := c.Scan(ctx, 0, "*", 1000).Iterator()
	for it.Next(ctx) {
		key := it.Val()
		parts := []string{key}
		kind, err := c.Type(ctx, key).Result()
		if err != nil {
			return err
		}
		switch kind {
		case "string":
			v, err := c.Get(ctx, key).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			parts = append(parts, v)
		case "list":
			v, err := c.LRange(ctx, key, 0, -1).Result()
			if err != nil {
				return err
			}
			parts = append(parts, v...)
		case "hash":
			v, err := c.HGetAll(ctx, key).Result()
			if err != nil {
				return err
			}
			for f, x := range v {
				parts = append(parts, f, x)
			}
		case "set":
			v, err := c.SMembers(ctx, key).Result()
			if err != nil {
				return err
			}
			parts = append(parts, v...)
		case "zset":
			v, err := c.ZRange(ctx, key, 0, -1).Result()
			if err != nil {
				return err
			}
			parts = append(parts, v...)
		}
		p.records = append(p.records, []byte(strings.Join(parts, "\n")))
	}
	return it.Err()
}

// count returns how many records hold any of the needles.
func (p *party) count(ns []spell.Needle) int {
	c := 0
	for _, r := range p.records {
		if spell.Any(ns, r) {
			c++
		}
	}
	return c
}

// joins returns how many records hold one of a and one of b together. Files and
// logs, which hold everything of a store, do not count: a record is one message
// or one stored value.
func (p *party) joins(a, b []spell.Needle) int {
	c := 0
	for _, r := range p.records {
		if len(r) > 64<<10 {
			continue
		}
		if spell.Any(a, r) && spell.Any(b, r) {
			c++
		}
	}
	return c
}
