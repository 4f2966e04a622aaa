{{/* What values.schema.json cannot check, because it concerns several values. */}}

{{- define "flow-nexus.checks" -}}
{{- $values := .Values -}}
{{- with $values.api.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail "api.autoscaling.minReplicas is larger than maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- if and $values.ingress.enabled $values.gateway.enabled -}}
{{- fail "enable ingress or gateway, not both" -}}
{{- end -}}
{{- if $values.networkPolicy.enabled -}}
{{- if and (or $values.ingress.enabled $values.gateway.enabled) (empty $values.networkPolicy.clients) -}}
{{- fail "networkPolicy.clients is empty: name the pods of your ingress controller or gateway" -}}
{{- end -}}
{{- if and $values.serviceMonitor.enabled (empty $values.networkPolicy.scrapers) -}}
{{- fail "networkPolicy.scrapers is empty: name the pods of your Prometheus" -}}
{{- end -}}
{{- end -}}
{{- if eq $values.sandboxes.provider "host" -}}
{{- if eq $values.sandboxes.host.namespace .Release.Namespace -}}
{{- fail "sandboxes.host.namespace must be another namespace than the release's" -}}
{{- end -}}
{{- if semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version -}}
{{- fail "sandboxes.provider host needs Kubernetes 1.33 or newer: pods with users of their own" -}}
{{- end -}}
{{- end -}}
{{- end -}}
