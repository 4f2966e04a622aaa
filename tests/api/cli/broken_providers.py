"""Sandbox providers with one fault each, over the real client. The doctor must find the fault."""

from collections.abc import AsyncIterator

from api.domain.sandboxes import SandboxError, SandboxInfo, SandboxSpec, StoredFile
from workers.sandboxes.client import SandboxClient


class LosesAnswer(SandboxClient):
    """It makes a sandbox and fails to say so."""

    async def create(self, spec: SandboxSpec) -> SandboxInfo:
        await super().create(spec)
        raise SandboxError("the sandbox provider could not start a sandbox")


class ChangesUploads(SandboxClient):
    """It stores other bytes in a `.bin` file than it was sent."""

    async def upload(self, sandbox_id: str, path: str, chunks: AsyncIterator[bytes], *, replaces: bool = True) -> StoredFile:
        stored = await super().upload(sandbox_id, path, chunks, replaces=replaces)
        if path.endswith(".bin"):
            await self.run(sandbox_id, f'echo more >> "${{SANDBOX_ROOT-}}"{path}', timeout_s=10, max_output=100)
        return stored
