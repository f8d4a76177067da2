package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mmrelay/mmrelay/internal/hub"
	"github.com/mmrelay/mmrelay/internal/relay"
	"github.com/mmrelay/mmrelay/internal/store"
	"github.com/mmrelay/mmrelay/pkg/queue/audit"
)

// storeCmd is for the operator of a hub or a relay.
type storeCmd struct {
	Backup  storeBackup  `cmd:"" help:"Back up an embedded store: of a daemon that does not run, or through one that runs with --backup-dir."`
	Restore storeRestore `cmd:"" help:"Make an embedded store of a backup. A hub on it starts with all rooms frozen."`
	Freeze  storeFreeze  `cmd:"" help:"Mark a store as restored from an older point: for Redis, after its own files were put back and before a daemon starts."`
	Check   storeCheck   `cmd:"" help:"Look at every row of a store or a backup: checksums, formats, counters against entries."`
	Orphans storeOrphans `cmd:"" help:"Count the rows that nobody can reach any more, and delete them if asked to."`
}

// storeArg is a store as the daemons' flags name it.
type storeArg string

// url reads the value: @FILE is for URLs with a password.
func (a storeArg) url() (string, error) {
	file, ok := strings.CutPrefix(string(a), "@")
	if !ok {
		return string(a), nil
	}
	b, err := os.ReadFile(file)
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line), err
}

type storeBackup struct {
	Store storeArg `arg:"" help:"pebble:DIR of a daemon that does not run, or http://ADDR: the admin listener of one that runs."`
	Dir   string   `arg:"" help:"Directory to make. Through a daemon: a name, which is made below its --backup-dir."`
}

func (k *storeBackup) Run(e *env) error {
	u, err := k.Store.url()
	if err != nil {
		return err
	}
	if strings.HasPrefix(u, "http://") {
		if err := k.ask(e, u); err != nil {
			return err
		}
		return e.print(map[string]any{"backup": k.Dir}, "the daemon has made the backup "+k.Dir)
	}
	kinds, err := store.Backup(e.ctx, u, k.Dir)
	if err != nil {
		return err
	}
	return e.print(map[string]any{"backup": k.Dir, "kinds": kinds}, fmt.Sprintf("backup of %s is in %s", strings.Join(kinds, ", "), k.Dir))
}

// backupTimeout bounds a backup through a daemon: tables are linked, the log is copied.
const backupTimeout = 10 * time.Minute

func (k *storeBackup) ask(e *env, base string) error {
	if k.Dir != filepath.Base(k.Dir) {
		return fmt.Errorf("%w: through a daemon the backup has a name, not a path\nhint: it is made below the daemon's --backup-dir", errUsage)
	}
	ctx, cancel := contextWithTimeout(e.ctx, backupTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+"/backup/"+url.PathEscape(k.Dir), http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking the daemon: %w\nhint: http:// and the address of its --admin listener", err)
	}
	defer func() { _ = res.Body.Close() }() // read or not, nothing depends on it
	if res.StatusCode == http.StatusOK {
		return nil
	}
	if res.StatusCode == http.StatusNotFound {
		return errors.New("the daemon makes no backups\nhint: start it with --backup-dir")
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	return errors.Join(fmt.Errorf("the daemon answers: %s", strings.TrimSpace(string(text))), err)
}

type storeRestore struct {
	Backup string   `arg:"" help:"Backup directory." type:"existingdir"`
	Store  storeArg `arg:"" help:"pebble:DIR: where the store will be."`
}

func (k *storeRestore) Run(e *env) error {
	u, err := k.Store.url()
	if err != nil {
		return err
	}
	kinds, err := store.Restore(e.ctx, k.Backup, u)
	if err != nil {
		return err
	}
	return e.print(map[string]any{"kinds": kinds}, fmt.Sprintf("restored %s; a hub starts with all rooms frozen", strings.Join(kinds, ", ")))
}

type storeFreeze struct {
	Store storeArg `arg:"" help:"A store as --store of a daemon names it, or @FILE with that in its first line."`
}

func (k *storeFreeze) Run(e *env) error {
	u, err := k.Store.url()
	if err != nil {
		return err
	}
	set, err := store.OpenAll(e.ctx, u)
	if err != nil {
		return err
	}
	for _, s := range set {
		err = errors.Join(err, s.Freeze(e.ctx))
	}
	if err = errors.Join(err, set.Close()); err != nil {
		return err
	}
	kinds := slices.Sorted(maps.Keys(set))
	return e.print(map[string]any{"kinds": kinds}, "marked as restored: "+strings.Join(kinds, ", "))
}

// inspectors know the rows of each kind beyond what backends know.
var inspectors = func() map[string]store.Inspector {
	all := relay.Inspectors()
	all["hub"] = hub.Inspector{}
	return all
}()

type storeCheck struct {
	Store storeArg `arg:"" help:"A store as --store of a daemon names it, @FILE with that in its first line, or pebble:BACKUP."`
}

var errUnsound = errors.New("the store breaks its own rules\nhint: restore a backup; what a damaged store still has may be read, not relied on")

func (k *storeCheck) Run(e *env) error {
	sound, err := auditAll(e, k.Store, false)
	if err == nil && !sound {
		return errUnsound
	}
	return err
}

type storeOrphans struct {
	Store  storeArg `arg:"" help:"A store as --store of a daemon names it, or @FILE with that in its first line."`
	Delete bool     `help:"Delete them."`
}

func (k *storeOrphans) Run(e *env) error {
	_, err := auditAll(e, k.Store, k.Delete)
	return err
}

// auditAll prints a report for each kind of data that a store has.
func auditAll(e *env, a storeArg, remove bool) (sound bool, err error) {
	u, err := a.url()
	if err != nil {
		return false, err
	}
	open := store.OpenAllReadOnly
	if remove {
		open = store.OpenAll
	}
	set, err := open(e.ctx, u)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	sound = true
	reports := make(map[string]*audit.Report)
	var words []string
	for _, kind := range slices.Sorted(maps.Keys(set)) {
		r, err := set[kind].Audit(e.ctx, inspectors[kind], remove)
		if err != nil {
			return false, fmt.Errorf("looking at the store of %s: %w", kind, err)
		}
		reports[kind] = r
		sound = sound && r.Sound()
		words = append(words, kind+":\n"+r.String())
	}
	return sound, e.print(reports, strings.Join(words, "\n"))
}
