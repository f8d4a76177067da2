package member_test

import (
	"bytes"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/mls"
	"github.com/mmrelay/mmrelay/pkg/mls/member"
	"github.com/mmrelay/mmrelay/pkg/mls/mlstest"
)

// TestDecryptExternal asserts that every member of an epoch opens what a
// stranger sealed to its external_pub, with its label and context only, and
// nobody does after the epoch.
func TestDecryptExternal(t *testing.T) {
	suites(t, func(t *testing.T, s mls.CipherSuite) {
		w := mlstest.NewWorld(t, s, 3)
		pub, err := w.Clients[0].Group.ExternalPub()
		if err != nil {
			t.Fatal(err)
		}
		enc, ct, err := mls.EncryptWithLabel(s, pub, "a label", []byte("context"), []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range w.Clients {
			got, err := c.Group.DecryptExternal("a label", []byte("context"), enc, ct)
			if err != nil || !bytes.Equal(got, []byte("secret")) {
				t.Errorf("%q, %v", got, err)
			}
			for name, try := range map[string]func() ([]byte, error){
				"label":   func() ([]byte, error) { return c.Group.DecryptExternal("another", []byte("context"), enc, ct) },
				"context": func() ([]byte, error) { return c.Group.DecryptExternal("a label", nil, enc, ct) },
				"nothing": func() ([]byte, error) { return c.Group.DecryptExternal("a label", []byte("context"), nil, nil) },
			} {
				if got, err := try(); err == nil || got != nil {
					t.Errorf("another %s opens it: %q, %v", name, got, err)
				}
			}
		}
		old := w.Clients[1].Group
		w.Commit(w.Clients[0], member.CommitOptions{})
		if got, err := w.Clients[1].Group.DecryptExternal("a label", []byte("context"), enc, ct); err == nil {
			t.Errorf("opened after the epoch: %q", got)
		}
		old.Retire(w.Clients[1].Group)
		if got, err := old.DecryptExternal("a label", []byte("context"), enc, ct); err == nil {
			t.Errorf("opened with the retired state: %q", got)
		}
	})
}
