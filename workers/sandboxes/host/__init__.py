"""A local host of sandboxes that speaks E2B's protocol: REST API and sandbox traffic on one port.

Each sandbox runs `envd` as the first process of its own namespaces. The host itself never touches
a sandbox's files or processes. It starts and ends sandboxes, checks tokens and forwards bytes.
"""
