{{/*
Contradictions that a schema cannot see. Each fails with a sentence that says
what to change.
*/}}
{{- define "mmrelay.validate" -}}
{{- $v := .Values -}}
{{- if not (or $v.hub.enabled $v.relay.enabled) -}}
{{- fail "Nothing to install: set hub.enabled, relay.enabled or both." -}}
{{- end -}}
{{- if not (or $v.peerCA.existingSecret $v.peerCA.existingConfigMap) -}}
{{- fail "peerCA.existingSecret or peerCA.existingConfigMap must name the object with the roots of the peers (operators.pem of a trust directory)." -}}
{{- end -}}
{{- if and $v.peerCA.existingSecret $v.peerCA.existingConfigMap -}}
{{- fail "Only one of peerCA.existingSecret and peerCA.existingConfigMap can be set." -}}
{{- end -}}
{{- if and $v.redis.ca.existingSecret $v.redis.ca.existingConfigMap -}}
{{- fail "Only one of redis.ca.existingSecret and redis.ca.existingConfigMap can be set." -}}
{{- end -}}
{{- $redis := false -}}
{{- range $name := list "hub" "relay" -}}
{{- $c := index $v $name -}}
{{- if $c.enabled -}}
{{- include "mmrelay.validateComponent" (dict "root" $ "name" $name) -}}
{{- $redis = or $redis (eq $c.store.type "redis") -}}
{{- end -}}
{{- end -}}
{{- if and $v.redis.existingSecret (not $redis) -}}
{{- fail "redis.existingSecret is set, but no enabled component has store.type redis." -}}
{{- end -}}
{{- if and $redis $v.networkPolicy.enabled (not $v.redis.networkPolicy.to) -}}
{{- fail "redis.networkPolicy.to must say where Redis is: the network policies would cut the components off from it." -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled $v.networkPolicy.enabled (not $v.networkPolicy.metricsFrom) -}}
{{- fail "networkPolicy.metricsFrom must say where Prometheus is: the network policies would keep it from the admin port that serviceMonitor.enabled tells it to read." -}}
{{- end -}}
{{- if and $v.hub.enabled $v.relay.enabled $v.hub.volume.existingClaim (eq $v.hub.volume.existingClaim $v.relay.volume.existingClaim) -}}
{{- fail "hub.volume.existingClaim and relay.volume.existingClaim must differ: each component needs its own volume." -}}
{{- end -}}
{{- end }}

{{- define "mmrelay.validateComponent" -}}
{{- $c := index .root.Values .name -}}
{{- $n := .name -}}
{{- if not $c.domain -}}
{{- fail (printf "%s.domain must be set: the domain of this %s, as in its certificate." $n $n) -}}
{{- end -}}
{{- if not $c.keys.existingSecret -}}
{{- fail (printf "%s.keys.existingSecret must name the Secret with the key files made by 'mmr keygen %s'." $n $n) -}}
{{- end -}}
{{- $many := or $c.autoscaling.enabled (gt (int $c.replicas) 1) -}}
{{- if and $many (eq $c.store.type "embedded") -}}
{{- fail (printf "%s: the embedded store has one writer, so replicas must be 1 and autoscaling off; several replicas need store.type redis." $n) -}}
{{- end -}}
{{- if and $many (eq $c.keys.rotation "volume") -}}
{{- fail (printf "%s: keys that rotate on a volume have one writer, so replicas must be 1 and autoscaling off; several replicas need keys.rotation secret." $n) -}}
{{- end -}}
{{- if and (eq $c.store.type "redis") (not .root.Values.redis.existingSecret) -}}
{{- fail (printf "%s.store.type is redis, so redis.existingSecret must name the Secret with the URL." $n) -}}
{{- end -}}
{{- if and $c.store.redisKey (ne $c.store.type "redis") -}}
{{- fail (printf "%s.store.redisKey is set, but %s.store.type is not redis." $n $n) -}}
{{- end -}}
{{- range $kind := splitList " " (include "mmrelay.rotatingKeys" .) -}}
{{- $secret := index $c.keys (printf "%sSecret" $kind) -}}
{{- if and (eq $c.keys.rotation "secret") (not $secret) -}}
{{- fail (printf "%s.keys.rotation is secret, so %s.keys.%sSecret must name the Secret with the files of %s/." $n $n $kind $kind) -}}
{{- end -}}
{{- if and (eq $c.keys.rotation "volume") $secret -}}
{{- fail (printf "%s.keys.%sSecret is set, but %s.keys.rotation is volume: the daemon makes these keys itself." $n $kind $n) -}}
{{- end -}}
{{- end -}}
{{- if and $c.autoscaling.enabled (gt (int $c.autoscaling.minReplicas) (int $c.autoscaling.maxReplicas)) -}}
{{- fail (printf "%s.autoscaling.minReplicas must not exceed maxReplicas." $n) -}}
{{- end -}}
{{- if and $c.autoscaling.enabled (not (dig "requests" "cpu" "" $c.resources)) -}}
{{- fail (printf "%s.autoscaling measures CPU against the request, so %s.resources.requests.cpu must be set." $n $n) -}}
{{- end -}}
{{- if eq $n "relay" -}}
{{- if and $c.registration.open $c.registration.codeSecret -}}
{{- fail "Only one of relay.registration.open and relay.registration.codeSecret can be set." -}}
{{- end -}}
{{- if not (or $c.registration.open $c.registration.codeSecret) -}}
{{- fail "One of relay.registration.open and relay.registration.codeSecret must be set: nobody could create an account otherwise." -}}
{{- end -}}
{{- end -}}
{{- $own := printf "%s:%s" (ternary "hub" "provider" (eq $n "hub")) $c.domain -}}
{{- $seen := dict -}}
{{- range $p := (include "mmrelay.peers" . | fromJson).peers -}}
{{- $peer := printf "%s:%s" $p.role $p.domain -}}
{{- if eq $peer $own -}}
{{- fail (printf "%s.peers lists %s, which is this %s itself." $n $peer $n) -}}
{{- end -}}
{{- if hasKey $seen $peer -}}
{{- fail (printf "%s.peers gives %s twice; hub and relay of one release know each other without being listed." $n $peer) -}}
{{- end -}}
{{- $_ := set $seen $peer true -}}
{{- end -}}
{{- end }}
