"""Count an upload before it is forwarded, against the largest upload and the project's quota."""

from collections.abc import AsyncIterator

import anyio

from api.domain.errors import QuotaExceededError, TooLargeError
from api.runtime.transactions import UseCaseRunner
from api.services import sandboxes
from api.settings import Settings

# Bytes that are reserved at a time when the length of the upload is unknown.
_BLOCK = 8 * 2**20


class Upload:
    """Reserve quota before bytes are forwarded.

    `settle` gives back the bytes that did not arrive.
    """

    def __init__(self, use_cases: UseCaseRunner, settings: Settings, project_id: str, node_id: str, length: int | None) -> None:
        self._use_cases, self._settings = use_cases, settings
        self._project_id, self._node_id = project_id, node_id
        self._length = length
        self._reserved = 0

    async def chunks(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the chunks of the stream.

        Raises:
            TooLargeError, QuotaExceededError: the upload is too large. This is raised as soon as it
                is known.
        """
        limit = self._settings.max_upload_bytes
        if self._length is not None:
            if self._length > limit:
                raise _too_large(limit)
            await self._reserve(self._length)
        received = 0
        async for chunk in stream:
            received += len(chunk)
            if received > limit:
                raise _too_large(limit)
            if received > self._reserved:
                await self._reserve_more(received - self._reserved)
            if chunk:
                yield chunk

    async def settle(self, arrived: int) -> None:
        """Count exactly the bytes that arrived, also when the request is cancelled."""
        surplus, self._reserved = self._reserved - arrived, arrived
        if surplus:
            with anyio.CancelScope(shield=True):
                await self._use_cases.run(lambda uow: sandboxes.count(uow.session, self._node_id, -surplus))

    async def _reserve_more(self, needed: int) -> None:
        try:
            await self._reserve(max(needed, _BLOCK))
        except QuotaExceededError:
            if needed >= _BLOCK:
                raise
            await self._reserve(needed)

    async def _reserve(self, size: int) -> None:
        await self._use_cases.run(
            lambda uow: sandboxes.reserve(uow.session, self._settings, self._project_id, self._node_id, size)
        )
        self._reserved += size


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError("upload_too_large", f"An upload has at most {limit} bytes (FLOW_NEXUS_MAX_UPLOAD_BYTES).")
