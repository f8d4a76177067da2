{{/*
Helpers. Those that need a component take (dict "root" $ "name" "hub"), where
name is hub or relay, also the key of its values and the label of its pods.
*/}}

{{/* Ports inside the pods. Services can offer others; policies see these. */}}
{{- define "mmrelay.port.hub" -}}7443{{- end }}
{{- define "mmrelay.port.client" -}}7444{{- end }}
{{- define "mmrelay.port.relay" -}}7445{{- end }}
{{- define "mmrelay.port.admin" -}}9090{{- end }}

{{- define "mmrelay.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Name of a component's objects. */}}
{{- define "mmrelay.name" -}}
{{ include "mmrelay.fullname" .root }}-{{ .name }}
{{- end }}

{{/* Labels that select a component's pods: they never change. */}}
{{- define "mmrelay.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{/* Labels of pods: without the chart's version, which would restart them for nothing. */}}
{{- define "mmrelay.podLabels" -}}
{{ include "mmrelay.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "mmrelay.labels" -}}
{{ include "mmrelay.podLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "mmrelay.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{- define "mmrelay.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.runAs.user }}
runAsGroup: {{ .Values.runAs.group }}
fsGroup: {{ .Values.runAs.group }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "mmrelay.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The kinds of keys that rotate: the directories below the key directory. */}}
{{- define "mmrelay.rotatingKeys" -}}
{{ ternary "gateway" "gateway queue token" (eq .name "hub") }}
{{- end }}

{{/* "true" if the component has a volume, so that only one pod may run at a time. */}}
{{- define "mmrelay.hasVolume" -}}
{{- $c := index .root.Values .name -}}
{{- if or (eq $c.store.type "embedded") (eq $c.keys.rotation "volume") }}true{{ end -}}
{{- end }}

{{- define "mmrelay.claim" -}}
{{- $c := index .root.Values .name -}}
{{ default (include "mmrelay.name" .) $c.volume.existingClaim }}
{{- end }}

{{/* "true" if there may be several pods. */}}
{{- define "mmrelay.several" -}}
{{- $c := index .root.Values .name -}}
{{- if $c.autoscaling.enabled -}}
{{- if gt (int $c.autoscaling.minReplicas) 1 }}true{{ end -}}
{{- else if gt (int $c.replicas) 1 }}true{{ end -}}
{{- end }}

{{/*
All peers of a component as JSON {"peers": [...]}: the other component of this
release, then those listed in its values.
*/}}
{{- define "mmrelay.peers" -}}
{{- $c := index .root.Values .name -}}
{{- $peers := list -}}
{{- $ns := .root.Release.Namespace -}}
{{- if and (eq .name "hub") .root.Values.relay.enabled -}}
{{- $address := printf "%s-relay-peer.%s.svc:%d" (include "mmrelay.fullname" .root) $ns (int .root.Values.relay.peerService.port) -}}
{{- $peers = append $peers (dict "role" "provider" "domain" .root.Values.relay.domain "address" $address) -}}
{{- end -}}
{{- if and (eq .name "relay") .root.Values.hub.enabled -}}
{{- $address := printf "%s-hub.%s.svc:%d" (include "mmrelay.fullname" .root) $ns (int .root.Values.hub.service.port) -}}
{{- $peers = append $peers (dict "role" "hub" "domain" .root.Values.hub.domain "address" $address) -}}
{{- end -}}
{{- dict "peers" (concat $peers $c.peers) | toJson -}}
{{- end }}

{{- define "mmrelay.peerCAVolume" -}}
- name: peer-ca
  {{- if .Values.peerCA.existingSecret }}
  secret:
    secretName: {{ .Values.peerCA.existingSecret | quote }}
    defaultMode: 0440
  {{- else }}
  configMap:
    name: {{ .Values.peerCA.existingConfigMap | quote }}
  {{- end }}
    items: [{key: {{ .Values.peerCA.key | quote }}, path: operators.pem}]
{{- end }}

{{/* What the garbage collector keeps the heap below: seven eighths of the memory limit, if that is in whole Mi or Gi. */}}
{{- define "mmrelay.goMemoryLimit" -}}
{{- $n := regexFind "^[0-9]+" (toString .) | default "0" | int64 }}
{{- if regexMatch "^[0-9]+Gi$" (toString .) }}{{ mul $n 896 }}MiB
{{- else if regexMatch "^[0-9]+Mi$" (toString .) }}{{ div (mul $n 7) 8 }}MiB
{{- end }}
{{- end }}
