package redistest_test

import (
	"testing"

	"github.com/mmrelay/mmrelay/internal/redistest"
)

// TestAOFSurvivesKill asserts that a killed server with AOF has lost nothing,
// and one without has lost everything: the two kinds of crash tests need.
func TestAOFSurvivesKill(t *testing.T) {
	for name, aof := range map[string]bool{"with": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t, redistest.Options{AOF: aof})
			if err := s.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			s.Kill()
			s.Restart()
			n, err := s.Client().Exists(t.Context(), "k").Result()
			if err != nil || (n == 1) != aof {
				t.Errorf("Exists = %d, %v", n, err)
			}
		})
	}
}

func TestServersArePrivate(t *testing.T) {
	a, b := redistest.Start(t, redistest.Options{TCP: true}), redistest.Start(t, redistest.Options{TCP: true})
	if a.Socket() == b.Socket() || a.Addr() == b.Addr() {
		t.Fatal("two servers share an address")
	}
	if err := a.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Client().Exists(t.Context(), "k").Result(); n != 0 || err != nil {
		t.Errorf("Exists = %d, %v", n, err)
	}
}
