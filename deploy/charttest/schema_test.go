package charttest

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Objects of the schema that say neither which keys they have nor that they are
// a map of strings would let typing errors through.
func TestSchemaIsClosed(t *testing.T) {
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["type"] == "object" && path != "/properties/global" { // Helm's own
				extra, ok := v["additionalProperties"]
				text, isMap := extra.(map[string]any)
				if !ok || extra != false && (!isMap || text["type"] != "string") {
					t.Errorf("%s is open", path)
				}
			}
			if _, ok := v["properties"]; ok && v["type"] != "object" && filepath.Base(path) != "if" && filepath.Base(path) != "then" {
				t.Errorf("%s has properties but no type", path)
			}
			for k, x := range v {
				walk(path+"/"+k, x)
			}
		case []any:
			for _, x := range v {
				walk(path, x)
			}
		}
	}
	walk("", schema(t))
}

// values.yaml has every key of the schema, with a default, and no other.
func TestSchemaMatchesValues(t *testing.T) {
	s := schema(t)
	data, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defaults := parseValues(t, string(data))
	definitions := s["definitions"].(map[string]any)
	var compare func(path string, s, v map[string]any)
	compare = func(path string, s, v map[string]any) {
		if ref, ok := s["$ref"].(string); ok {
			s = definitions[filepath.Base(ref)].(map[string]any)
		}
		properties, ok := s["properties"].(map[string]any)
		if !ok {
			return // a map of strings
		}
		if path == "" {
			properties = maps.Clone(properties)
			delete(properties, "global")
		}
		if path == "/hub/resources" || path == "/relay/resources" {
			return // what is not set has no default
		}
		if d := cmp.Diff(slices.Sorted(maps.Keys(properties)), slices.Sorted(maps.Keys(v))); d != "" {
			t.Errorf("keys of %s/ (-schema +values.yaml):\n%s", path, d)
		}
		for k, x := range v {
			if m, ok := x.(map[string]any); ok && properties[k] != nil {
				compare(path+"/"+k, properties[k].(map[string]any), m)
			}
		}
	}
	compare("", s, defaults)
}

func schema(t *testing.T) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}
