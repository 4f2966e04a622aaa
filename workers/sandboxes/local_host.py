"""What our own sandbox host says beyond E2B's protocol. Another host at that address may speak E2B's alone."""

import contextlib
from datetime import datetime
from http import HTTPStatus
from typing import Any

import httpx

from api.domain.sandboxes import ResourceLimitHit, SandboxError, SandboxNotFoundError
from workers.sandboxes.sdk_errors import translate_sdk_errors

_TIMEOUT_S = 3.0


class LocalHostClient:
    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._headers = {"X-API-Key": api_key}
        self._speaks_limits: bool | None = None

    async def health(self) -> dict[str, Any] | None:
        """None for a host that is not ours."""
        with translate_sdk_errors("report its health"):
            body = _body(await self._ask("GET", "/health"))
        return body if "isolation" in body else None

    async def limit_hits(self, sandbox_id: str) -> list[ResourceLimitHit] | None:
        """None for a host that does not keep them."""
        if not await self._ours():
            return None
        with translate_sdk_errors("tell the sandbox's limits"):
            answer = await self._ask("GET", f"/sandboxes/{sandbox_id}/limits")
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise SandboxNotFoundError("the sandbox does not exist any more")
        try:
            return [_hit(item) for item in _body(answer)["hits"]]
        except (KeyError, TypeError, ValueError) as error:
            raise SandboxError("the sandbox provider could not tell the sandbox's limits") from error

    async def note_limit(self, sandbox_id: str, limit: str) -> None:
        """Tell of a limit that we held a command to. Its result says so anyway, so a failure here is none there."""
        with contextlib.suppress(SandboxError):
            if await self._ours():
                with translate_sdk_errors("note the limit"):
                    await self._ask("POST", f"/sandboxes/{sandbox_id}/limits", {"limit": limit})

    async def _ours(self) -> bool:
        if self._speaks_limits is None:
            self._speaks_limits = await self.health() is not None
        return self._speaks_limits

    async def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            return await client.request(method, self._url + path, headers=self._headers, json=body)


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _hit(item: dict[str, Any]) -> ResourceLimitHit:
    times = [datetime.fromisoformat(item[name]) for name in ("first_at", "last_at")]
    return ResourceLimitHit(str(item["limit"]), int(item["count"]), *times)
