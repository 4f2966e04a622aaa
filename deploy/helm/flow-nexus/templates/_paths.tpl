{{/* What a proxy may reach. /metrics is missing: it needs no key. */}}

{{- define "flow-nexus.exactPaths" -}}
["/", "/openapi.json", "/healthz", "/readyz"]
{{- end -}}

{{- define "flow-nexus.pathPrefixes" -}}
["/v1", "/dashboard", "/docs", "/problems"]
{{- end -}}
