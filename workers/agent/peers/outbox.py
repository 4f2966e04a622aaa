"""What a worker offers to the round's other workers: files by name, for as long as the round lasts."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

from workers.agent.runtime.errors import AgentError

Key = tuple[str, int]


class Outbox:
    """One round's parts at a time. Only for the event loop's thread."""

    def __init__(self) -> None:
        self._key: Key | None = None
        self._folder = Path()
        self._files: dict[str, Path] = {}
        self._over = False
        self._news = asyncio.Event()

    def begin(self, key: Key, folder: Path) -> None:
        """A new round: what was offered before is gone. `folder` is this round's own."""
        self.end()
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "incoming").mkdir(parents=True)
        self._key, self._folder, self._files, self._over = key, folder, {}, False

    @property
    def outgoing(self) -> Path:
        return self._folder

    @property
    def incoming(self) -> Path:
        return self._folder / "incoming"

    def offer(self, name: str, path: Path) -> None:
        self._files[name] = path
        self._wake()

    def end(self) -> None:
        """Nothing more will be offered: whoever waits hears of it at once."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def find(self, key: Key, name: str, wait_s: float) -> Path:
        """AgentError `not_ready` (404: ask again), `exchange_over` (409)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._key == key and not self._over and name not in self._files:
                    await self._news.wait()
        if self._key == key and self._over:
            raise AgentError("exchange_over", "this worker has left the exchange", 409)
        if self._key != key or name not in self._files:
            raise AgentError("not_ready", "the part is not there yet", 404)
        return self._files[name]
