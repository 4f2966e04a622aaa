{{/* The environment of the API, the workers and beat. */}}

{{/* (dict "name" "FLOW_NEXUS_…" "secret" .Values.secrets.…) */}}
{{- define "flow-nexus.secretVariable" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret.existingSecret }}
      key: {{ .secret.key }}
{{- end -}}

{{- define "flow-nexus.databaseVariable" -}}
{{ include "flow-nexus.secretVariable" (dict "name" "FLOW_NEXUS_DATABASE_URL" "secret" .Values.secrets.databaseUrl) }}
{{- end -}}

{{- define "flow-nexus.secretVariables" -}}
{{ include "flow-nexus.databaseVariable" . }}
{{ include "flow-nexus.secretVariable" (dict "name" "FLOW_NEXUS_REDIS_URL" "secret" .Values.secrets.redisUrl) }}
{{ include "flow-nexus.secretVariable" (dict "name" "FLOW_NEXUS_SECRET_KEY" "secret" .Values.secrets.secretKey) }}
{{ include "flow-nexus.secretVariable" (dict "name" "FLOW_NEXUS_E2B_API_KEY" "secret" .Values.secrets.sandboxApiKey) }}
{{- end -}}

{{/* Numbers of a values file are floating-point numbers. JSON writes 2000000000, Go would write 2e+09. */}}
{{- define "flow-nexus.settings" -}}
FLOW_NEXUS_MODELS_DIR: /var/lib/flow-nexus/models
{{- with .Values.sandboxes }}
{{- if eq .provider "e2b" }}
{{- with .e2b.domain }}
FLOW_NEXUS_E2B_DOMAIN: {{ . | quote }}
{{- end }}
{{- else if eq .provider "compatible" }}
FLOW_NEXUS_E2B_API_URL: {{ .compatible.apiUrl | quote }}
FLOW_NEXUS_E2B_SANDBOX_URL: {{ default .compatible.apiUrl .compatible.sandboxUrl | quote }}
{{- with .compatible.httpVersion }}
FLOW_NEXUS_E2B_HTTP_VERSION: {{ . | quote }}
{{- end }}
{{- else }}
{{- $url := printf "http://%s.%s.svc:8710" (include "flow-nexus.hostName" $) .host.namespace }}
FLOW_NEXUS_E2B_API_URL: {{ $url | quote }}
FLOW_NEXUS_E2B_SANDBOX_URL: {{ $url | quote }}
FLOW_NEXUS_E2B_HTTP_VERSION: "1.1"
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
FLOW_NEXUS_{{ $name }}: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end -}}
