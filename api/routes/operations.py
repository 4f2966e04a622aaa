import asyncio

import anyio.to_thread
import redis
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.domain.sandboxes import SandboxError
from api.http.deps import AppState, State
from api.http.metrics import forget_dead_processes
from api.schemas.operations import BrokerState, DatabaseState, Health, ProviderState, Readiness
from api.store.schema import newest_revision

router = APIRouter(tags=["operations"])
_CHECK_TIMEOUT_S = 3.0


@router.get("/healthz", operation_id="get_health", summary="Check that the process is alive")
async def get_health() -> Health:
    """Check nothing that the process depends on: a restart would not repair that."""
    return Health()


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Check that requests can be served",
    responses={503: {"description": "Not ready; the body names the part", "model": Readiness}},
)
async def get_readiness(state: State, response: Response) -> Readiness:
    """Check the database, the migrations, the broker and the sandbox provider.

    Only the first two are required.
    """
    database, broker, provider = await asyncio.gather(_database(state), _broker(state), _provider(state))
    if not database.ok:
        response.status_code = 503
    return Readiness(ready=database.ok, database=database, broker=broker, sandboxes=provider)


@router.get("/metrics", operation_id="get_metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def get_metrics(request: Request) -> Response:
    """Return metrics in Prometheus's text format: the process, requests by operation, rows by
    status.

    With several processes, the counts are those of all, and there are no metrics of a process.
    No metric names a client or a resource.
    """
    await anyio.to_thread.run_sync(forget_dead_processes)
    content = await anyio.to_thread.run_sync(generate_latest, request.app.state.registry)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


async def _database(state: AppState) -> DatabaseState:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            current = await state.run(lambda uow: uow.session.execute(text("SELECT version_num FROM alembic_version")).scalar())
    except (SQLAlchemyError, TimeoutError):
        return DatabaseState(ok=False, detail="cannot be reached, or has no tables")
    head = newest_revision()
    return DatabaseState(ok=current == head, migration=current, expected_migration=head)


async def _broker(state: AppState) -> BrokerState:
    def ping() -> bool:
        client = redis.Redis.from_url(state.settings.redis_url, socket_timeout=1, socket_connect_timeout=1)
        try:
            return bool(client.ping())
        finally:
            client.close()

    try:
        return BrokerState(ok=await anyio.to_thread.run_sync(ping))
    except redis.RedisError:
        return BrokerState(ok=False, detail="cannot be reached; the sweep enqueues due rows instead")


async def _provider(state: AppState) -> ProviderState:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            status = await state.provider.status()
    except (SandboxError, TimeoutError):
        return ProviderState(ok=False, warning="the sandbox provider cannot be reached")
    return ProviderState(ok=status.ok, kind=status.kind, isolation=status.isolation, warning=status.warning)
