"""The program that runs an execution in the background, inside the sandbox.

It needs only Python's standard library, so it works in every sandbox of E2B's protocol. It is sent
as one archive: `python supervisor.pyz run|read|stop`. The folder of the archive holds the state.
Inside a sandbox it is without the rest of this project, so its imports are relative.
"""
