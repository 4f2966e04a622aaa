"""Values of the chart: five that are rendered, and those that are refused."""

from pathlib import Path

VALUES = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "values").glob("*.yaml"))}

# The values, and a part of the message.
REFUSED = {
    "an unknown value": ("apis: {replicas: 3}", "apis"),
    "an unknown setting": ("settings: {ROUND_DEADLINES_S: 60}", "ROUND_DEADLINES_S"),
    "a setting of the wrong type": ("settings: {ROUND_DEADLINE_S: soon}", "ROUND_DEADLINE_S"),
    "a setting out of its range": ("settings: {ROUND_QUORUM: 1.5}", "ROUND_QUORUM"),
    "a secret among the settings": ("settings: {SECRET_KEY: x}", "SECRET_KEY"),
    "a key in the values": ("secrets: {secretKey: {value: x}}", "value"),
    "one pod of the API": ("api: {autoscaling: {minReplicas: 1}}", "minReplicas"),
    "less pods than the smallest number": ("api: {autoscaling: {minReplicas: 5, maxReplicas: 3}}", "minReplicas is larger"),
    "several pods of beat": ("beat: {replicas: 2}", "replicas"),
    "another provider": ("sandboxes: {provider: docker}", "provider"),
    "a host without an address": ("sandboxes: {provider: compatible}", "apiUrl"),
    "an address with a password": (
        "sandboxes: {provider: compatible, compatible: {apiUrl: 'https://me:secret@example.org'}}",
        "apiUrl",
    ),
    "our own host without nodes of its own": ("sandboxes: {provider: host, host: {namespace: other}}", "nodeSelector"),
    "our own host beside the API": (
        "sandboxes: {provider: host, host: {namespace: ml, nodeSelector: {pool: sandboxes}}}",
        "another namespace",
    ),
    "an ingress without TLS": ("ingress: {enabled: true, host: example.org}", "tlsSecret"),
    "an ingress that no policy lets in": (
        "ingress: {enabled: true, host: example.org, tlsSecret: tls}",
        "networkPolicy.clients is empty",
    ),
    "a Prometheus that no policy lets in": ("serviceMonitor: {enabled: true}", "networkPolicy.scrapers is empty"),
    "both ways in": (
        "{ingress: {enabled: true, host: a.example, tlsSecret: tls}, gateway: {enabled: true, name: public, host: a.example}}",
        "not both",
    ),
    "every proxy trusted": ("api: {trustedProxies: ['*']}", "trustedProxies"),
    "a peer that selects nothing": ("networkPolicy: {clients: [{}]}", "clients"),
    "a digest that is none": ("images: {api: {digest: latest}}", "digest"),
}
