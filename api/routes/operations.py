import asyncio
from typing import Any

import anyio.to_thread
import redis
from alembic.config import Config
from alembic.script import ScriptDirectory
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.deps import AppState, State
from api.domain.sandboxes import SandboxError
from api.paths import ALEMBIC_INI

router = APIRouter(tags=["operations"])
_CHECK_TIMEOUT_S = 3.0


@router.get("/healthz", operation_id="get_health", summary="Is the process alive")
async def get_health() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Can requests be served",
    responses={503: {"description": "Not ready; says which part is not"}},
)
async def get_readiness(state: State) -> JSONResponse:
    """Asks the database, the migrations, the broker and the sandbox provider. Only the first two must be up to serve."""
    database, broker, provider = await asyncio.gather(_database(state), _broker(state), _provider(state))
    ready = bool(database["ok"])
    body = {"ready": ready, "database": database, "broker": broker, "sandboxes": provider}
    return JSONResponse(body, 200 if ready else 503)


@router.get("/metrics", operation_id="get_metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def get_metrics(request: Request) -> Response:
    content = await anyio.to_thread.run_sync(generate_latest, request.app.state.registry)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


async def _database(state: AppState) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            current = await state.work(
                lambda uow: uow.session.execute(text("SELECT version_num FROM alembic_version")).scalar()
            )
    except (SQLAlchemyError, TimeoutError):
        return {"ok": False, "detail": "cannot be reached, or has no tables"}
    head = ScriptDirectory.from_config(Config(ALEMBIC_INI)).get_current_head()
    return {"ok": current == head, "migration": current, "expected_migration": head}


async def _broker(state: AppState) -> dict[str, Any]:
    def ping() -> bool:
        client = redis.Redis.from_url(state.settings.redis_url, socket_timeout=1, socket_connect_timeout=1)
        try:
            return bool(client.ping())
        finally:
            client.close()

    try:
        return {"ok": await anyio.to_thread.run_sync(ping)}
    except redis.RedisError:
        return {"ok": False, "detail": "cannot be reached; work is accepted and done when it is back"}


async def _provider(state: AppState) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            found = await state.provider.status()
    except (SandboxError, TimeoutError):
        return {"ok": False, "detail": "cannot be reached"}
    return {"ok": found.ok, "kind": found.kind, "isolation": found.isolation, "warning": found.warning}
