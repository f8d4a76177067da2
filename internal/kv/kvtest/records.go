package kvtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/internal/kv"
)

// Records: what was written is read; what was deleted or overwritten is not.
func Records(t *testing.T, open Open) {
	s := open(t)
	k := key("g", "n")
	absent(t, s, k)
	v1 := set(t, s, k, "one", 0)
	if r := want(t, s, k, "one"); r.Version != v1 {
		t.Errorf("version %d, want %d", r.Version, v1)
	}
	if v2 := set(t, s, k, "two", 0); v2 == v1 {
		t.Error("two writes have one version")
	}
	want(t, s, k, "two")
	set(t, s, k, "", 0)
	want(t, s, k, "") // empty is a value
	if err := kv.Delete(t.Context(), s, k); err != nil {
		t.Fatal(err)
	}
	absent(t, s, k)
	if err := kv.Delete(t.Context(), s, k); err != nil {
		t.Errorf("deleting again: %v", err)
	}
	big := strings.Repeat("x", 3<<20)
	set(t, s, k, big, 0)
	want(t, s, k, big)

	value := []byte("mine")
	if _, err := s.Apply(t.Context(), []kv.Op{{Key: k, Value: value}}); err != nil {
		t.Fatal(err)
	}
	value[0] = 'X' // the store has its own copy
	r := want(t, s, k, "mine")
	r.Value[0] = 'X' // and so has the caller
	want(t, s, k, "mine")
}

// awkward are group and record names that a key syntax could stumble over.
var awkward = []string{
	"{", "}", "{}", "}{", "{a}", "a}", ":", "a:b", "*", "?", "[a]", "\\", "\x00", "\x00\x00", "\xff", "\xff\xff", "a\x00b", "\n", " ", "é",
	strings.Repeat("{", 128), strings.Repeat("\xff", 128),
}

// Binary: names are opaque bytes and never meet.
func Binary(t *testing.T, open Open) {
	s := open(t)
	for _, g := range awkward {
		for _, n := range awkward {
			set(t, s, key(g, n), g+"/"+n, 0)
		}
	}
	sorted := slices.Sorted(slices.Values(awkward))
	for _, g := range awkward {
		for _, n := range awkward {
			want(t, s, key(g, n), g+"/"+n)
		}
		equal(t, fmt.Sprintf("Scan of %q", g), names(t, s, g, ""), sorted)
		equal(t, fmt.Sprintf("Scan of %q with prefix {", g), len(names(t, s, g, "{")), 4)
		equal(t, fmt.Sprintf("Scan of %q with prefix FF", g), len(names(t, s, g, "\xff")), 3)
	}
	all := groups(t, s, "")
	for _, g := range awkward {
		if !all[g] {
			t.Errorf("Groups lacks %q", g)
		}
	}
	equal(t, "number of groups", len(all), len(awkward))
}

// CAS: a write with Check applies only to the version it names.
func CAS(t *testing.T, open Open) {
	s := open(t)
	k := key("g", "n")
	put := func(old kv.Version, value string) (kv.Version, error) {
		return kv.Put(t.Context(), s, k, old, []byte(value), 0)
	}
	conflict := func(old kv.Version) {
		t.Helper()
		if v, err := put(old, "no"); !errors.Is(err, kv.ErrConflict) {
			t.Fatalf("Put(%d) = %d, %v, want ErrConflict", old, v, err)
		}
	}
	conflict(1)
	v1, err := put(0, "one")
	if err != nil {
		t.Fatal(err)
	}
	conflict(0)
	conflict(v1 + 1)
	v2, err := put(v1, "two")
	if err != nil {
		t.Fatal(err)
	}
	conflict(v1)
	want(t, s, k, "two")
	if _, err := s.Apply(t.Context(), []kv.Op{{Key: k, Check: true, Old: v1}}); !errors.Is(err, kv.ErrConflict) {
		t.Fatalf("deleting an old version: %v, want ErrConflict", err)
	}
	vs, err := s.Apply(t.Context(), []kv.Op{{Key: k, Check: true, Old: v2}})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "versions of a deletion", vs, []kv.Version{0})
	conflict(v2)
	if _, err := s.Apply(t.Context(), []kv.Op{{Key: k, Check: true, Old: 0}}); err != nil {
		t.Errorf("deleting what must not exist and does not: %v", err)
	}
	v3, err := put(0, "three")
	if err != nil {
		t.Fatal(err)
	}
	if v3 == v1 || v3 == v2 {
		t.Error("a new record has the version of a deleted one")
	}
}

// Atomic: all ops of a transaction or none.
func Atomic(t *testing.T, open Open) {
	s := open(t)
	va := set(t, s, key("g", "a"), "a1", 0)
	set(t, s, key("g", "b"), "b1", 0)
	bad := []kv.Op{
		{Key: key("g", "a"), Value: []byte("a2"), Check: true, Old: va},
		{Key: key("g", "b")},
		{Key: key("g", "c"), Value: []byte("c2")},
		{Key: key("g", "d"), Value: []byte("d2"), Check: true, Old: va},
	}
	for i := range bad { // wherever the failing op is
		ops := slices.Concat(bad[i:], bad[:i])
		if _, err := s.Apply(t.Context(), ops); !errors.Is(err, kv.ErrConflict) {
			t.Fatalf("Apply: %v, want ErrConflict", err)
		}
		want(t, s, key("g", "a"), "a1")
		want(t, s, key("g", "b"), "b1")
		absent(t, s, key("g", "c"))
		absent(t, s, key("g", "d"))
	}
	bad[3].Old = 0
	vs, err := s.Apply(t.Context(), bad)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []string{"a", "", "c", "d"} {
		if n == "" {
			equal(t, "version of a deletion", vs[i], kv.Version(0))
			continue
		}
		if r := want(t, s, key("g", n), n+"2"); r.Version != vs[i] {
			t.Errorf("%s has version %d, Apply said %d", n, r.Version, vs[i])
		}
	}
	absent(t, s, key("g", "b"))
	if vs, err := s.Apply(t.Context(), nil); err != nil || len(vs) != 0 {
		t.Errorf("Apply of nothing = %v, %v", vs, err)
	}

	many := make([]kv.Op, kv.MaxOps)
	for i := range many {
		many[i] = kv.Op{Key: key("many", fmt.Sprintf("%04d", i)), Value: []byte{byte(i)}, Check: true}
	}
	if vs, err = s.Apply(t.Context(), many); err != nil || len(vs) != len(many) {
		t.Fatalf("a transaction of the largest size: %d versions, %v", len(vs), err)
	}
	if _, err := s.Apply(t.Context(), many); !errors.Is(err, kv.ErrConflict) {
		t.Fatalf("repeated: %v, want ErrConflict", err)
	}
	equal(t, "records", len(names(t, s, "many", "")), kv.MaxOps)
}

// GetMany: in the order asked for, missing ones included.
func GetMany(t *testing.T, open Open) {
	s := open(t)
	va := set(t, s, key("g", "a"), "1", 0)
	vb := set(t, s, key("g", "b"), "", 0)
	set(t, s, key("h", "c"), "3", 0)
	rs, err := s.GetMany(t.Context(), "g", []string{"b", "c", "a", "b"})
	if err != nil {
		t.Fatal(err)
	}
	b := kv.Record{Key: key("g", "b"), Value: []byte{}, Version: vb}
	equal(t, "GetMany", rs, []kv.Record{b, {Key: key("g", "c")}, {Key: key("g", "a"), Value: []byte("1"), Version: va}, b})
	if rs, err = s.GetMany(t.Context(), "g", nil); err != nil || len(rs) != 0 {
		t.Errorf("GetMany of nothing = %v, %v", rs, err)
	}
}

// Scan: records of one group, by prefix, in byte order; writing meanwhile and
// leaving early are allowed.
func Scan(t *testing.T, open Open) {
	s := open(t)
	equal(t, "Scan of nothing", names(t, s, "g", ""), []string{})
	for _, n := range []string{"b", "a", "ab", "aa", "a\xff", "a\xffz", "c", "B"} {
		set(t, s, key("g", n), n, 0)
	}
	set(t, s, key("g2", "a"), "", 0)
	set(t, s, key("f", "a"), "", 0)
	equal(t, "Scan", names(t, s, "g", ""), []string{"B", "a", "aa", "ab", "a\xff", "a\xffz", "b", "c"})
	equal(t, "Scan a", names(t, s, "g", "a"), []string{"a", "aa", "ab", "a\xff", "a\xffz"})
	equal(t, "Scan a\\xff", names(t, s, "g", "a\xff"), []string{"a\xff", "a\xffz"})
	equal(t, "Scan x", names(t, s, "g", "x"), []string{})

	for range 2 { // nothing stays behind when the caller leaves early
		for r, err := range s.Scan(t.Context(), "g", "") {
			if err != nil || r.Key.Name != "B" {
				t.Fatalf("first record %q, %v", r.Key.Name, err)
			}
			break
		}
	}
	for r, err := range s.Scan(t.Context(), "g", "a") { // deleting while scanning
		if err != nil {
			t.Fatal(err)
		}
		if err := kv.Delete(t.Context(), s, r.Key); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "what is left", names(t, s, "g", ""), []string{"B", "b", "c"})

	var many []string // more than any page
	for i := range 3000 {
		many = append(many, fmt.Sprintf("n%05d", i))
	}
	for c := range slices.Chunk(many, 1000) {
		ops := make([]kv.Op, len(c))
		for i, n := range c {
			ops[i] = kv.Op{Key: key("many", n), Value: []byte(n)}
		}
		if _, err := s.Apply(t.Context(), ops); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "many records", names(t, s, "many", ""), many)
	equal(t, "some of many records", names(t, s, "many", "n01"), many[1000:2000])
}

// Groups: every group that has a record.
func Groups(t *testing.T, open Open) {
	s := open(t)
	equal(t, "no groups", groups(t, s, ""), map[string]bool{})
	for _, g := range []string{"ab", "a", "abc", "abcd", "abcde", "b"} {
		set(t, s, key(g, "x"), "", 0)
		set(t, s, key(g, "y"), "", 0)
	}
	equal(t, "groups", groups(t, s, ""), map[string]bool{"ab": true, "a": true, "abc": true, "abcd": true, "abcde": true, "b": true})
	equal(t, "groups ab", groups(t, s, "ab"), map[string]bool{"ab": true, "abc": true, "abcd": true, "abcde": true})
	equal(t, "groups abcd", groups(t, s, "abcd"), map[string]bool{"abcd": true, "abcde": true})
	equal(t, "groups x", groups(t, s, "x"), map[string]bool{})
	for _, n := range []string{"x", "y"} {
		if err := kv.Delete(t.Context(), s, key("ab", n)); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "groups ab without ab", groups(t, s, "ab"), map[string]bool{"abc": true, "abcd": true, "abcde": true})
	for g, err := range s.Groups(t.Context(), "") {
		if err != nil || g == "" {
			t.Fatalf("group %q, %v", g, err)
		}
		break
	}
}
