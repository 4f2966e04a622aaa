"""The requests that our own sandbox host answers beyond E2B's protocol.

Another host at the same address may support E2B's protocol only.
"""

import contextlib
from datetime import datetime
from http import HTTPStatus

import httpx
from pydantic import BaseModel, ValidationError

from api.domain.sandboxes import ResourceLimit, ResourceLimitHit, SandboxError, SandboxNotFoundError
from workers.sandboxes.sdk_errors import translate_sdk_errors

_TIMEOUT_S = 3.0


class HostHealth(BaseModel):
    """The answer of `GET /health`. `gateway` is the path of the peers' socket inside a sandbox."""

    isolation: str
    warning: str | None = None
    gateway: str | None = None


class _LimitHitItem(BaseModel):
    limit: ResourceLimit
    count: int
    first_at: datetime
    last_at: datetime


class _LimitHitList(BaseModel):
    hits: list[_LimitHitItem]


class LocalHostClient:
    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._headers = {"X-API-Key": api_key}
        self._is_ours: bool | None = None

    async def health(self) -> HostHealth | None:
        """Return the host's health, or None for a host that is not ours."""
        with translate_sdk_errors("report its health"):
            answer = await self._request("GET", "/health")
        try:
            return HostHealth.model_validate_json(answer.content)
        except ValidationError:
            return None

    async def limit_hits(self, sandbox_id: str) -> list[ResourceLimitHit] | None:
        """Return the limits that the sandbox reached, or None if the host keeps no such record."""
        if not await self._check_is_ours():
            return None
        with translate_sdk_errors("report the sandbox's limits"):
            answer = await self._request("GET", f"/sandboxes/{sandbox_id}/limits")
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise SandboxNotFoundError("the sandbox does not exist any more")
        try:
            hits = _LimitHitList.model_validate_json(answer.content).hits
        except ValidationError as error:
            raise SandboxError("the sandbox provider could not report the sandbox's limits") from error
        return [ResourceLimitHit(hit.limit, hit.count, hit.first_at, hit.last_at) for hit in hits]

    async def note_limit(self, sandbox_id: str, limit: str) -> None:
        """Report a limit that this process enforced on a command.

        The command's result names the limit too, so a failure of this report is ignored.
        """
        with contextlib.suppress(SandboxError):
            if await self._check_is_ours():
                with translate_sdk_errors("note the limit"):
                    await self._request("POST", f"/sandboxes/{sandbox_id}/limits", {"limit": limit})

    async def _check_is_ours(self) -> bool:
        if self._is_ours is None:
            self._is_ours = await self.health() is not None
        return self._is_ours

    async def _request(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            return await client.request(method, self._url + path, headers=self._headers, json=body)
