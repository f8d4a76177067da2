package charttest

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	appsv1 "k8s.io/api/apps/v1"
)

var update = flag.Bool("update", false, "write the golden files")

func TestLint(t *testing.T) {
	version, err := common.ParseKubeVersion(kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range ciFiles(t) {
		t.Run(file, func(t *testing.T) {
			for _, m := range lint.RunAll(chartDir, values(t, file), namespace, lint.WithKubeVersion(version)).Messages {
				if m.Severity > support.InfoSev {
					t.Error(m)
				}
			}
		})
	}
}

// Every configuration makes what it enables and nothing else.
func TestComponents(t *testing.T) {
	want := map[string][]string{
		"hub-alone":            {"rel-mmrelay-hub"},
		"embedded-secret-keys": {"rel-mmrelay-hub"},
		"relay-alone":          {"rel-mmrelay-relay"},
		"no-network-policy":    {"chat-hub", "chat-relay"},
	}
	for _, file := range ciFiles(t) {
		name := strings.TrimSuffix(file, "-values.yaml")
		names, ok := want[name]
		if !ok {
			names = []string{"rel-mmrelay-hub", "rel-mmrelay-relay"}
		}
		ds := all[*appsv1.Deployment](rendered(t, values(t, file)))
		if len(ds) != len(names) {
			t.Errorf("%s: %d deployments, want %d", name, len(ds), len(names))
		}
		for _, n := range names {
			if ds[n] == nil {
				t.Errorf("%s: no deployment %s", name, n)
			}
		}
	}
}

func TestGolden(t *testing.T) {
	files, err := render(t, values(t, "default-values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"default.yaml": manifests(files),
		"NOTES.txt":    strings.TrimSpace(files["mmrelay/templates/NOTES.txt"]) + "\n",
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s differs; if that is meant, go test -update (-want +got):\n%s", name, d)
		}
	}
}

// Names of objects that YAML would read as something else stay names.
func TestNamesAreText(t *testing.T) {
	objs := rendered(t, merged(t, `
image: {pullSecrets: ["1"]}
peerCA: {existingConfigMap: "2"}
hub: {keys: {existingSecret: "3", tlsSecret: "true"}, volume: {storageClass: "1e3"}, priorityClassName: "4", nodeSelector: {zone: "5"}}
relay: {keys: {existingSecret: "null"}, registration: {codeSecret: "6", codeKey: "7"}, volume: {existingClaim: "8"}, podAnnotations: {a: "true"}}`))
	spec := all[*appsv1.Deployment](objs)["rel-mmrelay-hub"].Spec.Template.Spec
	if got := spec.Volumes[0].Projected.Sources[0].Secret.Name; got != "true" {
		t.Errorf("certificate from %q", got)
	}
	if spec.PriorityClassName != "4" || spec.NodeSelector["zone"] != "5" || spec.ImagePullSecrets[0].Name != "1" {
		t.Errorf("hub: %+v", spec)
	}
}
