"""Work before the first round: the check of a shard, and its token ids on disk.

Both may take minutes. A request begins the work, or finds the work that an equal request has begun.
It is answered when the work ends, or after its wait with how far the work is.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from workers.agent.context import AgentContext
from workers.agent.datasets import shards
from workers.agent.datasets.reading import Reading
from workers.agent.protocol.common import AgentProblem
from workers.agent.protocol.training import CheckShard, EncodeShard, ShardReport
from workers.agent.runtime.errors import DataError, StoppedError
from workers.agent.runtime.paths import SandboxRoot

# A check and the token ids of a shard, and those of a validation file.
_MOST_KEPT: Final = 3


@dataclass(frozen=True, slots=True)
class _Work:
    """`content` is the request with the state of its files."""

    content: str
    reading: Reading
    task: asyncio.Task[ShardReport]


class Preparer:
    """Keeps a report without a problem, so that a request whose answer was lost can be repeated."""

    def __init__(self, context: AgentContext, root: SandboxRoot) -> None:
        self._node_id = context.node_id
        self._cache = context.cache
        self._root = root
        self._works: dict[tuple[str, str], _Work] = {}

    async def check(self, request: CheckShard, wait_s: float) -> ShardReport:
        """Check whether a shard can be used."""
        return await self._result(request, partial(shards.check, self._root, request, self._node_id), wait_s)

    async def encode(self, request: EncodeShard, wait_s: float) -> ShardReport:
        """Write a shard's token ids to disk."""
        return await self._result(request, partial(self._encoded, request), wait_s)

    def stop(self) -> bool:
        """End all work. Return False if there is none."""
        running = [work for work in self._works.values() if not work.task.done()]
        for work in running:
            work.reading.stop.set()
        return bool(running)

    def _encoded(self, request: EncodeShard, reading: Reading) -> ShardReport:
        try:
            if not self._root.files(request.dataset):
                raise DataError("no_match", "no file matches the dataset's path")
            shard = self._cache.write_tokens(
                request.model, request.dataset, request.data_format, reading, hold_out=request.hold_out
            )
        except DataError as error:
            return ShardReport(node_id=self._node_id, problem=error.problem)
        return ShardReport(node_id=self._node_id, samples=len(shard.training) + len(shard.held_out))

    async def _result(
        self, request: CheckShard | EncodeShard, run: Callable[[Reading], ShardReport], wait_s: float
    ) -> ShardReport:
        place = (type(request).__name__, request.dataset)
        content = f"{request.model_dump_json()} {await asyncio.to_thread(self._root.stamps, request.dataset)}"
        work = self._works.get(place)
        if work is None or work.content != content:
            work = self._begin(place, content, run)
        await asyncio.wait({work.task}, timeout=wait_s)
        reading, state = work.reading, "done" if work.task.done() else "running"
        report = ShardReport(node_id=self._node_id)
        if state == "done":
            try:
                report = work.task.result()
            finally:
                if work.task.exception() is not None or report.problem is not None:
                    self._drop(place, work)
        return report.model_copy(
            update={
                "state": state,
                "bytes_read": reading.bytes_read,
                "bytes_total": reading.bytes_total,
                "rows": reading.rows,
                "idle_seconds": time.monotonic() - reading.changed_at,
            }
        )

    def _begin(self, place: tuple[str, str], content: str, run: Callable[[Reading], ShardReport]) -> _Work:
        """Begin work in a thread. End what had its place."""
        if place in self._works:
            self._works.pop(place).reading.stop.set()
        for old in list(self._works)[: 1 - _MOST_KEPT]:
            self._works.pop(old).reading.stop.set()
        reading = Reading()
        work = self._works[place] = _Work(content, reading, asyncio.create_task(asyncio.to_thread(self._run, run, reading)))
        return work

    def _run(self, run: Callable[[Reading], ShardReport], reading: Reading) -> ShardReport:
        try:
            return run(reading)
        except StoppedError:
            return ShardReport(node_id=self._node_id, problem=AgentProblem(code="stopped", message="the reading was stopped"))

    def _drop(self, place: tuple[str, str], work: _Work) -> None:
        with suppress(KeyError):
            if self._works[place] is work:
                del self._works[place]
