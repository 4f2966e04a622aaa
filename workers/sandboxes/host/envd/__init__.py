"""The daemon inside a sandbox: E2B's process and filesystem services, and the way to the sandbox's ports.

It is the first process of the sandbox and sees only what the sandbox sees, so a path, a link or a process id that
a client names can never mean anything outside. The host imports nothing of it but `wire`; inside, it runs alone
as the package `envd`, so its imports are relative.
"""
