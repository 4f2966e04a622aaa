"""The daemon inside a sandbox: E2B's process and filesystem services, and access to the ports.

It is the first process of the sandbox and sees only what the sandbox sees. A path, a link or a
process id from a client therefore never names anything outside.

The host imports only `wire` and two constants of it. Inside a sandbox it is the package `envd`
without the rest of this project, so its imports are relative.
"""
