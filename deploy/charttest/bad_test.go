package charttest

import (
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common/util"
)

// Values that contradict each other are refused with a sentence that names what
// to change. Each case is laid over a configuration that is fine.
func TestBadValues(t *testing.T) {
	const several = `{replicas: 2}`
	for _, tt := range []struct{ name, base, values, want string }{
		{"nothing", "default", `{hub: {enabled: false}, relay: {enabled: false}}`, "Nothing to install: set hub.enabled, relay.enabled or both."},
		{"no CA", "default", `{peerCA: {existingConfigMap: ""}}`, "peerCA.existingSecret or peerCA.existingConfigMap must name"},
		{"two CAs", "default", `{peerCA: {existingSecret: operators}}`, "Only one of peerCA.existingSecret and peerCA.existingConfigMap can be set."},
		{"no hub domain", "default", `{hub: {domain: ""}}`, "hub.domain must be set"},
		{"no relay domain", "default", `{relay: {domain: ""}}`, "relay.domain must be set"},
		{"no keys", "default", `{relay: {keys: {existingSecret: ""}}}`, "relay.keys.existingSecret must name the Secret with the key files made by 'mmr keygen relay'."},
		{"embedded store, several hubs", "default", `{hub: ` + several + `}`, "hub: the embedded store has one writer, so replicas must be 1 and autoscaling off"},
		{"embedded store, autoscaling", "default", `{relay: {autoscaling: {enabled: true}}}`, "relay: the embedded store has one writer"},
		{"keys on a volume, several relays", "redis-one-replica", `{relay: ` + several + `}`, "relay: keys that rotate on a volume have one writer"},
		{"redis without secret", "default", `{hub: {store: {type: redis}}}`, "hub.store.type is redis, so redis.existingSecret must name the Secret with the URL."},
		{"secret without redis", "default", `{redis: {existingSecret: redis}}`, "redis.existingSecret is set, but no enabled component has store.type redis."},
		{"key without redis", "default", `{relay: {store: {redisKey: url}}}`, "relay.store.redisKey is set, but relay.store.type is not redis."},
		{"two Redis roots", "redis", `{redis: {ca: {existingConfigMap: ca}}}`, "Only one of redis.ca.existingSecret and redis.ca.existingConfigMap can be set."},
		{"Redis behind the policies", "redis-one-replica", `{redis: {networkPolicy: {to: []}}}`, "redis.networkPolicy.to must say where Redis is"},
		{"Prometheus behind the policies", "default", `{serviceMonitor: {enabled: true}}`, "networkPolicy.metricsFrom must say where Prometheus is"},
		{"rotation without secret", "redis", `{relay: {keys: {queueSecret: ""}}}`, "relay.keys.rotation is secret, so relay.keys.queueSecret must name the Secret with the files of queue/."},
		{"secret without rotation", "default", `{hub: {keys: {gatewaySecret: gw}}}`, "hub.keys.gatewaySecret is set, but hub.keys.rotation is volume"},
		{"bounds of autoscaling", "autoscaling", `{relay: {autoscaling: {minReplicas: 9}}}`, "relay.autoscaling.minReplicas must not exceed maxReplicas."},
		{"autoscaling without request", "autoscaling", `{relay: {resources: {requests: {cpu: null}}}}`, "so relay.resources.requests.cpu must be set."},
		{"both registrations", "default", `{relay: {registration: {open: true}}}`, "Only one of relay.registration.open and relay.registration.codeSecret can be set."},
		{"no registration", "default", `{relay: {registration: {codeSecret: ""}}}`, "nobody could create an account otherwise."},
		{"peer given twice", "default", `{hub: {peers: [{role: provider, domain: a.example, address: "x:1"}]}}`, "hub.peers gives provider:a.example twice; hub and relay of one release know each other"},
		{"peer is itself", "default", `{relay: {peers: [{role: provider, domain: a.example, address: "x:1"}]}}`, "relay.peers lists provider:a.example, which is this relay itself."},
		{"one claim for both", "default", `{hub: {volume: {existingClaim: c}}, relay: {volume: {existingClaim: c}}}`, "hub.volume.existingClaim and relay.volume.existingClaim must differ"},

		{"typing error", "default", `{hub: {replica: 2}}`, "additional properties 'replica' not allowed"},
		{"typing error at the top", "default", `{relay2: {}}`, "additional properties 'relay2' not allowed"},
		{"domain without dot", "default", `{hub: {domain: hub}}`, "at '/hub/domain'"},
		{"domain in upper case", "default", `{hub: {domain: Hub.example}}`, "at '/hub/domain'"},
		{"peer that injects a flag", "default", `{hub: {peers: [{role: provider, domain: c.example, address: "x:1,hub:evil.example=y:2"}]}}`, "at '/hub/peers/0/address'"},
		{"unknown role", "default", `{hub: {peers: [{role: relay, domain: c.example, address: "x:1"}]}}`, "at '/hub/peers/0/role'"},
		{"short digest", "default", `{image: {digest: "sha256:abc"}}`, "at '/image/digest'"},
		{"root", "default", `{runAs: {user: 0}}`, "at '/runAs/user'"},
		{"no grace", "default", `{hub: {shutdown: {graceSeconds: 0}}}`, "at '/hub/shutdown/graceSeconds'"},
		{"traffic policy of a cluster address", "default", `{relay: {service: {externalTrafficPolicy: Local}}}`, "at '/relay/service/externalTrafficPolicy'"},
		{"interval without unit", "default", `{hub: {releaseInterval: "5"}}`, "at '/hub/releaseInterval'"},
		{"unknown log level", "default", `{hub: {logLevel: trace}}`, "at '/hub/logLevel'"},
		{"peers to nowhere", "default", `{hub: {peers: [{role: provider, domain: c.example, address: "x:1", to: []}]}}`, "at '/hub/peers/0/to'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base := values(t, tt.base+"-values.yaml")
			if _, err := render(t, base); err != nil {
				t.Fatalf("the base is refused: %v", err)
			}
			files, err := render(t, util.MergeTables(parseValues(t, tt.values), base))
			if err == nil {
				t.Fatalf("accepted:\n%s", manifests(files))
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("refused with %v\nwant %q", err, tt.want)
			}
		})
	}
}
