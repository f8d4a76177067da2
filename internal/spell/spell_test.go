package spell_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/mmrelay/mmrelay/internal/spell"
)

func TestFindsEverySpelling(t *testing.T) {
	v := []byte("a secret value")
	n := spell.Of(v)
	for _, before := range []string{"", "x", "yz", "abc"} {
		whole := append([]byte(before), v...)
		whole = append(whole, "tail"...)
		for name, s := range map[string]string{
			"raw": string(whole), "hex": hex.EncodeToString(whole), "HEX": strings.ToUpper(hex.EncodeToString(whole)),
			"base64": base64.StdEncoding.EncodeToString(whole), "base64url": base64.URLEncoding.EncodeToString(whole),
		} {
			if !n.In([]byte("<" + s + ">")) {
				t.Errorf("%q in %s is not found", before, name)
			}
		}
	}
	if n.In([]byte("a secret valve")) {
		t.Error("another value is found")
	}
}
