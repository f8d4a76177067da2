package pseudonym_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mmrelay/mmrelay/pkg/mmrerr"
	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

func TestStaticWrap(t *testing.T) {
	wrapper, linkKey := primitive.NewSecret(), primitive.NewSecret()
	gid, hash := make([]byte, 32), [32]byte{1}
	entry := pseudonym.WrapStatic(wrapper, gid, hash, linkKey)
	if got, err := pseudonym.UnwrapStatic(wrapper, gid, hash, entry); err != nil || !got.Equal(linkKey) || len(entry) != pseudonym.EntrySize {
		t.Errorf("round trip: %v", err)
	}
	if bytes.Equal(entry, pseudonym.WrapStatic(wrapper, gid, hash, linkKey)) {
		t.Error("nonce repeats")
	}
	bad := bytes.Clone(entry)
	bad[30] ^= 1
	for name, f := range map[string]func() (primitive.Secret, error){
		"wrapper":    func() (primitive.Secret, error) { return pseudonym.UnwrapStatic(linkKey, gid, hash, entry) },
		"group":      func() (primitive.Secret, error) { return pseudonym.UnwrapStatic(wrapper, gid[1:], hash, entry) },
		"credential": func() (primitive.Secret, error) { return pseudonym.UnwrapStatic(wrapper, gid, [32]byte{2}, entry) },
		"bytes":      func() (primitive.Secret, error) { return pseudonym.UnwrapStatic(wrapper, gid, hash, bad) },
		"length":     func() (primitive.Secret, error) { return pseudonym.UnwrapStatic(wrapper, gid, hash, entry[1:]) },
		"nothing":    func() (primitive.Secret, error) { return pseudonym.UnwrapStatic(wrapper, gid, hash, nil) },
	} {
		s, err := f()
		is(t, "other "+name, err, primitive.ErrOpen)
		if s.Present() {
			t.Errorf("%s: result with an error", name)
		}
	}
	b := pseudonym.AppendWrapperKey(nil, wrapper)
	if got, err := pseudonym.ParseWrapperKey(b); err != nil || !got.Equal(wrapper) {
		t.Errorf("wrapper key: %v", err)
	}
	for _, bad := range [][]byte{nil, {0}, b[:32], append(bytes.Clone(b), 0)} {
		s, err := pseudonym.ParseWrapperKey(bad)
		is(t, "wrapper key", err, mmrerr.Malformed)
		if s.Present() {
			t.Error("result with an error")
		}
	}
}

func TestAddAAD(t *testing.T) {
	entry := make([]byte, pseudonym.EntrySize)
	a := pseudonym.AddAAD{entry, nil, entry}
	b, _ := a.AppendBinary(nil)
	if got, err := pseudonym.ParseAddAAD(b); err != nil || !cmp.Equal(got, a) {
		t.Errorf("round trip: %v", err)
	}
	const req, opt, no = pseudonym.KeyRequired, pseudonym.KeyOptional, pseudonym.KeyForbidden
	for name, c := range map[string]struct {
		a     pseudonym.AddAAD
		rules []pseudonym.KeyRule
		want  error
	}{
		"none":             {nil, nil, nil},
		"required":         {pseudonym.AddAAD{entry}, []pseudonym.KeyRule{req}, nil},
		"optional given":   {pseudonym.AddAAD{entry}, []pseudonym.KeyRule{opt}, nil},
		"optional absent":  {pseudonym.AddAAD{nil}, []pseudonym.KeyRule{opt}, nil},
		"forbidden absent": {pseudonym.AddAAD{nil}, []pseudonym.KeyRule{no}, nil},
		"too few":          {pseudonym.AddAAD{entry}, []pseudonym.KeyRule{req, req}, mmrerr.LinkKeysCount},
		"too many":         {pseudonym.AddAAD{entry}, nil, mmrerr.LinkKeysCount},
		"missing":          {pseudonym.AddAAD{entry, nil}, []pseudonym.KeyRule{req, req}, mmrerr.LinkKeyMissing},
		"forbidden":        {pseudonym.AddAAD{entry}, []pseudonym.KeyRule{no}, mmrerr.LinkKeyForbidden},
		"short":            {pseudonym.AddAAD{entry[1:]}, []pseudonym.KeyRule{req}, mmrerr.LinkKeyLength},
		"empty":            {pseudonym.AddAAD{{}}, []pseudonym.KeyRule{opt}, mmrerr.LinkKeyLength},
	} {
		is(t, name, pseudonym.CheckAddAAD(c.a, c.rules), c.want)
	}
}

func TestAAD(t *testing.T) {
	a := pseudonym.AAD{{Type: pseudonym.AADAddAAD, Data: []byte{1}}, {Type: pseudonym.AADFrank, Data: make([]byte, 32)}}
	b, err := a.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pseudonym.ParseAAD(b)
	if err != nil || !cmp.Equal(got, a) {
		t.Errorf("round trip: %v", err)
	}
	if d, ok := got.Get(pseudonym.AADFrank); !ok || len(d) != 32 {
		t.Error("Get")
	}
	if d, ok := got.Get(pseudonym.AADJoinerLink); ok || d != nil {
		t.Error("Get of an absent item")
	}
	if b, err := (pseudonym.AAD{}).AppendBinary(nil); err != nil || !bytes.Equal(b, []byte{0}) {
		t.Errorf("empty list is %x", b)
	}
	item := func(t uint16) []byte { return []byte{byte(t >> 8), byte(t), 0} }
	list := func(parts ...[]byte) []byte {
		c := bytes.Join(parts, nil)
		return append([]byte{byte(len(c))}, c...)
	}
	for name, bad := range map[string][]byte{
		"nothing":       nil,
		"unknown":       list(item(0x8A02)),
		"duplicate":     list(item(0x8A01), item(0x8A01)),
		"descending":    list(item(0x8A0A), item(0x8A01)),
		"cut":           list(item(0x8A01))[:3],
		"trailing byte": append(list(item(0x8A01)), 0),
		"long":          append([]byte{0x80, 1, 0, 5, 0x8a, 0x01, 0x80, 0, 0xff, 0xff}, make([]byte, 65535)...),
	} {
		a, err := pseudonym.ParseAAD(bad)
		is(t, name, err, mmrerr.AAD)
		if a != nil {
			t.Errorf("%s: result with an error", name)
		}
	}
	for name, bad := range map[string]pseudonym.AAD{"unknown": {{Type: 1}}, "order": {a[1], a[0]}, "duplicate": {a[0], a[0]}} {
		b, err := bad.AppendBinary([]byte("head"))
		is(t, name, err, mmrerr.AAD)
		if string(b) != "head" {
			t.Errorf("%s: appended", name)
		}
	}
}

// TestAADTable is the table of SPEC.md §4.4: for each context, the sets of
// items that pass.
func TestAADTable(t *testing.T) {
	const (
		add, resp, joiner, proof, frank = pseudonym.AADAddAAD, pseudonym.AADConnectionResponse, pseudonym.AADJoinerLink, pseudonym.AADSiblingProof, pseudonym.AADFrank
	)
	room := func(s pseudonym.WrapScheme, j pseudonym.JoinRule) *pseudonym.Room {
		return &pseudonym.Room{Requirement: pseudonym.RequireAll, Scheme: s, JoinRule: j}
	}
	static, tree := room(pseudonym.SchemeStatic, pseudonym.JoinByLink), room(pseudonym.SchemeTree, pseudonym.JoinByLink)
	connection := room(pseudonym.SchemeTree, pseudonym.JoinByConnection)
	all := []uint16{add, resp, joiner, proof, frank}
	external := pseudonym.AADContext{Carrier: pseudonym.ExternalCommit, Key: pseudonym.KeyRequired}
	with := func(change func(c *pseudonym.AADContext)) pseudonym.AADContext {
		c := external
		change(&c)
		return c
	}
	for name, tc := range map[string]struct {
		room *pseudonym.Room
		ctx  pseudonym.AADContext
		pass [][]uint16
	}{
		"static commit":            {static, pseudonym.AADContext{Carrier: pseudonym.MemberCommit}, [][]uint16{{}}},
		"static commit, Adds":      {static, pseudonym.AADContext{Carrier: pseudonym.MemberCommit, LinkKeys: true}, [][]uint16{{add}}},
		"tree commit, Adds":        {tree, pseudonym.AADContext{Carrier: pseudonym.MemberCommit, LinkKeys: true}, [][]uint16{{}}},
		"proposal":                 {static, pseudonym.AADContext{Carrier: pseudonym.Proposal, LinkKeys: true}, [][]uint16{{}}},
		"message":                  {tree, pseudonym.AADContext{Carrier: pseudonym.Application}, [][]uint16{{}, {frank}}},
		"static join":              {static, external, [][]uint16{{add}}},
		"static sibling":           {static, with(func(c *pseudonym.AADContext) { c.KnownUser = true }), [][]uint16{{add, proof}}},
		"static resync":            {static, with(func(c *pseudonym.AADContext) { c.KnownUser, c.Resync = true, true }), [][]uint16{{add}}},
		"link join with delta":     {tree, with(func(c *pseudonym.AADContext) { c.OwnLeafInDelta = true }), [][]uint16{{}}},
		"link join without delta":  {tree, external, [][]uint16{{joiner}}},
		"optional key":             {tree, with(func(c *pseudonym.AADContext) { c.Key = pseudonym.KeyOptional }), [][]uint16{{}, {joiner}}},
		"forbidden key":            {tree, with(func(c *pseudonym.AADContext) { c.Key = pseudonym.KeyForbidden }), [][]uint16{{}}},
		"new device":               {tree, with(func(c *pseudonym.AADContext) { c.KnownUser = true }), [][]uint16{{joiner, proof}}},
		"resync":                   {tree, with(func(c *pseudonym.AADContext) { c.KnownUser, c.Resync = true, true }), [][]uint16{{joiner}}},
		"second user":              {connection, with(func(c *pseudonym.AADContext) { c.OwnLeafInDelta = true }), [][]uint16{{resp}}},
		"connection room, sibling": {connection, with(func(c *pseudonym.AADContext) { c.KnownUser = true }), [][]uint16{{joiner, proof}}},
		"connection room, resync":  {connection, with(func(c *pseudonym.AADContext) { c.KnownUser, c.Resync = true, true }), [][]uint16{{joiner}}},
	} {
		for set := range 1 << len(all) {
			items := []uint16{}
			var a pseudonym.AAD
			for i, typ := range all {
				if set>>i&1 == 1 {
					items = append(items, typ)
					a = append(a, pseudonym.AADItem{Type: typ})
				}
			}
			want := error(mmrerr.AAD)
			for _, p := range tc.pass {
				if cmp.Equal(p, items) {
					want = nil
				}
			}
			if err := a.Check(tc.room, tc.ctx); !cmp.Equal(err, want, cmp.Comparer(func(x, y error) bool { return x == y })) { //nolint:errorlint // the code itself
				t.Errorf("%s with %x: %v, want %v", name, items, err, want)
			}
		}
	}
}

func TestUniformity(t *testing.T) {
	good := pseudonym.UniformLeaf(1)
	is(t, "good", pseudonym.CheckLeafShape(good, 1), nil)
	is(t, "other suite", pseudonym.CheckLeafShape(good, 2), mmrerr.Uniformity)
	for name, change := range map[string]func(s *pseudonym.LeafShape){
		"version":         func(s *pseudonym.LeafShape) { s.Versions = []uint16{1, 2} },
		"suites":          func(s *pseudonym.LeafShape) { s.CipherSuites = []uint16{1, 2} },
		"GREASE":          func(s *pseudonym.LeafShape) { s.Extensions = append([]uint16{0x0A0A}, s.Extensions...) },
		"order":           func(s *pseudonym.LeafShape) { s.Extensions[0], s.Extensions[1] = s.Extensions[1], s.Extensions[0] },
		"proposals":       func(s *pseudonym.LeafShape) { s.Proposals = []uint16{8} },
		"credentials":     func(s *pseudonym.LeafShape) { s.Credentials = s.Credentials[1:] },
		"leaf extensions": func(s *pseudonym.LeafShape) { s.LeafExtensions = nil },
	} {
		s := pseudonym.UniformLeaf(1)
		change(&s)
		is(t, name, pseudonym.CheckLeafShape(s, 1), mmrerr.Uniformity)
	}
	nb, na := pseudonym.Lifetime(now)
	if nb%86400 != 0 || uint64(now.Unix())-nb != 12*3600 || na-nb != 2_592_000 {
		t.Errorf("lifetime %d..%d", nb, na)
	}
	for name, c := range map[string]struct {
		nb, na uint64
		ext    []uint16
		last   bool
		want   error
	}{
		"one-time":    {nb, na, nil, false, nil},
		"last resort": {nb, na, []uint16{pseudonym.ExtensionLastResort}, true, nil},
		"noon":        {nb + 43200, na + 43200, nil, false, mmrerr.Uniformity},
		"longer":      {nb, na + 1, nil, false, mmrerr.Uniformity},
		"backwards":   {nb, nb - 86400, nil, false, mmrerr.Uniformity},
		"extension":   {nb, na, []uint16{7}, false, mmrerr.Uniformity},
		"twice":       {nb, na, []uint16{pseudonym.ExtensionLastResort, pseudonym.ExtensionLastResort}, false, mmrerr.Uniformity},
	} {
		last, err := pseudonym.CheckPackageShape(c.nb, c.na, c.ext)
		is(t, name, err, c.want)
		if last != c.last {
			t.Errorf("%s: last resort %v", name, last)
		}
	}
	if got := pseudonym.RequiredExtensions(); !cmp.Equal(got, []uint16{0xF0A4, 0xF0A5}) {
		t.Errorf("required extensions %x", got)
	}
}

func FuzzAADMalleability(f *testing.F) {
	b, _ := pseudonym.AAD{{Type: pseudonym.AADAddAAD, Data: []byte{1}}, {Type: pseudonym.AADFrank, Data: make([]byte, 32)}}.AppendBinary(nil)
	f.Add(b)
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := pseudonym.ParseAAD(b)
		if err != nil {
			if a != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, err := a.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x, %v", b, again, err)
		}
	})
}

func FuzzAddAADMalleability(f *testing.F) {
	b, _ := pseudonym.AddAAD{make([]byte, 60), nil}.AppendBinary(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := pseudonym.ParseAddAAD(b)
		if err != nil {
			if a != nil {
				t.Error("result with an error")
			}
			return
		}
		if again, _ := a.AppendBinary(nil); !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes to %x", b, again)
		}
	})
}
