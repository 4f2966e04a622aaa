"""The files that a worker offers to the other workers of a round, by name."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

from workers.agent.runtime.errors import AgentError

Key = tuple[str, int]


class Outbox:
    """The parts of one round at a time. Use it from the event loop's thread only."""

    def __init__(self) -> None:
        self._key: Key | None = None
        self._folder = Path()
        self._files: dict[str, Path] = {}
        self._over = False
        self._changed = asyncio.Event()

    def begin(self, key: Key, folder: Path) -> None:
        """Start a new round. The parts of the round before are no longer offered.

        `folder` is for this round only.
        """
        self.end()
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "incoming").mkdir(parents=True)
        self._key, self._folder, self._files, self._over = key, folder, {}, False

    @property
    def outgoing(self) -> Path:
        """Return the folder of the parts that this worker offers."""
        return self._folder

    @property
    def incoming(self) -> Path:
        """Return the folder of the parts from other workers."""
        return self._folder / "incoming"

    def offer(self, name: str, path: Path) -> None:
        """Offer a file under this name."""
        self._files[name] = path
        self._wake()

    def end(self) -> None:
        """Offer nothing more. Calls that wait in `find` end at once."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def find(self, key: Key, name: str, wait_s: float) -> Path:
        """Return the file of a part; wait for it up to `wait_s` seconds.

        Raises:
            AgentError: `not_ready` (404: ask again), `exchange_over` (409).
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._key == key and not self._over and name not in self._files:
                    await self._changed.wait()
        if self._key == key and self._over:
            raise AgentError("exchange_over", "this worker has left the exchange", 409)
        if self._key != key or name not in self._files:
            raise AgentError("not_ready", "the part is not there yet", 404)
        return self._files[name]
