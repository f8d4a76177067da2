package token_test

import (
	"errors"
	"testing"

	"github.com/mmrelay/mmrelay/pkg/token"
)

func TestCheckLog(t *testing.T) {
	k, err := token.GenerateIssuerKey()
	if err != nil {
		t.Fatal(err)
	}
	id := func(b byte) (id token.KeyID) { id[0] = b; return id }
	key := token.PublishedKey{Epoch: 12, Key: k.Public()}
	own := token.LogEntry{Epoch: 12, ID: k.Public().ID()}
	seen := []token.LogEntry{{Epoch: 10, ID: id(1)}, {Epoch: 11, ID: id(2)}}
	for name, c := range map[string]struct {
		log []token.LogEntry
		ok  bool
	}{
		"grown":                {append(seen[:2:2], own), true},
		"grown by more":        {append(seen[:2:2], own, token.LogEntry{Epoch: 13, ID: id(9)}), true},
		"without the key":      {seen, false},
		"nothing":              {nil, false},
		"shorter than seen":    {[]token.LogEntry{own}, false},
		"another earlier key":  {[]token.LogEntry{{Epoch: 10, ID: id(7)}, seen[1], own}, false},
		"two keys of an epoch": {append(seen[:2:2], own, token.LogEntry{Epoch: 12, ID: id(9)}), false},
		"out of order":         {append(seen[:2:2], own, token.LogEntry{Epoch: 9, ID: id(9)}), false},
		"another key":          {append(seen[:2:2], token.LogEntry{Epoch: 12, ID: id(9)}), false},
		"key of another epoch": {append(seen[:2:2], token.LogEntry{Epoch: 13, ID: own.ID}), false},
	} {
		if err := token.CheckLog(seen, c.log, key); (err == nil) != c.ok || !c.ok && !errors.Is(err, token.ErrInconsistent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := token.CheckLog(nil, []token.LogEntry{own}, key); err != nil {
		t.Errorf("first sight: %v", err)
	}
}
