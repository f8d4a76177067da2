package relay_test

import (
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/internal/relay"
)

// TestAside: what runs aside fails and panics as if it had not.
func TestAside(t *testing.T) {
	want := errors.New("it")
	if err := relay.Aside(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("the error is %v", err)
	}
	defer func() {
		if p := recover(); p != "panic" {
			t.Errorf("the panic is %v", p)
		}
	}()
	_ = relay.Aside(func() error { panic("panic") })
	t.Error("the panic is lost")
}
