"""The output of an execution as server-sent events.

It is read from the sandbox and stored nowhere.
"""

import codecs
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.domain.sandboxes import ExecutionOutput, OutputPart, SandboxError
from api.http.auth import Executor
from api.http.deps import AppState, State
from api.routes.common import errors
from api.routes.event_parameters import After, Follow, LastEventId
from api.routes.events import KEEP_ALIVE, EventStream, event_lines
from api.routes.executions import ExecutionId
from api.runtime.listener import wait_for_event
from api.services import executions, principals
from api.services.executions import Execution
from api.services.principals import Principal
from api.store.database import UnitOfWork
from api.store.tables import ExecutionRow

router = APIRouter(prefix="/v1", tags=["executions"])
_STREAMS = ("stdout", "stderr")
_CHUNK = 64 << 10
_WAIT_S = 10.0
_PAUSE_S = 2.0
# An event's id has the positions in both streams. The settings keep an output below this size.
_ID_BASE = 10**9
_EVENTS = {
    "description": "Server-sent events. `id` grows with the output. `event` is `output` or the final status. `data` is JSON.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


@router.get(
    "/executions/{execution_id}/events",
    operation_id="stream_execution_events",
    summary="Follow the output of an execution",
    response_class=StreamingResponse,
    responses={200: _EVENTS, **errors(404)},
)
async def stream_execution_events(
    execution_id: ExecutionId,
    caller: Executor,
    state: State,
    after: After = 0,
    follow: Follow = True,
    last_event_id: LastEventId = None,
) -> StreamingResponse:
    """Send the output from its begin, or after an event's id, and then how the code ended.

    `output` has `stream` (stdout or stderr) and `text`. The last event is `execution.completed`,
    `execution.failed` or `execution.cancelled` with `exit_code`, `limit` and `error`. The text is
    UTF-8; other bytes are replaced. The order between the two streams is not kept.

    Only who may run code in its sandbox may read it. The audit log records each call.
    """
    found = await state.run(lambda uow: executions.get(uow.session, caller, execution_id))
    source = _OutputSource(state, caller, found.row, int(last_event_id or after), follow=follow)
    return EventStream(state, source.lines())


class _OutputSource:
    def __init__(self, state: AppState, caller: Principal, row: ExecutionRow, after: int, *, follow: bool) -> None:
        self._state, self._caller, self._follow = state, caller, follow
        self._id, self._cluster_id = row.id, row.cluster_id
        self._positions = dict(zip(_STREAMS, divmod(after, _ID_BASE), strict=True))
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in _STREAMS}

    async def lines(self) -> AsyncIterator[str]:
        async with self._state.listener.subscribe(self._cluster_id) as notified:
            while (found := await self._load()) is not None:
                notified.clear()
                has_ended = found.row.finished_at is not None
                output = await self._read(found, 0 if has_ended or not self._follow else _WAIT_S)
                events = [] if output is None else self._output_events(output)
                for event in events:
                    yield event
                if events:
                    continue
                if has_ended:
                    for event in self._last_events(found.row):
                        yield event
                if has_ended or not self._follow:
                    return
                if output is not None and output.state != "running":
                    await self._state.run(lambda uow: executions.note_end(uow, self._id))
                if output is None or output.state != "running":
                    await wait_for_event(notified, _PAUSE_S)
                yield KEEP_ALIVE

    async def _load(self) -> Execution | None:
        """Return the execution, or None when the key was closed."""

        def load(uow: UnitOfWork) -> Execution | None:
            found = executions.get(uow.session, self._caller, self._id)
            return found if principals.is_key_valid(uow.session, self._caller.key_id) else None

        return await self._state.run(load)

    async def _read(self, found: Execution, wait_s: float) -> ExecutionOutput | None:
        """Return new output. None if the sandbox has none, or does not answer now."""
        if found.output_in is None or found.row.status == "pending":
            return None
        after = (self._positions["stdout"], self._positions["stderr"])
        try:
            return await self._state.provider.read_execution(found.output_in, self._id, after=after, most=_CHUNK, wait_s=wait_s)
        except SandboxError:
            return None

    def _output_events(self, output: ExecutionOutput) -> list[str]:
        parts: dict[str, OutputPart] = {"stdout": output.stdout, "stderr": output.stderr}
        events = []
        for name, part in parts.items():
            if part.data:
                self._positions[name] = part.begin + len(part.data)
                events.append(self._event("output", {"stream": name, "text": self._decoders[name].decode(part.data)}))
        return events

    def _last_events(self, row: ExecutionRow) -> list[str]:
        rests = {name: decoder.decode(b"", final=True) for name, decoder in self._decoders.items()}
        events = [self._event("output", {"stream": name, "text": text}) for name, text in rests.items() if text]
        facts = {
            "execution_id": row.id,
            "status": row.status,
            "exit_code": row.exit_code,
            "limit": row.limit,
            "stdout_bytes": row.stdout_bytes,
            "stderr_bytes": row.stderr_bytes,
            "error": row.error.facts() if row.error else None,
        }
        return [*events, self._event(f"execution.{row.status}", facts)]

    def _event(self, event: str, data: dict[str, Any]) -> str:
        # Half a character was received but not sent. It is sent again after a reconnect.
        sent = [self._positions[name] - len(self._decoders[name].getstate()[0]) for name in _STREAMS]
        return event_lines(sent[0] * _ID_BASE + sent[1], event, data)
