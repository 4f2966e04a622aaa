from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from api.domain.errors import UnavailableError
from api.http.deps import State
from api.http.metrics.access import check_token
from api.http.problems import MEDIA_TYPE
from api.routes.common import errors
from api.schemas.operations import Health, Readiness

_NOT_READY = {
    MEDIA_TYPE: {
        "schema": {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"$ref": "#/components/schemas/Readiness"}]},
    }
}
router = APIRouter(tags=["operations"])


@router.get("/healthz", operation_id="get_health", summary="Check that the process is alive")
async def get_health() -> Health:
    """Check nothing that the process depends on: a restart would not repair that."""
    return Health()


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Check that every part works",
    responses={503: {"description": "Not ready. The problem also has the fields of `Readiness`", "content": _NOT_READY}},
)
async def get_readiness(state: State) -> Readiness:
    """Call the database, the broker and the sandbox provider, and check that steps are taken.

    A part that does not answer within five seconds is down. The answer is at most two seconds old.
    While a part is down, requests that do not need it are still served.
    """
    readiness = await state.readiness.check()
    if not readiness.ready:
        parts = readiness.model_dump(mode="json")
        down = [name for name, part in parts.items() if isinstance(part, dict) and not part["ok"]]
        detail = f"These parts do not work: {', '.join(down)}."
        raise UnavailableError("service_not_ready", detail, members=parts)
    return readiness


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Prometheus metrics",
    response_class=PlainTextResponse,
    responses=errors(401, open_to_all=True),
)
async def get_metrics(request: Request, state: State) -> Response:
    """Return metrics in Prometheus's text format: requests by operation, rows by status, active
    trainings.

    With several processes, the counts are those of all, and there are no metrics of a process.
    The settings of the deployment say where they are served, to whom, and whether ids are shown.
    """
    check_token(state.settings, request.headers.get("authorization"))
    return Response(await state.metrics_page.text(), media_type=CONTENT_TYPE_LATEST)
