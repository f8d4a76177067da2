{{/*
Key directory: a projection of the Secret's long-lived files, and below it one
mount per kind of key that rotates, from the volume or from a Secret. The files
are listed, so that a missing one keeps the pod from starting and operator.key
never gets into it. The kubelet makes the mount points of what lies below.
*/}}
{{- define "mmrelay.volumes" -}}
{{- $c := index .root.Values .name -}}
{{- $v := .root.Values -}}
- name: keys
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ default $c.keys.existingSecret $c.keys.tlsSecret | quote }}
          items:
            - {key: tls.crt, path: tls.crt}
            - {key: tls.key, path: tls.key}
      - secret:
          name: {{ $c.keys.existingSecret | quote }}
          items:
            - {key: identity.crt, path: identity.crt}
            - {key: identity.key, path: identity.key}
            - {key: secret.pem, path: secret.pem}
            {{- if eq .name "relay" }}
            - {key: clients.crt, path: clients.crt}
            - {key: clients.key, path: clients.key}
            {{- end }}
{{- if eq $c.keys.rotation "secret" }}
{{- range $kind := splitList " " (include "mmrelay.rotatingKeys" .) }}
- name: {{ $kind }}-keys
  secret:
    secretName: {{ index $c.keys (printf "%sSecret" $kind) | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{ include "mmrelay.peerCAVolume" .root }}
{{- if eq $c.store.type "redis" }}
- name: redis
  secret:
    secretName: {{ $v.redis.existingSecret | quote }}
    defaultMode: 0440
    items: [{key: {{ default $v.redis.key $c.store.redisKey | quote }}, path: url}]
{{- if $v.redis.ca.existingSecret }}
- name: redis-ca
  secret:
    secretName: {{ $v.redis.ca.existingSecret | quote }}
    defaultMode: 0440
    items: [{key: {{ $v.redis.ca.key | quote }}, path: ca.crt}]
{{- else if $v.redis.ca.existingConfigMap }}
- name: redis-ca
  configMap:
    name: {{ $v.redis.ca.existingConfigMap | quote }}
    items: [{key: {{ $v.redis.ca.key | quote }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- if eq .name "relay" }}
{{- if $c.registration.codeSecret }}
- name: registration
  secret:
    secretName: {{ $c.registration.codeSecret | quote }}
    defaultMode: 0440
    items: [{key: {{ $c.registration.codeKey | quote }}, path: code}]
{{- end }}
{{- end }}
{{- if include "mmrelay.hasVolume" . }}
- name: data
  persistentVolumeClaim:
    claimName: {{ include "mmrelay.claim" . | quote }}
{{- end }}
{{- end }}

{{- define "mmrelay.volumeMounts" -}}
{{- $c := index .root.Values .name -}}
{{- $v := .root.Values -}}
- {name: keys, mountPath: /etc/mmrelay/keys, readOnly: true}
{{- range $kind := splitList " " (include "mmrelay.rotatingKeys" .) }}
{{- if eq $c.keys.rotation "secret" }}
- {name: {{ $kind }}-keys, mountPath: /etc/mmrelay/keys/{{ $kind }}, readOnly: true}
{{- else }}
- {name: data, mountPath: /etc/mmrelay/keys/{{ $kind }}, subPath: keys/{{ $kind }}}
{{- end }}
{{- end }}
- {name: peer-ca, mountPath: /etc/mmrelay/peer-ca, readOnly: true}
{{- if eq $c.store.type "redis" }}
- {name: redis, mountPath: /etc/mmrelay/redis, readOnly: true}
{{- if or $v.redis.ca.existingSecret $v.redis.ca.existingConfigMap }}
- {name: redis-ca, mountPath: /etc/mmrelay/redis-ca, readOnly: true}
{{- end }}
{{- else }}
- {name: data, mountPath: /var/lib/mmrelay/store, subPath: store}
{{- end }}
{{- if eq .name "relay" }}
{{- if $c.registration.codeSecret }}
- {name: registration, mountPath: /etc/mmrelay/registration, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
