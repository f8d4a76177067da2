package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/primitive"
	"github.com/mmrelay/mmrelay/pkg/seal"
)

func TestRows(t *testing.T) {
	group := bytes.Repeat([]byte{0xc0}, 32)
	key := seal.NewEARKey(primitive.NewSecret(), group)
	other := seal.NewEARKey(primitive.NewSecret(), group)
	moved := seal.NewEARKey(key.Secret(), []byte("other group"))
	for n, want := range map[int]int{0: 512, 510: 512, 511: 1024, 1022: 1024, 1023: 2048, 3 << 20: 4 << 20} {
		row := bytes.Repeat([]byte{0xaa}, n)
		sealed, err := key.SealRow("head", 3, row)
		if err != nil || len(sealed) != want+28 {
			t.Fatalf("row of %d bytes: %d, %v", n, len(sealed), err)
		}
		if got, err := key.OpenRow("head", 3, sealed); err != nil || !bytes.Equal(got, row) {
			t.Errorf("row of %d bytes: %v", n, err)
		}
		for name, f := range map[string]func() ([]byte, error){
			"version": func() ([]byte, error) { return key.OpenRow("head", 2, sealed) },
			"name":    func() ([]byte, error) { return key.OpenRow("roster", 3, sealed) },
			"key":     func() ([]byte, error) { return other.OpenRow("head", 3, sealed) },
			"group":   func() ([]byte, error) { return moved.OpenRow("head", 3, sealed) },
			"bytes":   func() ([]byte, error) { return key.OpenRow("head", 3, sealed[:len(sealed)-1]) },
			"nothing": func() ([]byte, error) { return key.OpenRow("head", 3, nil) },
		} {
			if got, err := f(); !errors.Is(err, primitive.ErrOpen) || got != nil {
				t.Errorf("other %s: %v", name, err)
			}
		}
	}
	if key.ID() == other.ID() || key.ID() == moved.ID() || key.RowID("a") == key.RowID("b") || key.RowID("a") == other.RowID("a") {
		t.Error("ids collide")
	}
}

func TestLinkBox(t *testing.T) {
	group := bytes.Repeat([]byte{0xc0}, 32)
	key := seal.NewEARKey(primitive.NewSecret(), group)
	link := primitive.DeriveX25519Key(primitive.NewSecret())
	box, err := key.SealLink(link.Public())
	if err != nil {
		t.Fatal(err)
	}
	got, err := seal.OpenLink(link, group, box)
	if err != nil || !got.Secret().Equal(key.Secret()) || got.ID() != key.ID() {
		t.Errorf("link box: %v", err)
	}
	for name, f := range map[string]func() (seal.EARKey, error){
		"group": func() (seal.EARKey, error) { return seal.OpenLink(link, group[1:], box) },
		"link":  func() (seal.EARKey, error) { return seal.OpenLink(kemKey(t, primitive.X25519), group, box) },
		"cut":   func() (seal.EARKey, error) { return seal.OpenLink(link, group, box[1:]) },
		"empty": func() (seal.EARKey, error) { return seal.OpenLink(link, group, nil) },
		"short secret": func() (seal.EARKey, error) {
			c, _ := link.Public().SealWithLabel("mmr ear link", group, make([]byte, 31))
			return seal.OpenLink(link, group, c.Append(nil))
		},
	} {
		if k, err := f(); !errors.Is(err, primitive.ErrOpen) || k.Secret().Present() {
			t.Errorf("other %s: %v", name, err)
		}
	}
}
