package daemon

import (
	"errors"
	"net/http"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/mmrelay/mmrelay/internal/store"
)

// backupName is what a backup may be called: one element of a path.
var backupName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// backups serves POST /backup/{name} on the admin listener: a backup of the
// daemon's stores in a new directory below dir, one at a time. A page in the
// operator's browser cannot ask for it.
func backups(dir string, stores store.Set) http.Handler {
	var mu sync.Mutex
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if !backupName.MatchString(name) {
			http.Error(w, "a backup's name is 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or a digit", http.StatusBadRequest)
			return
		}
		if !mu.TryLock() {
			http.Error(w, "another backup is being made", http.StatusConflict)
			return
		}
		defer mu.Unlock()
		switch err := stores.Backup(filepath.Join(dir, name)); {
		case errors.Is(err, store.ErrThere):
			http.Error(w, "there is a backup of that name", http.StatusConflict)
		case errors.Is(err, store.ErrNoBackup):
			http.Error(w, err.Error(), http.StatusNotImplemented)
		case err != nil:
			http.Error(w, "the backup could not be written: check disk space and permissions of --backup-dir", http.StatusInternalServerError)
		default:
			_, _ = w.Write([]byte("ok\n"))
		}
	})
	return http.NewCrossOriginProtection().Handler(h)
}
