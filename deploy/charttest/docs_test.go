package charttest

import (
	"os"
	"strings"
	"testing"
)

// The values that docs/kubernetes.md shows install something.
func TestDocumentedValues(t *testing.T) {
	data, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```yaml\n")[1:]
	if len(blocks) != 3 {
		t.Fatalf("found %d blocks of values", len(blocks))
	}
	for _, b := range blocks {
		text, _, _ := strings.Cut(b, "```")
		if objs := rendered(t, parseValues(t, text)); len(objs.pods()) == 0 {
			t.Errorf("no pods from\n%s", text)
		}
	}
}
