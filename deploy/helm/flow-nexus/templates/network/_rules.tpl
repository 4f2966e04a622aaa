{{/* (dict "to" list "port" 5432): one rule of a NetworkPolicy. */}}
{{- define "flow-nexus.egressRule" -}}
- ports:
    - {protocol: TCP, port: {{ .port }}}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* The same, but an empty list is every public address. */}}
{{- define "flow-nexus.publicRule" -}}
{{- if .to -}}
{{ include "flow-nexus.egressRule" . }}
{{- else -}}
- ports:
    - {protocol: TCP, port: {{ .port }}}
  to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
    - ipBlock:
        cidr: ::/0
        except: [fc00::/7, fe80::/10]
{{- end -}}
{{- end -}}

{{- define "flow-nexus.dnsRule" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
  {{- with .Values.networkPolicy.dns.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "flow-nexus.sandboxRule" -}}
{{- if eq .Values.sandboxes.provider "host" -}}
- ports:
    - {protocol: TCP, port: 8710}
  to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .Values.sandboxes.host.namespace }}
      podSelector:
        matchLabels:
          {{- include "flow-nexus.componentSelector" (dict "root" . "component" "sandbox-host") | nindent 10 }}
{{- else if eq .Values.sandboxes.provider "e2b" -}}
{{ include "flow-nexus.publicRule" .Values.networkPolicy.sandboxes }}
{{- else -}}
{{ include "flow-nexus.egressRule" .Values.networkPolicy.sandboxes }}
{{- end -}}
{{- end -}}
