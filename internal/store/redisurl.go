package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	neturl "net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisURL is what a redis URL says. Its query may have:
//
//	db=N            database number (not in a cluster)
//	prefix=TEXT     what all keys begin with, for daemons that share a server
//	wait=N          replicas that must confirm a write; 0 if not given
//	wait_timeout=D  bound of that, such as 500ms; 1s if not given
//	pool_size=N     connections per server; 10 per CPU if not given
//	ca=FILE         PEM bundle of roots for TLS; the system's if not given
//	server_name=H   name in the server's certificate, if not the host's
//	user=, password= of the Sentinels (only there)
type redisURL struct {
	options     redis.UniversalOptions
	prefix      string
	wait        int
	waitTimeout time.Duration
}

// parseRedisURL reads a URL. It is not net/url's alone, which knows one host.
func parseRedisURL(s string) (*redisURL, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return nil, bad("no // after the scheme")
	}
	secure := strings.HasPrefix(scheme, "rediss")
	_, kind, _ := strings.Cut(scheme, "+")
	if scheme != strings.TrimSuffix(map[bool]string{true: "rediss+", false: "redis+"}[secure]+kind, "+") || secure && kind == "unix" {
		return nil, bad("unknown scheme")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	at := strings.LastIndexByte(authority, '@')
	hosts := authority[at+1:]
	u, err := neturl.Parse("redis://" + authority[:at+1] + "host" + tail)
	if err != nil || u.Fragment != "" {
		return nil, bad("malformed user, path or query") // the cause may show the password
	}
	r := &redisURL{options: redis.UniversalOptions{
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}}
	r.options.Username = u.User.Username()
	r.options.Password, _ = u.User.Password()
	if err := r.place(kind, hosts, u.Path); err != nil {
		return nil, err
	}
	if secure {
		r.options.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13}
	}
	q, err := neturl.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, bad("malformed query")
	}
	for name, values := range q {
		if err := r.set(name, values[len(values)-1]); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func bad(what string) error { return fmt.Errorf("%w: %s", ErrURL, what) }

// place sets where the servers are.
func (r *redisURL) place(kind, hosts, path string) error {
	path = strings.TrimPrefix(path, "/")
	switch kind {
	case "unix":
		if hosts != "" || path == "" {
			return bad("redis+unix takes three slashes and the socket's path")
		}
		r.options.Addrs = []string{"/" + path}
		return nil
	case "sentinel":
		master, db, _ := strings.Cut(path, "/")
		if master == "" {
			return bad("redis+sentinel needs the master's name after the hosts")
		}
		r.options.MasterName = master
		path = db
	case "cluster":
		r.options.IsClusterMode = true
		if path != "" {
			return bad("a cluster has no database numbers")
		}
	case "":
	default:
		return bad("unknown scheme")
	}
	if path != "" {
		if err := r.set("db", path); err != nil {
			return err
		}
	}
	if kind == "" && strings.Contains(hosts, ",") {
		return bad("more than one host: redis+cluster or redis+sentinel is meant")
	}
	port := "6379"
	if kind == "sentinel" {
		port = "26379"
	}
	for h := range strings.SplitSeq(hosts, ",") {
		addr, err := withPort(h, port)
		if err != nil {
			return err
		}
		r.options.Addrs = append(r.options.Addrs, addr)
	}
	return nil
}

// withPort adds the default port to a host that has none.
func withPort(h, port string) (string, error) {
	if host, p, err := net.SplitHostPort(h); err == nil {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil || host == "" {
			return "", bad("malformed host or port")
		}
		return h, nil
	}
	host := strings.TrimSuffix(strings.TrimPrefix(h, "["), "]")
	if host == "" || strings.ContainsAny(host, "[]@ ") || strings.Contains(host, ":") && host == h {
		return "", bad("malformed host or port")
	}
	return net.JoinHostPort(host, port), nil
}

// set sets one option of the query.
func (r *redisURL) set(name, value string) error {
	number := func(to *int) error {
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return bad("option " + name + " is not a number from 0 to 65535")
		}
		*to = int(n)
		return nil
	}
	o := &r.options
	switch {
	case name == "db" && !o.IsClusterMode:
		return number(&o.DB)
	case name == "prefix":
		if strings.ContainsAny(value, "{}") {
			return bad("option prefix has a brace")
		}
		r.prefix = value
	case name == "wait":
		return number(&r.wait)
	case name == "wait_timeout":
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 || d > 4*time.Second { // shorter than the client's read timeout
			return bad("option wait_timeout is not a duration up to 4s")
		}
		r.waitTimeout = d
	case name == "pool_size":
		return number(&o.PoolSize)
	case name == "user" && o.MasterName != "":
		o.SentinelUsername = value
	case name == "password" && o.MasterName != "":
		o.SentinelPassword = value
	case name == "ca" && o.TLSConfig != nil:
		pem, err := os.ReadFile(value)
		if err != nil {
			return err
		}
		o.TLSConfig.RootCAs = x509.NewCertPool()
		if !o.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return errors.New("the file of option ca has no certificate")
		}
	case name == "server_name" && o.TLSConfig != nil:
		o.TLSConfig.ServerName = value
	default:
		return bad("an option that is unknown, or not one of this scheme\nhint: db, prefix, wait, wait_timeout, pool_size; with TLS ca, server_name; with Sentinel user, password")
	}
	return nil
}
