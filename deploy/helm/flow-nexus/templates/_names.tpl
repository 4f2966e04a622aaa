{{/* Names and labels. */}}

{{- define "flow-nexus.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters leave room for the longest name of a part, in 63 characters. */}}
{{- define "flow-nexus.fullname" -}}
{{- $name := include "flow-nexus.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the release's pods. They never change. */}}
{{- define "flow-nexus.selector" -}}
app.kubernetes.io/name: {{ include "flow-nexus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* (dict "root" $ "component" "api") */}}
{{- define "flow-nexus.componentSelector" -}}
{{ include "flow-nexus.selector" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "flow-nexus.labels" -}}
{{ include "flow-nexus.componentSelector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: flow-nexus
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "flow-nexus.serviceAccount" -}}
{{ include "flow-nexus.fullname" . }}
{{- end -}}

{{- define "flow-nexus.modelsClaim" -}}
{{ default (printf "%s-models" (include "flow-nexus.fullname" .)) .Values.models.existingClaim }}
{{- end -}}

{{- define "flow-nexus.hostName" -}}
{{ include "flow-nexus.fullname" . }}-sandbox-host
{{- end -}}
