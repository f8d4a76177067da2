package charttest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"
)

const (
	chartDir   = "../helm"
	release    = "rel"
	namespace  = "ns"
	kubernetes = "v1.30.0" // the oldest that Chart.yaml allows
)

// values reads one file of ../helm/ci.
func values(tb testing.TB, file string) map[string]any {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(chartDir, "ci", file))
	if err != nil {
		tb.Fatal(err)
	}
	return parseValues(tb, string(data))
}

func parseValues(tb testing.TB, text string) map[string]any {
	tb.Helper()
	v := make(map[string]any)
	if err := sigsyaml.UnmarshalStrict([]byte(text), &v); err != nil {
		tb.Fatal(err)
	}
	return v
}

// ciFiles are the supported configurations.
func ciFiles(tb testing.TB) []string {
	tb.Helper()
	paths, err := filepath.Glob(filepath.Join(chartDir, "ci", "*-values.yaml"))
	if err != nil {
		tb.Fatal(err)
	}
	if len(paths) < 5 {
		tb.Fatalf("found %d files of values", len(paths))
	}
	files := make([]string, len(paths))
	for i, p := range paths {
		files[i] = filepath.Base(p)
	}
	return files
}

// render checks values against the schema and renders all templates. An unknown
// value in a template is an error.
func render(tb testing.TB, vals map[string]any) (map[string]string, error) {
	tb.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		tb.Fatal(err)
	}
	version, err := common.ParseKubeVersion(kubernetes)
	if err != nil {
		tb.Fatal(err)
	}
	caps := common.DefaultCapabilities.Copy()
	caps.KubeVersion = *version
	v, err := util.ToRenderValues(c, vals, common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, caps)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.RenderWithContext(tb.Context(), c, v)
}

// merged lays values over those of the default configuration.
func merged(tb testing.TB, text string) map[string]any {
	tb.Helper()
	return util.MergeTables(parseValues(tb, text), values(tb, "default-values.yaml"))
}

// manifests is the rendered text of all objects, in the order of the files.
func manifests(files map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(name) == ".yaml" && strings.TrimSpace(files[name]) != "" {
			text := strings.TrimSpace(files[name])
			if !strings.HasPrefix(text, "---") {
				text = "---\n" + text
			}
			b.WriteString(text + "\n")
		}
	}
	return b.String()
}

// objects is one rendering, decoded.
type objects []runtime.Object

// decode decodes strictly: an unknown or repeated field is an error.
func decode(tb testing.TB, text string) objects {
	tb.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, monitoringv1.AddToScheme} {
		if err := add(scheme); err != nil {
			tb.Fatal(err)
		}
	}
	dec := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objs objects
	r := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return objs
		}
		if err != nil {
			tb.Fatal(err)
		}
		if onlyComments(doc) {
			continue
		}
		obj, _, err := dec.Decode(doc, nil, nil)
		if err != nil {
			tb.Fatalf("%v\n%s", err, doc)
		}
		objs = append(objs, obj)
	}
}

func onlyComments(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		if l := bytes.TrimSpace(line); len(l) > 0 && l[0] != '#' && !bytes.Equal(l, []byte("---")) {
			return false
		}
	}
	return true
}

// rendered renders and decodes values that must be fine.
func rendered(tb testing.TB, vals map[string]any) objects {
	tb.Helper()
	files, err := render(tb, vals)
	if err != nil {
		tb.Fatal(err)
	}
	return decode(tb, manifests(files))
}

// all returns the objects of one type, by name.
func all[T runtime.Object](objs objects) map[string]T {
	m := make(map[string]T)
	for _, o := range objs {
		if t, ok := o.(T); ok {
			m[o.(metav1.Object).GetName()] = t
		}
	}
	return m
}

// pod is one kind of pod that a rendering makes.
type pod struct {
	owner string
	meta  metav1.ObjectMeta
	spec  corev1.PodSpec
}

// pods are those of the deployments and of `helm test`.
func (objs objects) pods() []pod {
	var ps []pod
	for name, d := range all[*appsv1.Deployment](objs) {
		ps = append(ps, pod{"Deployment " + name, d.Spec.Template.ObjectMeta, d.Spec.Template.Spec})
	}
	for name, p := range all[*corev1.Pod](objs) {
		ps = append(ps, pod{"Pod " + name, p.ObjectMeta, p.Spec})
	}
	return ps
}

// configurations are the objects of every supported configuration, by its name.
func configurations(tb testing.TB) map[string]objects {
	tb.Helper()
	m := make(map[string]objects)
	for _, file := range ciFiles(tb) {
		m[strings.TrimSuffix(file, "-values.yaml")] = rendered(tb, values(tb, file))
	}
	return m
}
