package pseudonym_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

func TestIDs(t *testing.T) {
	const uuid = "11111111-2222-4333-8444-555555555555"
	good := "mimi://a.example/d/" + uuid
	id := parseID(t, good)
	if id.Host() != "a.example" || id.Kind() != pseudonym.Client || id.String() != good {
		t.Errorf("%v: %s %c", id, id.Host(), id.Kind())
	}
	if (pseudonym.ID{}).Kind() != 0 || (pseudonym.ID{}).Host() != "" {
		t.Error("zero ID")
	}
	for name, uri := range map[string]string{
		"empty":             "",
		"handle":            "mimi://a.example/u/alice",
		"scheme":            "http://a.example/u/" + uuid,
		"scheme case":       "MIMI://a.example/u/" + uuid,
		"kind":              "mimi://a.example/r/" + uuid,
		"kind case":         "mimi://a.example/U/" + uuid,
		"no kind":           "mimi://a.example/" + uuid,
		"no host":           "mimi:///u/" + uuid,
		"host without dot":  "mimi://localhost/u/" + uuid,
		"host case":         "mimi://A.example/u/" + uuid,
		"port":              "mimi://a.example:443/u/" + uuid,
		"trailing dot":      "mimi://a.example./u/" + uuid,
		"user information":  "mimi://x@a.example/u/" + uuid,
		"upper case":        "mimi://a.example/u/AAAAAAAA-bbbb-4ccc-8ddd-eeeeeeeeeeee",
		"version 1":         "mimi://a.example/u/11111111-2222-1333-8444-555555555555",
		"variant":           "mimi://a.example/u/11111111-2222-4333-7444-555555555555",
		"variant c":         "mimi://a.example/u/11111111-2222-4333-c444-555555555555",
		"no dashes":         "mimi://a.example/u/11111111222243338444555555555555",
		"moved dash":        "mimi://a.example/u/1111111-12222-4333-8444-555555555555",
		"braces":            "mimi://a.example/u/{" + uuid + "}",
		"trailing slash":    good + "/",
		"query":             good + "?",
		"trailing line end": good + "\n",
		"escape":            "mimi://a.example/u/%31" + uuid[1:],
		"long host":         "mimi://" + strings.Repeat("a.", 127) + "b/u/" + uuid,
	} {
		if id, err := pseudonym.ParseID(uri); err != mmrerr.PseudonymShape || id != (pseudonym.ID{}) { //nolint:errorlint // the code itself
			t.Errorf("%s: %v", name, err)
		}
	}
	seen := map[pseudonym.ID]bool{}
	for range 100 {
		id := newID(t, "a.example", pseudonym.User)
		if again, err := pseudonym.ParseID(id.String()); err != nil || again != id || seen[id] {
			t.Fatalf("fresh pseudonym: %v", err)
		}
		seen[id] = true
	}
	if _, err := pseudonym.NewID("localhost", pseudonym.User); err == nil {
		t.Error("pseudonym at localhost")
	}
	if _, err := pseudonym.NewID("a.example", 'r'); err == nil {
		t.Error("pseudonym of kind r")
	}
}

func TestHandles(t *testing.T) {
	h := handle(t, "a.example", pseudonym.User, "alice.b_c-1")
	if h.Domain() != "a.example" || h.Kind() != pseudonym.User || h.Local() != "alice.b_c-1" || h.String() != "mimi://a.example/u/alice.b_c-1" {
		t.Errorf("handle %v", h)
	}
	for name, uri := range map[string]string{
		"pseudonym":     "mimi://a.example/u/11111111-2222-4333-8444-555555555555",
		"empty":         "mimi://a.example/u/",
		"upper case":    "mimi://a.example/u/Alice",
		"dots":          "mimi://a.example/u/..",
		"leading dash":  "mimi://a.example/u/-a",
		"slash":         "mimi://a.example/u/a/b",
		"escape":        "mimi://a.example/u/a%20b",
		"room":          "mimi://a.example/r/alice",
		"long":          "mimi://a.example/u/" + strings.Repeat("a", 65),
		"fragment":      "mimi://a.example/u/alice#",
		"no scheme":     "a.example/u/alice",
		"not ASCII":     "mimi://a.example/u/älice",
		"single letter": "mimi://a.example/u",
	} {
		if h, err := pseudonym.ParseHandle(uri); err != mmrerr.Malformed || h != (pseudonym.Handle{}) { //nolint:errorlint // the code itself
			t.Errorf("%s: %v", name, err)
		}
	}
	// A UUID of another version is a name like any other.
	if _, err := pseudonym.ParseHandle("mimi://a.example/u/11111111-2222-1333-8444-555555555555"); err != nil {
		t.Errorf("UUID version 1: %v", err)
	}
}

func TestRoomURIs(t *testing.T) {
	gid := bytes.Repeat([]byte{0xfb}, 32)
	uri := pseudonym.RoomURI("h.example", gid)
	if uri != "mimi://h.example/r/-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s" {
		t.Error(uri)
	}
	hub, got, err := pseudonym.ParseRoomURI(uri)
	if err != nil || hub != "h.example" || !bytes.Equal(got, gid) {
		t.Errorf("%s %x %v", hub, got, err)
	}
	for name, bad := range map[string]string{
		"padding":     uri + "=",
		"line end":    uri[:30] + "\n" + uri[31:],
		"spare bits":  uri[:len(uri)-1] + "t",
		"short":       uri[:len(uri)-1],
		"host":        strings.Replace(uri, "h.example", "h", 1),
		"kind":        strings.Replace(uri, "/r/", "/u/", 1),
		"scheme":      uri[1:],
		"std base64":  strings.Replace(uri, "-", "+", 1),
		"31 bytes":    pseudonym.RoomURI("h.example", gid[1:]),
		"empty group": "mimi://h.example/r/",
	} {
		if hub, gid, err := pseudonym.ParseRoomURI(bad); err == nil || hub != "" || gid != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzIDMalleability(f *testing.F) {
	f.Add("mimi://a.example/d/11111111-2222-4333-8444-555555555555")
	f.Add("mimi://a.example/u/alice")
	f.Fuzz(func(t *testing.T, s string) {
		id, err1 := pseudonym.ParseID(s)
		h, err2 := pseudonym.ParseHandle(s)
		if err1 == nil && err2 == nil {
			t.Errorf("%q is pseudonym and handle", s)
		}
		if (err1 == nil) != (id.String() == s && s != "") || (err2 == nil) != (h.String() == s && s != "") {
			t.Errorf("%q parses to %q and %q", s, id, h)
		}
	})
}

func FuzzRoomURIMalleability(f *testing.F) {
	f.Add(pseudonym.RoomURI("h.example", make([]byte, 32)))
	f.Fuzz(func(t *testing.T, s string) {
		hub, gid, err := pseudonym.ParseRoomURI(s)
		if err == nil && pseudonym.RoomURI(hub, gid) != s {
			t.Errorf("%q parses to %q", s, pseudonym.RoomURI(hub, gid))
		}
	})
}
