"""An upload on its way: counted before it is passed on, against the largest upload and against the project's quota."""

from collections.abc import AsyncIterator

import anyio

from api.domain.errors import QuotaExceededError, TooLargeError
from api.runtime.transactions import UseCaseRunner
from api.services import sandboxes
from api.settings import Settings

# Bytes that are reserved at a time when nobody has said how many will come.
_BLOCK = 8 * 2**20


class Upload:
    """Reserves room before bytes pass; what was reserved and did not arrive is given back by `settle`."""

    def __init__(self, work: UseCaseRunner, settings: Settings, project_id: str, node_id: str, length: int | None) -> None:
        self._work, self._settings = work, settings
        self._project_id, self._node_id = project_id, node_id
        self._length = length
        self._reserved = 0

    async def chunks(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The stream's bytes. TooLargeError or QuotaExceededError as soon as it is known that they will not fit."""
        limit = self._settings.max_upload_bytes
        if self._length is not None:
            if self._length > limit:
                raise _too_large(limit)
            await self._reserve(self._length)
        taken = 0
        async for chunk in stream:
            taken += len(chunk)
            if taken > limit:
                raise _too_large(limit)
            if taken > self._reserved:
                await self._reserve_more(taken - self._reserved)
            if chunk:
                yield chunk

    async def settle(self, arrived: int) -> None:
        """Leave counted what arrived. Holds even while the request is being cancelled."""
        surplus, self._reserved = self._reserved - arrived, arrived
        if surplus:
            with anyio.CancelScope(shield=True):
                await self._work(lambda uow: sandboxes.count(uow.session, self._node_id, -surplus))

    async def _reserve_more(self, needed: int) -> None:
        try:
            await self._reserve(max(needed, _BLOCK))
        except QuotaExceededError:
            if needed >= _BLOCK:
                raise
            await self._reserve(needed)

    async def _reserve(self, size: int) -> None:
        await self._work(lambda uow: sandboxes.reserve(uow.session, self._settings, self._project_id, self._node_id, size))
        self._reserved += size


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError("upload_too_large", f"An upload has at most {limit} bytes.")
