package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mmrelay/mmrelay/internal/kv"
	"github.com/mmrelay/mmrelay/internal/pebbledb"
	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/queue"
)

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBackupUnderLoad backs up a store while writers append, acknowledge and
// count, and restores each backup. What was answered before a backup began is in
// it, nothing is that was not written, and it is sound.
func TestBackupUnderLoad(t *testing.T) {
	src := open(t, "pebble:"+t.TempDir(), "hub")
	ctx := t.Context()
	const queues = 4
	var answered [queues]atomic.Uint64 // the newest number that was answered
	var asked [queues]atomic.Uint64
	var counted atomic.Uint64
	quit := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(quit)
	going := func() bool {
		select {
		case <-quit:
			return false
		default:
			return true
		}
	}
	for i := range queues {
		id := queue.ID(fmt.Append(nil, i))
		mustDo(t, src.Queue.Create(ctx, id, queue.Limits{}))
		wg.Go(func() {
			for n := uint64(1); going(); n++ {
				asked[i].Store(n)
				r, err := queue.AppendOne(ctx, src.Queue, queue.Append{Queue: id, Entry: fmt.Append(nil, "entry ", n), Dedup: binary.BigEndian.AppendUint64(nil, n)})
				if err != nil || uint64(r.Seq) != n {
					t.Errorf("append %d: %v, %v", n, r, err)
					return
				}
				answered[i].Store(n)
				if n%64 == 0 {
					if err := src.Queue.Ack(ctx, id, r.Seq-32); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Go(func() {
		var v kv.Version
		var err error
		for n := uint64(1); going(); n++ {
			if v, err = kv.Put(ctx, src.KV, kv.Key{Group: "g", Name: "n"}, v, binary.BigEndian.AppendUint64(nil, n), 0); err != nil {
				t.Error(err)
				return
			}
			counted.Store(n)
		}
	})
	for round := range 5 {
		for answered[0].Load() < uint64(50*(round+1)) && !t.Failed() { // something new in each
			time.Sleep(time.Millisecond)
		}
		var floor [queues]uint64
		for i := range floor {
			floor[i] = answered[i].Load()
		}
		count := counted.Load()
		dir := filepath.Join(t.TempDir(), "backup")
		mustDo(t, store.Set{"hub": src}.Backup(dir))
		var ceiling [queues]uint64
		for i := range ceiling {
			ceiling[i] = asked[i].Load()
		}
		place := "pebble:" + t.TempDir()
		kinds, err := store.Restore(ctx, dir, place)
		if err != nil || len(kinds) != 1 {
			t.Fatalf("Restore = %v, %v", kinds, err)
		}
		got := open(t, place, "hub")
		rep, err := got.Audit(ctx, nil, false)
		if err != nil || !rep.Sound() {
			t.Fatalf("the restored store: %v, %v", rep, err)
		}
		if _, err := got.KV.Get(ctx, store.Restored); err != nil {
			t.Errorf("the restored store is not marked: %v", err)
		}
		rec, err := got.KV.Get(ctx, kv.Key{Group: "g", Name: "n"})
		if err != nil || binary.BigEndian.Uint64(rec.Value) < count {
			t.Errorf("record %x, %v; %d was answered before the backup", rec.Value, err, count)
		}
		for i := range floor {
			id := queue.ID(fmt.Append(nil, i))
			st, err := got.Queue.Stat(ctx, id)
			if err != nil || uint64(st.Last) < floor[i] || uint64(st.Last) > ceiling[i] {
				t.Errorf("queue %d: %+v, %v; %d was answered before, %d asked for after", i, st, err, floor[i], ceiling[i])
			}
			es, err := got.Queue.Read(ctx, id, 0, 1<<20)
			mustDo(t, err)
			for _, e := range es {
				if string(e.Data) != fmt.Sprint("entry ", e.Seq) {
					t.Fatalf("entry %d is %q", e.Seq, e.Data)
				}
			}
		}
	}
}

func TestBackupRefuses(t *testing.T) {
	ctx := t.Context()
	place := "pebble:" + t.TempDir()
	s := open(t, place, "hub")
	write(t, s)
	dir := filepath.Join(t.TempDir(), "backup")
	if _, err := store.Backup(ctx, place, dir); !errors.Is(err, store.ErrBusy) {
		t.Errorf("a store in use: %v, want ErrBusy", err)
	}
	mustDo(t, s.Close())
	kinds, err := store.Backup(ctx, place, dir)
	if err != nil || len(kinds) != 1 || kinds[0] != "hub" {
		t.Fatalf("Backup = %v, %v", kinds, err)
	}
	if _, err := store.Backup(ctx, place, dir); !errors.Is(err, store.ErrThere) {
		t.Errorf("over a backup: %v, want ErrThere", err)
	}
	if _, err := store.Backup(ctx, "pebble:"+t.TempDir(), filepath.Join(t.TempDir(), "b")); err == nil {
		t.Error("a backup of nothing succeeded")
	}
	server := redistest.Start(t, redistest.Options{})
	write(t, open(t, server.URL(), "hub"))
	if _, err := store.Backup(ctx, server.URL(), filepath.Join(t.TempDir(), "b")); !errors.Is(err, store.ErrNoBackup) || !strings.Contains(err.Error(), "BGSAVE") {
		t.Errorf("redis: %v, want ErrNoBackup and what to do", err)
	}
	if _, err := store.Backup(ctx, "memory:", filepath.Join(t.TempDir(), "b")); !errors.Is(err, store.ErrURL) {
		t.Errorf("memory: %v, want ErrURL", err)
	}

	// A backup is no store, and a store in use is not overwritten.
	if s, err := store.Open(ctx, "pebble:"+dir, "hub"); !errors.Is(err, store.ErrBackup) {
		t.Errorf("a daemon on a backup: %v, %v, want ErrBackup", s, err)
	}
	if _, err := store.Restore(ctx, dir, place); !errors.Is(err, store.ErrThere) {
		t.Errorf("over a store: %v, want ErrThere", err)
	}
	for _, url := range []string{"memory:", "pebble:", server.URL(), ""} {
		if _, err := store.Restore(ctx, dir, url); !errors.Is(err, store.ErrURL) {
			t.Errorf("Restore to %q: %v, want ErrURL", url, err)
		}
	}
	if _, err := store.Restore(ctx, t.TempDir(), "pebble:"+t.TempDir()); err == nil {
		t.Error("an empty directory was restored")
	}
	for name, text := range map[string]string{
		"newer":   fmt.Sprintf(`{"version":%d,"kinds":["hub"]}`, pebbledb.Version+1),
		"unknown": `{"version":1,"kinds":["../hub"]}`,
		"damaged": `{"version":1,"ki`,
	} {
		mustDo(t, os.WriteFile(filepath.Join(dir, "BACKUP"), []byte(text), 0o600))
		to := t.TempDir()
		if _, err := store.Restore(ctx, dir, "pebble:"+to); err == nil {
			t.Errorf("a backup whose manifest is %s was restored", name)
		}
		if es, err := os.ReadDir(to); err != nil || len(es) != 0 {
			t.Errorf("%s: the refused restore left %v, %v", name, es, err)
		}
	}
}

// TestRestoreIsWhole asserts that a restore that fails leaves no store behind.
func TestRestoreIsWhole(t *testing.T) {
	ctx := t.Context()
	place := "pebble:" + t.TempDir()
	s := open(t, place, "hub")
	write(t, s)
	mustDo(t, s.Close())
	dir := filepath.Join(t.TempDir(), "backup")
	_, err := store.Backup(ctx, place, dir)
	mustDo(t, err)
	files, err := filepath.Glob(filepath.Join(dir, "hub", "MANIFEST*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	mustDo(t, os.Remove(files[0]))
	to := t.TempDir()
	if _, err := store.Restore(ctx, dir, "pebble:"+to); err == nil {
		t.Fatal("a backup without its manifest was restored")
	}
	if es, err := os.ReadDir(to); err != nil || len(es) != 0 {
		t.Errorf("left behind: %v, %v", es, err)
	}
}

// TestCheckFindsFlippedBytes flips one byte of the tables after another, at a
// stride, and asserts that the check notices each.
func TestCheckFindsFlippedBytes(t *testing.T) {
	ctx := t.Context()
	root := t.TempDir()
	db, err := pebbledb.Open(filepath.Join(root, "hub"))
	mustDo(t, err)
	mustDo(t, db.Close())
	s := open(t, "pebble:"+root, "hub")
	write(t, s)
	for i := range 200 {
		if _, err := queue.AppendOne(ctx, s.Queue, queue.Append{Queue: "q", Entry: fmt.Append(nil, "entry ", i)}); err != nil {
			t.Fatal(err)
		}
	}
	mustDo(t, s.Close())
	db, err = pebbledb.Open(filepath.Join(root, "hub"))
	mustDo(t, err)
	mustDo(t, db.Flush())
	mustDo(t, db.Close())
	tables, err := filepath.Glob(filepath.Join(root, "hub", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal("no tables", err)
	}
	sound := func() bool {
		set, err := store.OpenAllReadOnly(ctx, "pebble:"+root)
		if err != nil {
			return false
		}
		defer set.Close()
		r, err := set["hub"].Audit(context.WithoutCancel(ctx), nil, false)
		return err == nil && r.Sound()
	}
	if !sound() {
		t.Fatal("the store is damaged before the test damages it")
	}
	stride, found, tried := 97, 0, 0
	if testing.Short() {
		stride = 997
	}
	for _, table := range tables {
		whole, err := os.ReadFile(table)
		mustDo(t, err)
		for i := 0; i < len(whole); i += stride {
			whole[i] ^= 0x41
			mustDo(t, os.WriteFile(table, whole, 0o600))
			whole[i] ^= 0x41
			tried++
			if !sound() {
				found++
			}
		}
		mustDo(t, os.WriteFile(table, whole, 0o600))
	}
	t.Logf("%d of %d flipped bytes found", found, tried)
	if found != tried {
		t.Errorf("%d of %d flipped bytes went unnoticed", tried-found, tried)
	}
	if !sound() {
		t.Error("the store is damaged after all bytes were put back")
	}
}
