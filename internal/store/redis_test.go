package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mmrelay/mmrelay/internal/redistest"
	"github.com/mmrelay/mmrelay/internal/store"
)

// Pebble leaves one goroutine when Open fails because the database is in use or
// damaged.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/cockroachdb/pebble/v2/vfs.(*diskHealthCheckingFS).startTickerLocked.func1"))
}

func TestOpenRedisReopens(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	s := open(t, server.URL(), "hub")
	if s.Backend != "redis" {
		t.Errorf("Backend = %q", s.Backend)
	}
	write(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, open(t, server.URL(), "hub"))
}

// TestRedisApart asserts that kinds, prefixes and databases do not meet.
func TestRedisApart(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	for _, x := range []struct{ query, kind string }{
		{"", "accounts"},
		{"", "packages"},
		{"", "queues"},
		{"", "hub"},
		{"", "other"},
		{"?prefix=x:", "hub"},
		{"?db=3", "hub"},
		{"?db=3&prefix=x:", "hub"},
	} {
		write(t, open(t, server.URL()+x.query, x.kind))
	}
}

func TestRedisRefuses(t *testing.T) {
	for name, x := range map[string]struct {
		args []string
		url  string
		want string
	}{
		"eviction":  {[]string{"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"}, "", "noeviction"},
		"a cluster": {[]string{"--cluster-enabled", "yes"}, "", "redis+cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, redistest.Options{Args: x.args, TCP: true})
			s, err := store.Open(t.Context(), server.URL(), "hub")
			if err == nil {
				_ = s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("Open: %v, want a hint about %s", err, x.want)
			}
		})
	}
	if _, err := store.Open(t.Context(), "redis+unix:///nonexistent/socket", "hub"); err == nil {
		t.Error("Open without a server succeeded")
	}
}

func TestNewerIsRefused(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	c := server.Client()
	if err := c.Set(t.Context(), "hformat", store.Version+1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), server.URL(), "hub"); !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "\nhint: run that version") {
		t.Errorf("redis: %v, want ErrNewer with a hint", err)
	}

	dir := t.TempDir()
	db, err := pebble.Open(filepath.Join(dir, "hub"), &pebble.Options{FormatMajorVersion: pebble.FormatNewest})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte{0}, []byte{0, 0, 0, 99}, pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), "pebble:"+dir, "hub"); !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "\nhint: run that version") {
		t.Errorf("pebble: %v, want ErrNewer with a hint", err)
	}

	// What Pebble itself does not know is newer, too.
	dir = t.TempDir()
	s, err := store.Open(t.Context(), "pebble:"+dir, "accounts")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	marks, err := filepath.Glob(filepath.Join(dir, "accounts", "marker.format-version.*"))
	if err != nil || len(marks) != 1 {
		t.Fatal(marks, err)
	}
	if err := os.Rename(marks[0], filepath.Join(dir, "accounts", "marker.format-version.000099.999")); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), "pebble:"+dir, "accounts"); !errors.Is(err, store.ErrNewer) {
		t.Errorf("a later format of Pebble: %v, want ErrNewer", err)
	}
}

func TestParseRedisURL(t *testing.T) {
	type want struct {
		Addrs                          []string
		DB                             int
		Username, Password, MasterName string
		Cluster, TLS                   bool
		Prefix                         string
		Wait                           int
	}
	for url, w := range map[string]want{
		"redis://h":                                    {Addrs: []string{"h:6379"}},
		"redis://h/":                                   {Addrs: []string{"h:6379"}},
		"redis://h:1/2":                                {Addrs: []string{"h:1"}, DB: 2},
		"redis://[::1]":                                {Addrs: []string{"[::1]:6379"}},
		"redis://[::1]:7":                              {Addrs: []string{"[::1]:7"}},
		"redis://u:p%40%2F@h?prefix=x:&wait=1":         {Addrs: []string{"h:6379"}, Username: "u", Password: "p@/", Prefix: "x:", Wait: 1},
		"redis://:p@h":                                 {Addrs: []string{"h:6379"}, Password: "p"},
		"rediss://h":                                   {Addrs: []string{"h:6379"}, TLS: true},
		"redis+unix:///a/b?db=2":                       {Addrs: []string{"/a/b"}, DB: 2},
		"redis+unix://u:p@/a/b":                        {Addrs: []string{"/a/b"}, Username: "u", Password: "p"},
		"redis+cluster://a,b:2,[::1]:3":                {Addrs: []string{"a:6379", "b:2", "[::1]:3"}, Cluster: true},
		"rediss+cluster://u:p@a":                       {Addrs: []string{"a:6379"}, Cluster: true, TLS: true, Username: "u", Password: "p"},
		"redis+sentinel://a,b:2/main":                  {Addrs: []string{"a:26379", "b:2"}, MasterName: "main"},
		"rediss+sentinel://a/main/4?password=s&wait=2": {Addrs: []string{"a:26379"}, MasterName: "main", DB: 4, TLS: true, Wait: 2},
	} {
		o, prefix, wait, err := store.ParseRedisURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := want{o.Addrs, o.DB, o.Username, o.Password, o.MasterName, o.IsClusterMode, o.TLSConfig != nil, prefix, wait}
		if d := cmp.Diff(w, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", url, d)
		}
	}
}

func TestParseRedisURLRefuses(t *testing.T) {
	for _, url := range []string{
		"redis:", "redis:h", "redis://", "redis://h,i", "redis://h:x", "redis://h:99999", "redis://:6379", "redis://h/x", "redis://h/1/2", "redis://h#f",
		"redis://::1", "redis://h?nonsense=1", "redis://h?db=-1", "redis://h?db=x", "redis://h?prefix={", "redis://h?ca=x", "redis://h?password=x",
		"redis://h?wait=x", "redis://h?wait_timeout=1", "redis://h?wait_timeout=1m", "redis://u:%zz@h", "redis://h?a=%zz",
		"redisx://h", "redis+://h", "redis+x://h", "redis+unix://h/a", "redis+unix:///", "rediss+unix:///a", "redis+cluster://", "redis+cluster://a,",
		"redis+cluster://a/1", "redis+cluster://a?db=1", "redis+sentinel://a", "redis+sentinel://a/", "redis+sentinel:///m", "redis+cluster+unix://a",
	} {
		if _, _, _, err := store.ParseRedisURL(url); !errors.Is(err, store.ErrURL) {
			t.Errorf("%s: %v, want ErrURL", url, err)
		}
	}
}

// TestErrorsHideSecrets asserts that no error repeats a password.
func TestErrorsHideSecrets(t *testing.T) {
	const secret = "s3cret"
	for _, url := range []string{
		"redis://u:" + secret + "@h:x", "redis://u:" + secret + "%zz@h", "redis://u:" + secret + "@h?x=1", "redis://u:" + secret + "@/a b\x7f",
		"redis+sentinel://h/m?password=" + secret + "&y=1", "redis+unix://u:" + secret + "@/nonexistent", "nonsense://" + secret, "redis:" + secret,
	} {
		s, err := store.Open(t.Context(), url, "hub")
		if err == nil {
			_ = s.Close()
		}
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestCAFile(t *testing.T) {
	f := filepath.Join(t.TempDir(), "ca")
	if err := os.WriteFile(f, []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"rediss://h?ca=" + f, "rediss://h?ca=" + f + ".missing"} {
		if _, _, _, err := store.ParseRedisURL(url); err == nil {
			t.Errorf("%s is accepted", url)
		}
	}
}

func TestOpenCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	c := redistest.StartCluster(t, 3)
	s := open(t, c.URL(), "hub")
	write(t, s)
	check(t, open(t, c.URL(), "hub"))
	if _, err := store.Open(t.Context(), strings.ReplaceAll(c.URL(), "redis+cluster://"+c.Nodes[0].Addr()+","+c.Nodes[1].Addr()+",", "redis://"), "hub"); err == nil || !strings.Contains(err.Error(), "redis+cluster") {
		t.Errorf("one node of a cluster as a server: %v, want a hint", err)
	}
}
