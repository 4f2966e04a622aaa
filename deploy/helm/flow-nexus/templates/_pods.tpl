{{/* Parts that pods have in common. */}}

{{/* (dict "root" $ "image" .Values.images.api) */}}
{{- define "flow-nexus.image" -}}
{{- $registry := .root.Values.images.registry | trimSuffix "/" -}}
{{- $name := ternary .image.repository (printf "%s/%s" $registry .image.repository) (empty $registry) -}}
{{- if .image.digest -}}
{{ printf "%s@%s" $name .image.digest }}
{{- else -}}
{{ printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) }}
{{- end -}}
{{- end -}}

{{/* What the standard "restricted" asks of a pod. The user and group are those of the images. */}}
{{- define "flow-nexus.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "flow-nexus.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* (dict "root" $ "part" .Values.api). No part calls Kubernetes. */}}
{{- define "flow-nexus.podCommon" -}}
automountServiceAccountToken: false
# Services of this namespace would otherwise become variables with our prefix.
enableServiceLinks: false
securityContext:
  {{- include "flow-nexus.podSecurity" .root | nindent 2 }}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* (dict "root" $ "component" "api"): pods of one part on as many nodes as there are. */}}
{{- define "flow-nexus.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "flow-nexus.componentSelector" . | nindent 8 }}
{{- end -}}

{{/* Pods start again when a setting changes. */}}
{{- define "flow-nexus.podAnnotations" -}}
flow-nexus/settings: {{ include "flow-nexus.settings" .root | sha256sum }}
{{- with .part.annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "flow-nexus.certificatesMount" -}}
{{- if .Values.certificates.existingSecret }}
- name: certificates
  mountPath: /etc/flow-nexus/certificates
  readOnly: true
{{- end }}
{{- end -}}

{{- define "flow-nexus.certificatesVolume" -}}
{{- with .Values.certificates.existingSecret }}
- name: certificates
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end -}}
