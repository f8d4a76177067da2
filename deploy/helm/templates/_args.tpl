{{/*
The command line of a component. Secrets are files: none is an argument or an
environment variable.
*/}}
{{- define "mmrelay.args" -}}
{{- $c := index .root.Values .name -}}
- --domain={{ $c.domain }}
- --keys=/etc/mmrelay/keys
- --{{ ternary "" "no-" (eq $c.keys.rotation "volume") }}rotate-keys
- --peer-ca=/etc/mmrelay/peer-ca/operators.pem
{{- range (include "mmrelay.peers" . | fromJson).peers }}
- --peer={{ .role }}:{{ .domain }}={{ .address }}
{{- end }}
- --admin=:{{ include "mmrelay.port.admin" .root }}
{{- if eq .name "hub" }}
- --listen=:{{ include "mmrelay.port.hub" .root }}
{{- else }}
- --listen=:{{ include "mmrelay.port.client" .root }}
- --peer-listen=:{{ include "mmrelay.port.relay" .root }}
{{- end }}
{{- if eq $c.store.type "redis" }}
- --store-file=/etc/mmrelay/redis/url
{{- else }}
- --store=pebble:/var/lib/mmrelay/store
{{- end }}
{{- if eq .name "hub" }}
- --requests-per-minute={{ int $c.limits.requestsPerMinute }}
- --commits-per-minute={{ int $c.limits.commitsPerMinute }}
- --release-interval={{ $c.releaseInterval }}
{{- else }}
{{- if $c.registration.open }}
- --open-registration
{{- else }}
- --registration-code-file=/etc/mmrelay/registration/code
{{- end }}
- --tokens-per-day={{ int $c.limits.tokensPerDay }}
- --forward-per-minute={{ int $c.limits.forwardPerMinute }}
{{- end }}
- --drain={{ int $c.shutdown.drainSeconds }}s
- --grace={{ int $c.shutdown.graceSeconds }}s
- --log-level={{ $c.logLevel }}
{{- end }}
