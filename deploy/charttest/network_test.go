package charttest

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// portOf is the number of a container's named port.
func portOf(c corev1.Container, name string) string {
	for _, p := range c.Ports {
		if p.Name == name {
			return strconv.Itoa(int(p.ContainerPort))
		}
	}
	return ""
}

func hasPort(p pod, port string) bool {
	return slices.ContainsFunc(p.spec.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(cp corev1.ContainerPort) bool { return strconv.Itoa(int(cp.ContainerPort)) == port })
	})
}

// selected are the pods that a selector matches.
func selected(t *testing.T, objs objects, sel *metav1.LabelSelector) []pod {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(objs.pods(), func(p pod) bool { return !s.Matches(labels.Set(p.meta.Labels)) })
}

func TestSelectors(t *testing.T) {
	for name, objs := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			ds := all[*appsv1.Deployment](objs)
			for name, d := range ds {
				if ps := selected(t, objs, d.Spec.Selector); len(ps) != 1 || ps[0].owner != "Deployment "+name {
					t.Errorf("%s selects %d kinds of pods", name, len(ps))
				}
			}
			for name, s := range all[*corev1.Service](objs) {
				ps := selected(t, objs, metav1.SetAsLabelSelector(s.Spec.Selector))
				if len(ps) != 1 || !strings.HasPrefix(ps[0].owner, "Deployment ") {
					t.Fatalf("Service %s selects %d kinds of pods", name, len(ps))
				}
				for _, p := range s.Spec.Ports {
					if portOf(ps[0].spec.Containers[0], p.TargetPort.String()) == "" {
						t.Errorf("Service %s: no port %s in %s", name, p.TargetPort.String(), ps[0].owner)
					}
					if (p.TargetPort.String() == "admin") != strings.HasSuffix(name, "-metrics") {
						t.Errorf("Service %s offers port %s", name, p.TargetPort.String())
					}
				}
				if strings.HasSuffix(name, "-metrics") && s.Spec.ClusterIP != corev1.ClusterIPNone {
					t.Errorf("Service %s is not headless", name)
				}
			}
			for name, b := range all[*policyv1.PodDisruptionBudget](objs) {
				if ps := selected(t, objs, b.Spec.Selector); len(ps) != 1 {
					t.Errorf("PodDisruptionBudget %s selects %d kinds of pods", name, len(ps))
				}
			}
		})
	}
}

func TestServiceMonitors(t *testing.T) {
	found := 0
	for name, objs := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			for name, m := range all[*monitoringv1.ServiceMonitor](objs) {
				found++
				sel, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
				if err != nil {
					t.Fatal(err)
				}
				var hits []*corev1.Service
				for _, s := range all[*corev1.Service](objs) {
					if sel.Matches(labels.Set(s.Labels)) {
						hits = append(hits, s)
					}
				}
				if len(hits) != 1 || hits[0].Name != name+"-metrics" {
					t.Fatalf("%s selects %d services", name, len(hits))
				}
				for _, e := range m.Spec.Endpoints {
					if !slices.ContainsFunc(hits[0].Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port }) {
						t.Errorf("%s: Service %s has no port %q", name, hits[0].Name, e.Port)
					}
				}
			}
		})
	}
	if found == 0 {
		t.Error("no configuration has a ServiceMonitor")
	}
}

// Every pod is cut off but for what policies allow, and these name ports that exist.
func TestNetworkPolicies(t *testing.T) {
	for config, objs := range configurations(t) {
		if config == "no-network-policy" {
			if n := len(all[*networkingv1.NetworkPolicy](objs)); n != 0 {
				t.Errorf("%d policies though they are off", n)
			}
			continue
		}
		t.Run(config, func(t *testing.T) {
			policies := all[*networkingv1.NetworkPolicy](objs)
			denied := map[string]bool{}
			for name, np := range policies {
				if len(np.Spec.PolicyTypes) != 2 {
					t.Errorf("%s is for %v only", name, np.Spec.PolicyTypes)
				}
				subjects := selected(t, objs, &np.Spec.PodSelector)
				if len(subjects) == 0 {
					t.Errorf("%s selects no pod", name)
				}
				if len(np.Spec.Ingress)+len(np.Spec.Egress) == 0 {
					for _, p := range subjects {
						denied[p.owner] = true
					}
				}
				for _, r := range np.Spec.Ingress {
					checkPorts(t, name, subjects, r.Ports)
				}
				for _, r := range np.Spec.Egress {
					if len(r.Ports) == 0 {
						t.Errorf("%s allows all ports out", name)
					}
					for _, to := range r.To {
						if to.PodSelector != nil && to.NamespaceSelector == nil && to.PodSelector.MatchLabels["app.kubernetes.io/instance"] == release {
							checkPorts(t, name, selected(t, objs, to.PodSelector), r.Ports)
						}
					}
				}
			}
			for _, p := range objs.pods() {
				if !denied[p.owner] {
					t.Errorf("%s is under no policy that denies everything", p.owner)
				}
			}
		})
	}
}

func checkPorts(t *testing.T, name string, ps []pod, ports []networkingv1.NetworkPolicyPort) {
	t.Helper()
	if len(ports) == 0 {
		t.Errorf("%s allows all ports", name)
	}
	if len(ps) == 0 {
		t.Errorf("%s names pods that do not exist", name)
	}
	for _, port := range ports {
		for _, p := range ps {
			if !hasPort(p, port.Port.String()) {
				t.Errorf("%s: %s has no port %s", name, p.owner, port.Port.String())
			}
		}
	}
}

// traffic is one connection that a configuration needs.
type traffic struct {
	from, to pod    // a pod without owner is outside the release
	port     string // of the pod, or of the address outside
}

// allowed reports whether policies let it through. An end outside the release is
// any address, unless a rule is for given addresses.
func (objs objects) allowed(t *testing.T, tr traffic) bool {
	t.Helper()
	covers := func(ports []networkingv1.NetworkPolicyPort, others []networkingv1.NetworkPolicyPeer, other pod) bool {
		if !slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
			return p.Port.String() == tr.port && *p.Protocol == corev1.ProtocolTCP
		}) {
			return false
		}
		if len(others) == 0 {
			return true
		}
		return slices.ContainsFunc(others, func(o networkingv1.NetworkPolicyPeer) bool {
			if other.owner == "" {
				return o.IPBlock != nil || o.NamespaceSelector != nil || o.PodSelector.MatchLabels["app.kubernetes.io/instance"] != release
			}
			if o.PodSelector == nil || o.NamespaceSelector != nil {
				return false
			}
			return slices.ContainsFunc(selected(t, objs, o.PodSelector), func(p pod) bool { return p.owner == other.owner })
		})
	}
	in, out := tr.to.owner == "", tr.from.owner == ""
	for _, np := range all[*networkingv1.NetworkPolicy](objs) {
		for _, p := range selected(t, objs, &np.Spec.PodSelector) {
			for _, r := range np.Spec.Ingress {
				in = in || p.owner == tr.to.owner && covers(r.Ports, r.From, tr.from)
			}
			for _, r := range np.Spec.Egress {
				out = out || p.owner == tr.from.owner && covers(r.Ports, r.To, tr.to)
			}
		}
	}
	return in && out
}

// What components say to each other gets through the policies: peers given by
// --peer, the pods of `helm test`, Redis, clients, Prometheus. The rest does not.
func TestTrafficPasses(t *testing.T) {
	for config, objs := range configurations(t) {
		if config == "no-network-policy" {
			continue
		}
		t.Run(config, func(t *testing.T) {
			byOwner := map[string]pod{}
			for _, p := range objs.pods() {
				byOwner[p.owner] = p
			}
			for owner, p := range byOwner {
				c := p.spec.Containers[0]
				for _, a := range c.Args {
					var addr string
					if peer, ok := strings.CutPrefix(a, "--peer="); ok {
						addr = peer[strings.IndexByte(peer, '=')+1:]
					} else if ping, ok := strings.CutPrefix(a, "--addr="); ok {
						addr = ping
					} else {
						continue
					}
					to, port := objs.resolve(t, addr)
					if !objs.allowed(t, traffic{p, to, port}) {
						t.Errorf("%s cannot reach %s (%s port %s)", owner, addr, to.owner, port)
					}
				}
				if slices.ContainsFunc(p.spec.Volumes, func(v corev1.Volume) bool { return v.Name == "redis" }) && !objs.allowed(t, traffic{p, pod{}, "6379"}) {
					t.Errorf("%s cannot reach Redis", owner)
				}
				if n := portOf(c, "client"); n != "" && !objs.allowed(t, traffic{pod{}, p, n}) {
					t.Errorf("clients cannot reach %s", owner)
				}
				if n := portOf(c, "admin"); n != "" {
					monitored := len(all[*monitoringv1.ServiceMonitor](objs)) > 0
					if objs.allowed(t, traffic{pod{}, p, n}) != monitored {
						t.Errorf("admin port of %s: want open to Prometheus %v", owner, monitored)
					}
				}
				hasPeers := slices.ContainsFunc(c.Args, func(a string) bool {
					return strings.HasPrefix(a, "--peer=") && !strings.Contains(a, "."+namespace+".svc:")
				})
				if n := portOf(c, "peer"); n != "" && objs.allowed(t, traffic{pod{}, p, n}) != hasPeers {
					t.Errorf("peer port of %s: want open to other operators %v", owner, hasPeers)
				}
				if objs.allowed(t, traffic{p, pod{}, "80"}) {
					t.Errorf("%s reaches port 80 of the world", owner)
				}
			}
		})
	}
}

// resolve finds the pod and port behind an address; the zero pod if it is not of
// this release.
func (objs objects) resolve(t *testing.T, addr string) (pod, string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	name, ok := strings.CutSuffix(host, "."+namespace+".svc")
	if !ok {
		return pod{}, port
	}
	services := all[*corev1.Service](objs)
	s := services[name]
	if s == nil {
		t.Fatalf("no service %s among %v", name, slices.Sorted(maps.Keys(services)))
	}
	for _, sp := range s.Spec.Ports {
		if strconv.Itoa(int(sp.Port)) == port {
			p := selected(t, objs, metav1.SetAsLabelSelector(s.Spec.Selector))[0]
			return p, portOf(p.spec.Containers[0], sp.TargetPort.String())
		}
	}
	t.Fatalf("service %s has no port %s", name, port)
	return pod{}, ""
}
