package charttest

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// The judge is the code that admits pods to a namespace with the restricted level.
func TestPodsAreRestricted(t *testing.T) {
	eval, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for name, objs := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			for _, p := range objs.pods() {
				r := policy.AggregateCheckResults(eval.EvaluatePod(level, &p.meta, &p.spec))
				if !r.Allowed {
					t.Errorf("%s: %s", p.owner, r.ForbiddenDetail())
				}
			}
		})
	}
}

// What the restricted level does not ask for.
func TestPodsHaveNoToken(t *testing.T) {
	for name, objs := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			accounts := all[*corev1.ServiceAccount](objs)
			for _, p := range objs.pods() {
				if p.spec.AutomountServiceAccountToken == nil || *p.spec.AutomountServiceAccountToken {
					t.Errorf("%s mounts a token", p.owner)
				}
				if p.spec.EnableServiceLinks == nil || *p.spec.EnableServiceLinks {
					t.Errorf("%s has service links: HUB_PORT and RELAY_PORT look like flags", p.owner)
				}
				if strings.HasPrefix(p.owner, "Deployment") {
					a := accounts[p.spec.ServiceAccountName]
					if a == nil || a.AutomountServiceAccountToken == nil || *a.AutomountServiceAccountToken {
						t.Errorf("%s: no service account without token", p.owner)
					}
				}
				for _, c := range p.spec.Containers {
					if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
						t.Errorf("%s: the root file system can be written", p.owner)
					}
					if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
						t.Errorf("%s: requests or the limit of memory are missing", p.owner)
					}
				}
			}
		})
	}
}

// Secrets are files. No environment variable holds one, and no argument names
// one that is not mounted.
func TestSecretsAreFiles(t *testing.T) {
	for name, objs := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			for _, p := range objs.pods() {
				c := p.spec.Containers[0]
				if len(c.EnvFrom) != 0 {
					t.Errorf("%s takes its environment from an object", p.owner)
				}
				for _, e := range c.Env {
					if e.ValueFrom != nil {
						t.Errorf("%s: %s comes from an object", p.owner, e.Name)
					}
				}
				volumes := map[string]bool{}
				for _, v := range p.spec.Volumes {
					volumes[v.Name] = true
				}
				used := map[string]bool{}
				for _, m := range c.VolumeMounts {
					used[m.Name] = true
					if !volumes[m.Name] {
						t.Errorf("%s: no volume %s", p.owner, m.Name)
					}
					if m.Name != "data" && !m.ReadOnly {
						t.Errorf("%s: %s can be written", p.owner, m.Name)
					}
				}
				if !maps.Equal(volumes, used) {
					t.Errorf("%s: volumes %v, mounted %v", p.owner, volumes, used)
				}
				for _, a := range c.Args {
					file := a[strings.IndexByte(a, '=')+1:]
					file = strings.TrimPrefix(file, "pebble:")
					if path.IsAbs(file) && !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
						return file == m.MountPath || strings.HasPrefix(file, m.MountPath+"/")
					}) {
						t.Errorf("%s: %s is below no mount", p.owner, a)
					}
				}
				for _, v := range p.spec.Volumes {
					if mode := secretMode(v); mode != nil && *mode != 0o440 {
						t.Errorf("%s: files of %s have mode %o", p.owner, v.Name, *mode)
					}
					items, ok := files(v)
					if !ok {
						continue
					}
					if len(items) == 0 && !strings.HasSuffix(v.Name, "-keys") {
						t.Errorf("%s: %s takes everything that is in its object", p.owner, v.Name)
					}
					if slices.Contains(items, "operator.key") {
						t.Errorf("%s: the operator's root is in the pod", p.owner)
					}
				}
			}
		})
	}
}

// secretMode is the mode of a volume's files if they come from Secrets. The
// owner is root and the group is the pod's, so the daemon reads as group.
func secretMode(v corev1.Volume) *int32 {
	anybody := int32(0o644) // what Kubernetes does if nothing is said
	switch {
	case v.Secret != nil && v.Secret.DefaultMode != nil:
		return v.Secret.DefaultMode
	case v.Projected != nil && v.Projected.DefaultMode != nil:
		return v.Projected.DefaultMode
	case v.Secret != nil || v.Projected != nil:
		return &anybody
	}
	return nil
}

// files are the paths that a volume projects from Secrets and ConfigMaps.
func files(v corev1.Volume) (paths []string, ok bool) {
	var items []corev1.KeyToPath
	switch {
	case v.Secret != nil:
		items = v.Secret.Items
	case v.ConfigMap != nil:
		items = v.ConfigMap.Items
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			items = append(items, s.Secret.Items...)
		}
	default:
		return nil, false
	}
	for _, i := range items {
		paths = append(paths, i.Path)
	}
	return paths, true
}

func TestProbes(t *testing.T) {
	for name, objs := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			for name, d := range all[*appsv1.Deployment](objs) {
				c := d.Spec.Template.Spec.Containers[0]
				for _, want := range []struct {
					kind, path string
					probe      *corev1.Probe
				}{{"startup", "/livez", c.StartupProbe}, {"readiness", "/readyz", c.ReadinessProbe}, {"liveness", "/livez", c.LivenessProbe}} {
					if want.probe == nil || want.probe.HTTPGet == nil {
						t.Errorf("%s: no %s probe over HTTP", name, want.kind)
						continue
					}
					if g := want.probe.HTTPGet; g.Path != want.path || g.Port.String() != "admin" || g.Scheme == corev1.URISchemeHTTPS {
						t.Errorf("%s: %s probe %v", name, want.kind, g)
					}
				}
				if got := portOf(c, "admin"); !slices.Contains(c.Args, "--admin=:"+got) {
					t.Errorf("%s: port admin is %s, arguments %v", name, got, c.Args)
				}
				// /readyz answers within 5 s, the kubelet must wait longer.
				if c.ReadinessProbe.TimeoutSeconds <= 5 {
					t.Errorf("%s: readiness times out after %d s", name, c.ReadinessProbe.TimeoutSeconds)
				}
			}
		})
	}
}

// The kubelet must not kill what is still stopping in order.
func TestShutdownFits(t *testing.T) {
	for name, objs := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			for name, d := range all[*appsv1.Deployment](objs) {
				c := d.Spec.Template.Spec.Containers[0]
				var sum time.Duration
				for _, f := range []string{"--drain=", "--grace="} {
					i := slices.IndexFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, f) })
					if i < 0 {
						t.Fatalf("%s: no %s", name, f)
					}
					d, err := time.ParseDuration(strings.TrimPrefix(c.Args[i], f))
					if err != nil {
						t.Fatal(err)
					}
					sum += d
				}
				if c.Lifecycle != nil {
					sum += time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
				}
				if grace := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second; grace <= sum {
					t.Errorf("%s: grace period %v, needs more than %v", name, grace, sum)
				}
			}
		})
	}
}

// A volume has one writer: one replica, and the old pod goes before the new
// one comes. Without a volume no call is lost to a rollout.
func TestOneWriter(t *testing.T) {
	for name, objs := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			claims := all[*corev1.PersistentVolumeClaim](objs)
			hpas := all[*autoscalingv2.HorizontalPodAutoscaler](objs)
			pdbs := all[*policyv1.PodDisruptionBudget](objs)
			for name, d := range all[*appsv1.Deployment](objs) {
				var claim string
				for _, v := range d.Spec.Template.Spec.Volumes {
					if v.PersistentVolumeClaim != nil {
						claim = v.PersistentVolumeClaim.ClaimName
					}
				}
				hpa := hpas[name]
				if (hpa == nil) != (d.Spec.Replicas != nil) {
					t.Errorf("%s: replicas must be left to the autoscaler, and only to it", name)
				}
				several := hpa != nil || *d.Spec.Replicas > 1
				if several != (pdbs[name] != nil) {
					t.Errorf("%s: a disruption budget is for several replicas", name)
				}
				if hpa != nil && (hpa.Spec.ScaleTargetRef.Name != name || hpa.Spec.Behavior.ScaleDown == nil) {
					t.Errorf("%s: autoscaler %+v", name, hpa.Spec)
				}
				if claim == "" {
					if d.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 {
						t.Errorf("%s: strategy %+v", name, d.Spec.Strategy)
					}
					continue
				}
				if several || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
					t.Errorf("%s: several pods could write to one volume", name)
				}
				if claims[claim] == nil && claim != "relay-data" { // the one that exists already
					t.Errorf("%s: no claim %s", name, claim)
				}
			}
		})
	}
}

func TestImageByDigest(t *testing.T) {
	objs := rendered(t, values(t, "relay-alone-values.yaml"))
	want := "registry.internal.example/mmrelay@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, p := range objs.pods() {
		if got := p.spec.Containers[0].Image; got != want {
			t.Errorf("%s: image %s", p.owner, got)
		}
		if len(p.spec.ImagePullSecrets) != 1 || p.spec.ImagePullSecrets[0].Name != "registry" {
			t.Errorf("%s: pull secrets %v", p.owner, p.spec.ImagePullSecrets)
		}
	}
}

// The garbage collector is told of the memory limit, in time (docs/operations.md).
func TestMemoryLimitIsKnown(t *testing.T) {
	for limit, want := range map[string]string{"1Gi": "896MiB", "640Mi": "560MiB", "4Gi": "3584MiB", "1500M": "", "1.5Gi": ""} {
		objs := rendered(t, merged(t, `{relay: {resources: {limits: {memory: "`+limit+`"}}}}`))
		found := false
		for _, p := range objs.pods() {
			for _, c := range p.spec.Containers {
				if c.Name != "relay" {
					continue
				}
				found = true
				got := ""
				for _, e := range c.Env {
					if e.Name == "GOMEMLIMIT" {
						got = e.Value
					}
				}
				if got != want {
					t.Errorf("a limit of %s: GOMEMLIMIT %q, want %q", limit, got, want)
				}
			}
		}
		if !found {
			t.Error("there is no relay")
		}
	}
}
