"""Keep answers to reads until what they show changes."""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass

from api.runtime.listener import Listener

# Every change ends an answer at once. This limit is for changes without triggers, as of a restore.
MOST_S = 10.0
_MOST_BYTES = 64 * 1024 * 1024
_LARGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and its ETag.

    `lasts_s` are the seconds, from the start of the read, until a figure in it is too old.
    """

    body: bytes
    tag: str
    lasts_s: float = MOST_S


@dataclass(slots=True, eq=False)
class _Read:
    """A read that runs. `is_stale`: what it shows has changed meanwhile."""

    topic: str
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer
    topic: str
    until: float


class AnswerCache:
    """The answers that this process has given in the last ten seconds.

    An answer has a topic: the id of the cluster, project or training that it shows. It ends by the
    notification that a change of its topic sends. Each use of an answer first asks the notification
    connection whether all notifications have arrived. So no answer is older than its request.
    Without the connection, every answer is read anew.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._kept: dict[Hashable, _Kept] = {}  # The oldest answer first.
        self._keys: dict[str, set[Hashable]] = defaultdict(set)
        self._bytes = 0
        self._running: list[_Read] = []
        listener.on_change = self.forget

    def known(self, key: Hashable) -> Answer | None:
        """Return the answer that is kept under `key`.

        It is current if every notification sent before the request has arrived.
        """
        kept = self._kept.get(key)
        return kept.answer if kept is not None and time.monotonic() < kept.until else None

    async def answer(self, key: Hashable, topic: str, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer that is kept under `key`, or else that of `read`, and keep it."""
        known = self.known(key)
        if known is not None and await self._listener.caught_up() and self.known(key) is known:
            return known
        running, now = _Read(topic), time.monotonic()
        self._running.append(running)
        try:
            answer = await read()
        finally:
            self._running.remove(running)
        if self._listener.is_connected and not running.is_stale:
            self._keep(key, _Kept(answer, topic, now + min(MOST_S, answer.lasts_s)))
        return answer

    def forget(self, topics: Collection[str] | None) -> None:
        """Forget the answers with these topics, or all answers."""
        for running in self._running:
            running.is_stale = running.is_stale or topics is None or running.topic in topics
        for topic in list(self._keys) if topics is None else topics:
            for key in list(self._keys.get(topic, ())):
                self._drop(key)

    def _keep(self, key: Hashable, kept: _Kept) -> None:
        self._drop(key)
        if len(kept.answer.body) > _LARGEST:
            return
        self._kept[key] = kept
        self._keys[kept.topic].add(key)
        self._bytes += len(kept.answer.body)
        while self._bytes > _MOST_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        self._bytes -= len(kept.answer.body)
        self._keys[kept.topic].discard(key)
        if not self._keys[kept.topic]:
            del self._keys[kept.topic]
