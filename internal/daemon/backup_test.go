package daemon

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/mmrelay/mmrelay/internal/store"
)

// TestBackups asserts who may ask for a backup, and under which names.
func TestBackups(t *testing.T) {
	s, err := store.Open(t.Context(), "pebble:"+t.TempDir(), "hub")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dir := t.TempDir()
	mux := http.NewServeMux()
	mux.Handle("POST /backup/{name}", backups(dir, store.Set{"hub": s}))
	ask := func(method, target string, header ...string) int {
		t.Helper()
		r := httptest.NewRequest(method, target, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w.Code
	}
	for _, x := range []struct {
		method, target string
		header         []string
		want           int
	}{
		{"GET", "/backup/a", nil, http.StatusMethodNotAllowed},
		{"POST", "/backup/.a", nil, http.StatusBadRequest},
		{"POST", "/backup/..%2Fa", nil, http.StatusBadRequest},
		{"POST", "/backup/%2Fa", nil, http.StatusBadRequest},
		{"POST", "/backup/a%00", nil, http.StatusBadRequest},
		{"POST", "/backup/a", []string{"Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		{"POST", "/backup/a", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
	} {
		if got := ask(x.method, x.target, x.header...); got != x.want {
			t.Errorf("%s %s %v: %d, want %d", x.method, x.target, x.header, got, x.want)
		}
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != 0 {
		t.Errorf("refused backups left %v, %v", es, err)
	}
	if got := ask("POST", "/backup/a"); got != http.StatusOK {
		t.Errorf("a backup: %d", got)
	}
	if got := ask("POST", "/backup/a"); got != http.StatusConflict {
		t.Errorf("a second backup of that name: %d", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "a", "hub")); err != nil {
		t.Error(err)
	}

	m, err := store.Open(t.Context(), "memory:", "hub")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	mux = http.NewServeMux()
	mux.Handle("POST /backup/{name}", backups(dir, store.Set{"hub": m}))
	if got := ask("POST", "/backup/b"); got != http.StatusNotImplemented {
		t.Errorf("a backup of memory: %d", got)
	}
}
