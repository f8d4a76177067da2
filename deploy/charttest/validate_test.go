package charttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// kubectl-validate knows what an API server of 1.30 checks on top of types:
// enumerations, required fields, formats, what only later versions know. It has
// no schema of ServiceMonitor, whose types the other tests decode strictly.
func TestKubectlValidate(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "kubectl-validate")
	build := exec.Command("go", "build", "-C", "kubectl-validate", "-o", bin, "sigs.k8s.io/kubectl-validate")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building kubectl-validate: %v\n%s", err, out)
	}
	validate := func(dir string) (string, error) {
		cmd := exec.Command(bin, "--version", "1.30", dir)
		cmd.Env = append(os.Environ(), "KUBECONFIG=/dev/null") // never a cluster
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	good := t.TempDir()
	for _, file := range ciFiles(t) {
		files, err := render(t, values(t, file))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(good, file), builtin(manifests(files)))
	}
	if out, err := validate(good); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	// The check itself must bite.
	bad := t.TempDir()
	files, err := render(t, values(t, "default-values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(bad, "bad.yaml"), strings.Replace(manifests(files), "terminationGracePeriodSeconds", "terminationGraceSeconds", 1))
	if out, err := validate(bad); err == nil || !strings.Contains(out, "terminationGraceSeconds") {
		t.Errorf("an unknown field passes: %v\n%s", err, out)
	}
}

// builtin leaves out what is no kind of Kubernetes itself.
func builtin(text string) string {
	var docs []string
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if !strings.Contains(doc, "apiVersion: monitoring.coreos.com/") && !onlyComments([]byte(doc)) {
			docs = append(docs, doc)
		}
	}
	return strings.Join(docs, "\n---\n")
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}
