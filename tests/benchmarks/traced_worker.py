"""A Celery worker of the product that also writes down when it does what, for `round_timeline`.

    ROUND_TRACE=trace.jsonl celery -A tests.benchmarks.traced_worker worker

Each line is one interval: its kind, its start and its end, both in seconds of the wall clock. A
line for an answer of an agent has the figures that the agent measured.
"""

import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TextIO

from httpcore._async.connection import AsyncHTTPConnection
from pydantic import BaseModel

from api.store.database import Database, UnitOfWork
from workers import steps
from workers.agent.protocol.aggregation import AggregateReport
from workers.agent.protocol.training import ReplicateResult, TrainReport
from workers.agent_client import AgentClient
from workers.app import app as product_app
from workers.context import Context

_trace: TextIO = open(os.environ["ROUND_TRACE"], "a", buffering=1)
app = product_app


def _write(kind: str, started: float, **facts: object) -> None:
    _trace.write(json.dumps({"kind": kind, "start": started, "end": time.time(), **facts}) + "\n")


def _trace_transactions() -> None:
    original = Database.unit_of_work

    @contextmanager
    def unit_of_work(self: Database) -> Iterator[UnitOfWork]:
        started = time.time()
        with original(self) as uow:
            yield uow
        _write("transaction", started)

    Database.unit_of_work = unit_of_work  # type: ignore[method-assign]


def _trace_steps() -> None:
    original = steps.trainings.advance

    def advance(context: Context, training_id: str) -> None:
        started = time.time()
        original(context, training_id)
        _write("step", started)

    steps.trainings.advance = advance


def _trace_posts() -> None:
    original: Callable[..., Awaitable[Any]] = AgentClient._call

    @wraps(original)
    async def call(self: AgentClient, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        started = time.time()
        answer = await original(self, method, path, *arguments, **options)
        _write("post", started, path=f"{method} {path.split('?')[0]}", **_figures(answer))
        return answer

    AgentClient._call = call  # type: ignore[method-assign]


def _trace_connects() -> None:
    original: Callable[..., Awaitable[Any]] = AsyncHTTPConnection._connect

    async def connect(*arguments: Any) -> Any:
        started = time.time()
        stream = await original(*arguments)
        _write("connect", started)
        return stream

    AsyncHTTPConnection._connect = connect  # type: ignore[method-assign, assignment]


def _figures(answer: BaseModel) -> dict[str, Any]:
    """Return what an agent measured, from an answer at the end of its work."""
    match answer:
        case TrainReport(state="done"):
            links = [*answer.links, *(answer.replica.links if answer.replica is not None else ())]
            pulls = [link.seconds for link in links]
            found = {"round": answer.round, "pulls": pulls, "pushes": [answer.push_seconds], "training": answer.train_seconds}
        case AggregateReport(state="done"):
            found = {"round": answer.round, "averaging": answer.aggregate_seconds}
            if answer.validation is not None:
                found["evaluation"] = answer.validation.seconds
        case ReplicateResult():
            found = {"pulls": [link.seconds for link in answer.links]}
        case _:
            found = {}
    return found


_trace_transactions()
_trace_steps()
_trace_posts()
_trace_connects()
