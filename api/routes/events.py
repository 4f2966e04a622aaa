import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import anyio
from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.domain.errors import UnavailableError
from api.domain.status import ENDED_CLUSTER, ENDED_TRAINING
from api.http.auth import ClusterReader
from api.http.deps import AppState, State
from api.routes.clusters import ClusterId
from api.routes.common import errors
from api.routes.event_parameters import Follow, StreamSelection
from api.routes.trainings import TrainingId
from api.runtime.listener import wait_for_event
from api.schemas.events.union import written
from api.services import clusters, principals, trainings
from api.services.principals import Principal
from api.store import events
from api.store.database import UnitOfWork
from api.store.tables import EventRow

router = APIRouter(prefix="/v1", tags=["events"])
KEEP_ALIVE: Final = ": still here\n\n"
_KEEP_ALIVE_S = 15.0
_BATCH = 500
_STREAM = {
    "description": "Server-sent events. `id` is a number that counts within the cluster. `event` is the type. `data` is JSON.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
_ENDED = {"description": "What you follow has ended, and you have all its events: do not reconnect."}
_CLUSTER_EVENTS = """Send every event of the cluster, the oldest first.

The stream ends when the cluster is terminated or the key is closed. The data of each event is a `ClusterEvent`.
"""
_TRAINING_EVENTS = """Send every event of the training, the oldest first.

The stream ends when the training has ended or the key is closed. The data of each event is a `ClusterEvent`.
The types are `training.*`, `round.*` and `node.decision`.
"""


@router.get(
    "/clusters/{cluster_id}/events",
    operation_id="stream_cluster_events",
    summary="Follow everything in a cluster",
    description=_CLUSTER_EVENTS,
    response_class=StreamingResponse,
    responses={200: _STREAM, 204: _ENDED, **errors(404)},
)
async def stream_cluster_events(
    cluster_id: ClusterId,
    caller: ClusterReader,
    state: State,
    selection: StreamSelection,
    follow: Follow = True,
) -> Response:
    row = await state.run(lambda uow: clusters.get(uow.session, caller.project_id, cluster_id))

    def ended(uow: UnitOfWork) -> bool:
        return clusters.get(uow.session, caller.project_id, cluster_id).status in ENDED_CLUSTER

    source = _EventSource(state, caller, row.id, None, selection.after, selection.types, follow, ended)
    return await _stream_or_end(state, source)


@router.get(
    "/trainings/{training_id}/events",
    operation_id="stream_training_events",
    summary="Follow a training",
    description=_TRAINING_EVENTS,
    response_class=StreamingResponse,
    responses={200: _STREAM, 204: _ENDED, **errors(404)},
)
async def stream_training_events(
    training_id: TrainingId,
    caller: ClusterReader,
    state: State,
    selection: StreamSelection,
    follow: Follow = True,
) -> Response:
    row = await state.run(lambda uow: trainings.get(uow.session, caller.project_id, training_id))

    def ended(uow: UnitOfWork) -> bool:
        return trainings.get(uow.session, caller.project_id, training_id).status in ENDED_TRAINING

    source = _EventSource(state, caller, row.cluster_id, row.id, selection.after, selection.types, follow, ended)
    return await _stream_or_end(state, source)


async def _stream_or_end(state: AppState, source: "_EventSource") -> Response:
    """Return the stream, or 204 to a client that reconnects and has every event of what has ended.

    A browser's `EventSource` reconnects for ever, until it gets 204.
    """
    if source.after and source.follow and await source.has_sent_all():
        return Response(status_code=204)
    return EventStream(state, source.lines())


@dataclass(slots=True)
class _EventSource:
    """The events of one stream. `after` is the number of the last event that was sent."""

    state: AppState
    caller: Principal
    cluster_id: str
    training_id: str | None
    after: int
    types: frozenset[str]
    follow: bool
    ended: Callable[[UnitOfWork], bool]

    async def lines(self) -> AsyncIterator[str]:
        async with self.state.listener.subscribe(self.cluster_id) as notified:
            while True:
                notified.clear()
                # Check the end before reading: the event that ends the stream must still be sent.
                is_last_read = not self.follow or await self._ends()
                new_events = await self._read()
                for event in new_events:
                    self.after = event.seq
                    yield _format(event)
                if len(new_events) == _BATCH:
                    continue
                if is_last_read:
                    return
                if not new_events and not await wait_for_event(notified, _KEEP_ALIVE_S):
                    yield KEEP_ALIVE

    async def has_sent_all(self) -> bool:
        """Return whether no event follows `after`, now and later."""
        return await self._ends() and not await self._read()

    async def _ends(self) -> bool:
        return await self.state.run(lambda uow: self.ended(uow) or not principals.is_key_valid(uow.session, self.caller.key_id))

    async def _read(self) -> list[EventRow]:
        position = (self.cluster_id, self.after)
        return await self.state.run(
            lambda uow: events.read(uow.session, *position, training_id=self.training_id, types=self.types, limit=_BATCH)
        )


def _format(event: EventRow) -> str:
    return event_lines(event.seq, event.type, written(event))


def event_lines(number: int, event: str, data: dict[str, Any]) -> str:
    """Return one server-sent event. `number` is its id."""
    return f"id: {number}\nevent: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


class EventStream(StreamingResponse):
    """One of at most `max_streams` event streams. A disconnect of the client cancels it."""

    def __init__(self, state: AppState, lines: AsyncIterator[str]) -> None:
        super().__init__(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._limiter = state.stream_limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._limiter.acquire_on_behalf_of_nowait(self)
        except anyio.WouldBlock:
            detail = "This server already serves the largest number of event streams."
            raise UnavailableError("too_many_streams", detail, retry_after_s=10) from None
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._limiter.release_on_behalf_of(self)
