package charttest

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// programs builds hub, relay and mmr once and returns their directory.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "charttest")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-C", "../..", "-o", dir+"/", "./cmd/hub", "./cmd/relay", "./cmd/mmr")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := programs(); dir != "" {
		_ = os.RemoveAll(dir) // only litter is at stake
	}
	os.Exit(code)
}

func bin(tb testing.TB) string {
	tb.Helper()
	dir, err := programs()
	if err != nil {
		tb.Fatalf("building the programs: %v", err)
	}
	return dir
}

var flagInHelp = regexp.MustCompile(`--(\[no-\])?([a-z][a-z-]*)`)

// Every flag that a pod passes is one that its program has.
func TestFlagsExist(t *testing.T) {
	known := map[string]map[string]bool{}
	for name, args := range map[string][]string{"/hub": {"--help"}, "/relay": {"--help"}, "/mmr": {"ping", "--help"}} {
		out, err := exec.Command(filepath.Join(bin(t), name), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		known[name] = map[string]bool{}
		for _, m := range flagInHelp.FindAllStringSubmatch(string(out), -1) {
			known[name]["--"+m[2]] = true
			if m[1] != "" {
				known[name]["--no-"+m[2]] = true
			}
		}
		if len(known[name]) < 5 {
			t.Fatalf("%s --help names %d flags:\n%s", name, len(known[name]), out)
		}
	}
	for name, objs := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			for _, p := range objs.pods() {
				c := p.spec.Containers[0]
				for _, a := range c.Args {
					if f, _, _ := strings.Cut(a, "="); strings.HasPrefix(f, "-") && !known[c.Command[0]][f] {
						t.Errorf("%s passes %s, which %s does not have", p.owner, f, c.Command[0])
					}
				}
			}
		})
	}
}

// sandbox is a directory that stands for the file systems of one release's pods.
type sandbox struct {
	root    string
	objects map[string]map[string][]byte // content of Secrets and ConfigMaps
}

// mount lays out the mounts of a pod below a directory as the kubelet would and
// returns the pod's arguments with their paths there.
func (s *sandbox) mount(t *testing.T, p pod, dir string) []string {
	t.Helper()
	c := p.spec.Containers[0]
	mounts := slices.SortedFunc(slices.Values(c.VolumeMounts), func(a, b corev1.VolumeMount) int { return strings.Compare(a.MountPath, b.MountPath) })
	for _, m := range mounts {
		i := slices.IndexFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		v := p.spec.Volumes[i]
		at := filepath.Join(dir, m.MountPath)
		if v.PersistentVolumeClaim != nil {
			data := filepath.Join(s.root, "volumes", v.PersistentVolumeClaim.ClaimName, m.SubPath)
			for _, d := range []string{data, filepath.Dir(at)} {
				if err := os.MkdirAll(d, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(data, at); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		project := func(object string, items []corev1.KeyToPath) {
			data, ok := s.objects[object]
			if !ok {
				t.Fatalf("%s: no object %s", p.owner, object)
			}
			if len(items) == 0 {
				for k := range data {
					items = append(items, corev1.KeyToPath{Key: k, Path: k})
				}
			}
			for _, it := range items {
				if data[it.Key] == nil {
					t.Fatalf("%s: no key %s in %s", p.owner, it.Key, object)
				}
				write(t, filepath.Join(at, it.Path), string(data[it.Key]))
			}
		}
		switch {
		case v.Secret != nil:
			project(v.Secret.SecretName, v.Secret.Items)
		case v.ConfigMap != nil:
			project(v.ConfigMap.Name, v.ConfigMap.Items)
		case v.Projected != nil:
			for _, src := range v.Projected.Sources {
				project(src.Secret.Name, src.Secret.Items)
			}
		}
	}
	var args []string
	for _, a := range c.Args {
		a = strings.ReplaceAll(a, "/etc/mmrelay/", dir+"/etc/mmrelay/")
		args = append(args, strings.ReplaceAll(a, "/var/lib/mmrelay/", dir+"/var/lib/mmrelay/"))
	}
	return args
}

// secret reads files of a directory as `kubectl create secret --from-file` does.
func (s *sandbox) secret(t *testing.T, name, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.objects[name] = map[string][]byte{}
	for _, e := range entries {
		if e.IsDir() || e.Name() == "operator.key" {
			continue
		}
		if s.objects[name][e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// newSandbox makes keys with mmr as docs/kubernetes.md says, and their objects.
func newSandbox(t *testing.T) *sandbox {
	t.Helper()
	s := &sandbox{root: t.TempDir(), objects: map[string]map[string][]byte{}}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(filepath.Join(bin(t), "mmr"), args...)
		cmd.Dir = s.root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("mmr %v: %v\n%s", args, err, out)
		}
	}
	run("keygen", "hub", "--domain=hub.example", "--out=hub")
	run("keygen", "relay", "--domain=a.example", "--out=relay")
	run("keygen", "trust", "--out=trust", "hub", "relay")
	s.secret(t, "operators", filepath.Join(s.root, "trust"))
	s.secret(t, "hub-keys", filepath.Join(s.root, "hub"))
	s.secret(t, "hub-keys-gateway", filepath.Join(s.root, "hub", "gateway"))
	s.secret(t, "relay-keys", filepath.Join(s.root, "relay"))
	for _, kind := range []string{"gateway", "queue", "token"} {
		s.secret(t, "relay-keys-"+kind, filepath.Join(s.root, "relay", kind))
	}
	s.objects["relay-registration"] = map[string][]byte{"code": []byte("a code\n")}
	return s
}

// The real programs run with the command lines and files of a rendering: they
// become ready, their pods of `helm test` succeed, they write to nothing but
// the volume, and they stop in time. Only addresses differ.
func TestDaemonsRunAsRendered(t *testing.T) {
	const quick = `{preStopSeconds: 0, drainSeconds: 0, graceSeconds: 5}`
	for name, override := range map[string]string{
		"keys on volume":    `{hub: {shutdown: ` + quick + `}, relay: {shutdown: ` + quick + `}}`,
		"keys from secrets": `{hub: {shutdown: ` + quick + `, keys: {rotation: secret, gatewaySecret: hub-keys-gateway}}, relay: {shutdown: ` + quick + `, keys: {rotation: secret, gatewaySecret: relay-keys-gateway, queueSecret: relay-keys-queue, tokenSecret: relay-keys-token}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSandbox(t)
			objs := rendered(t, merged(t, override))
			for dname := range all[*appsv1.Deployment](objs) {
				// Twice, as after a restart of the pod: the volume is as it was left.
				for i := range 2 {
					s.daemon(t, objs, dname, i)
				}
			}
		})
	}
}

func (s *sandbox) daemon(t *testing.T, objs objects, name string, i int) {
	t.Helper()
	d := all[*appsv1.Deployment](objs)[name]
	dir := filepath.Join(s.root, fmt.Sprintf("%s-%d", name, i))
	p := pod{"Deployment " + name, d.Spec.Template.ObjectMeta, d.Spec.Template.Spec}
	args := s.mount(t, p, dir)
	before := s.tree(t, dir)
	addr, admin := filepath.Join(s.root, "addr"), filepath.Join(s.root, "admin")
	for _, f := range []string{addr, admin} {
		_ = os.Remove(f) // of the daemon before
	}
	for j, a := range args {
		if f, _, ok := strings.Cut(a, "=:"); ok {
			args[j] = f + "=127.0.0.1:0"
		}
	}
	args = append(args, "--addr-file="+addr, "--admin-file="+admin)

	var log strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin(t), p.spec.Containers[0].Command[0]), args...)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ended := false
	fail := func(format string, a ...any) {
		t.Helper()
		cancel()
		if !ended {
			<-done
		}
		t.Fatalf("%s: %s\nlog: %s", name, fmt.Sprintf(format, a...), log.String())
	}

	ready := false
	for deadline := time.Now().Add(20 * time.Second); !ready && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-done:
			ended = true
			fail("ended: %v", err)
		default:
		}
		if a, err := os.ReadFile(admin); err == nil {
			ready = get(t, string(a), "/readyz") == http.StatusOK
		}
	}
	if !ready {
		fail("not ready")
	}
	a, err := os.ReadFile(admin)
	if err != nil {
		fail("%v", err)
	}
	for _, path := range []string{"/livez", "/metrics"} {
		if code := get(t, string(a), path); code != http.StatusOK {
			fail("%s answers %d", path, code)
		}
	}

	ping := all[*corev1.Pod](objs)[name+"-ping"]
	pargs := s.mount(t, pod{"Pod " + ping.Name, ping.ObjectMeta, ping.Spec}, dir+"-ping")
	listen, err := os.ReadFile(addr)
	if err != nil {
		fail("%v", err)
	}
	for j, a := range pargs {
		if strings.HasPrefix(a, "--addr=") {
			pargs[j] = "--addr=" + string(listen)
		}
	}
	if out, err := exec.CommandContext(ctx, filepath.Join(bin(t), "mmr"), pargs...).CombinedOutput(); err != nil {
		fail("helm test: %v\n%s", err, out)
	}

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		fail("%v", err)
	}
	select {
	case err := <-done:
		ended = true
		if err != nil {
			fail("stopping: %v", err)
		}
	case <-time.After(time.Duration(*p.spec.TerminationGracePeriodSeconds) * time.Second):
		fail("still runs after its grace period")
	}
	if after := s.tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("%s wrote outside of its volume:\nbefore %v\nafter  %v", name, before, after)
	}
}

// tree lists the files of a pod that are not on its volume.
func (s *sandbox) tree(t *testing.T, dir string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // does not follow links
		if err != nil {
			return err
		}
		info, err := d.Info()
		paths = append(paths, fmt.Sprint(path, " ", info.Mode(), " ", info.Size()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func get(t *testing.T, addr, path string) int {
	t.Helper()
	res, err := http.Get("http://" + addr + path)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	if path == "/metrics" {
		found := false
		for s := bufio.NewScanner(res.Body); s.Scan(); {
			found = found || strings.HasPrefix(s.Text(), "mmr_build_info")
		}
		if !found {
			t.Error("no mmr_build_info in /metrics")
		}
	}
	return res.StatusCode
}
