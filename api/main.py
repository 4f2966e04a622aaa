"""The API as an ASGI application."""

import asyncio
import contextlib
import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from fastapi import Depends, FastAPI

from api.domain.sandboxes import SandboxProvider
from api.http import openapi, problems
from api.http.auth import check_open_query
from api.http.compression import CompressionMiddleware
from api.http.deps import AppState
from api.http.docs_page import page as docs_page
from api.http.metrics.access import MetricsPort
from api.http.metrics.page import MetricsPage
from api.http.metrics.parts import PartCollector
from api.http.metrics.process import ProcessMetrics
from api.http.metrics.requests import RequestMetrics
from api.http.metrics.rows import RowCollector
from api.http.middleware import RequestMiddleware
from api.http.ratelimit import RateLimiter
from api.http.readiness import ReadinessChecker
from api.routes import (
    audit,
    clusters,
    dashboard,
    event_pages,
    events,
    execution_events,
    executions,
    keys,
    models,
    nodes,
    operations,
    predictions,
    projects,
    sandboxes,
    searches,
    trainings,
    webhooks,
)
from api.routes import problems as problem_routes
from api.runtime import tracing
from api.runtime.answer_cache import AnswerCache
from api.runtime.audit_writer import AuditWriter
from api.runtime.dispatch import CeleryDispatcher
from api.runtime.key_cache import KeyCache
from api.runtime.listener import Listener
from api.runtime.log_setup import set_up_logging
from api.runtime.metrics.registries import Registries
from api.runtime.single_flight import SingleFlight
from api.runtime.transactions import UseCaseRunner
from api.settings import Settings
from api.store.database import Database, make_engine

# A use case has a few statements, each with its own timeout. A slow database must not count as a
# frozen one.
_STATEMENTS = 1.5


def create_app(settings: Settings) -> FastAPI:
    """Build the app. Its connections open when it starts and close when it ends."""
    registries = Registries.make()
    process_metrics = ProcessMetrics(registries.own)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = Database(make_engine(settings), CeleryDispatcher(settings))
        # Imported by name: the API depends on the interface, not on an implementation.
        provider: SandboxProvider = pkgutil.resolve_name(settings.sandbox_provider)(settings)
        listener = Listener(settings.database_url)
        listener.on_waiting = process_metrics.held_requests.inc
        listening = asyncio.create_task(listener.run())
        use_cases = UseCaseRunner(database, settings.database_pool_size, _STATEMENTS * settings.database_statement_timeout_s)
        use_cases.on_waiting = process_metrics.waiting_use_cases.inc
        watching = asyncio.create_task(process_metrics.watch_event_loop())
        readiness = ReadinessChecker(settings, use_cases, provider)
        collectors = (
            RowCollector(use_cases, per_training=settings.shows_trainings),
            PartCollector(readiness, _folders(settings)),
        )
        for collector in collectors:
            registries.shown.register(collector)
        audit_writer, rate_limiter = AuditWriter(use_cases), RateLimiter(settings)
        writing = asyncio.create_task(audit_writer.run())
        stream_limiter = anyio.CapacityLimiter(settings.max_streams)
        app.state.flow_nexus = AppState(
            settings,
            use_cases,
            listener,
            provider,
            stream_limiter,
            audit_writer,
            rate_limiter,
            KeyCache(settings, use_cases, listener),
            SingleFlight(),
            AnswerCache(listener),
            readiness,
            process_metrics,
            MetricsPage(registries.shown, readiness),
        )
        try:
            yield
        finally:
            for task in (listening, writing, watching):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await audit_writer.aclose()
            await rate_limiter.aclose()
            await provider.aclose()
            for collector in collectors:
                registries.shown.unregister(collector)
            await asyncio.to_thread(use_cases.close)
            database.dispose()
            await asyncio.to_thread(tracing.shut_down)

    app = FastAPI(
        title="Flow Nexus",
        version=openapi.VERSION,
        summary="Federated training across isolated sandboxes",
        description=openapi.DESCRIPTION,
        lifespan=lifespan,
        dependencies=[Depends(check_open_query)],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_tags=openapi.TAGS,
        # Its own traces have paths as clients write them, and its logs the messages of errors.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    for module in (
        clusters,
        nodes,
        trainings,
        searches,
        predictions,
        models,
        sandboxes,
        executions,
        execution_events,
        events,
        event_pages,
        keys,
        projects,
        webhooks,
        audit,
        operations,
        problem_routes,
    ):
        app.include_router(module.router)
    if settings.dashboard:
        app.include_router(dashboard.router)
    if settings.docs:
        docs_page.install(app)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(CompressionMiddleware)
    app.add_middleware(MetricsPort, port=settings.metrics_port)
    app.add_middleware(RequestMiddleware, max_body_bytes=settings.max_body_bytes, metrics=RequestMetrics(registries.own))
    return app


def _folders(settings: Settings) -> dict[str, Path]:
    """Return the folders whose disk can become full."""
    folders = {"models": settings.models_dir, "logs": settings.logs_dir}
    return {name: folder for name, folder in folders.items() if folder is not None}


def create_app_from_env() -> FastAPI:
    settings = Settings()
    set_up_logging(settings.log_level, settings.log_format)
    tracing.set_up("flow-nexus-api", settings.otlp_endpoint)
    return create_app(settings)
