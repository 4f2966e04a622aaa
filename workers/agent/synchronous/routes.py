"""The HTTP routes of synchronous rounds, at workers and aggregators."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.agent.peers.auth import require_self
from workers.agent.protocol.common import Message, StopResult
from workers.agent.protocol.storable import dump
from workers.agent.protocol.synchronous import AttemptResult, BeginAttempt, StartSteps
from workers.agent.runtime.errors import AgentError
from workers.agent.synchronous.coordinator import SyncCoordinator
from workers.agent.synchronous.worker import SyncWorker

# A share is token ids. No file of texts holds a gibibyte of them.
_LARGEST_SHARE = 2**30


class SynchronousRoutes:
    def __init__(self, worker: SyncWorker, coordinator: SyncCoordinator) -> None:
        self._worker = worker
        self._coordinator = coordinator

    def for_aggregator(self) -> list[Route]:
        return [
            Route("/synchronous/begin", self._begin, methods=["POST"]),
            Route("/synchronous/{attempt}/share", self._share, methods=["POST"]),
            Route("/synchronous/go", self._start_steps, methods=["POST"]),
            Route("/synchronous/{attempt}", self._alive),
        ]

    def for_authors(self) -> list[Route]:
        """Each route checks that the caller is the node that it names."""
        return [
            Route("/synchronous/{attempt}/vectors/{tag}/{sender}", self._vector, methods=["PUT"]),
            Route("/synchronous/ended", self._ended, methods=["POST"]),
        ]

    async def _begin(self, request: Request) -> Response:
        return _json(await self._worker.begin(BeginAttempt.model_validate_json(await request.body())))

    async def _alive(self, request: Request) -> Response:
        return _json(await self._worker.alive(request.path_params["attempt"]))

    async def _share(self, request: Request) -> Response:
        body = await _bounded(request, _LARGEST_SHARE)
        return _json(await self._worker.store_share(request.path_params["attempt"], body))

    async def _start_steps(self, request: Request) -> Response:
        return _json(await self._worker.start_steps(StartSteps.model_validate_json(await request.body())))

    async def _vector(self, request: Request) -> Response:
        require_self(request, request.path_params["sender"])
        attempt = request.path_params["attempt"]
        inbox = self._worker.inbox(attempt) or self._coordinator.inbox(attempt)
        if inbox is None:
            raise AgentError("unknown_attempt", "this agent is not in that attempt", 409)
        body = await _bounded(request, inbox.limit)
        inbox.put(request.path_params["tag"], request.path_params["sender"], body)
        return _json(StopResult(stopped=False))

    async def _ended(self, request: Request) -> Response:
        ended = AttemptResult.model_validate_json(await request.body())
        require_self(request, ended.report.node_id)
        return _json(await self._coordinator.record_end(ended))


async def _bounded(request: Request, limit: int) -> bytes:
    """Raises: AgentError `too_large` (413) for a body of more than `limit` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise AgentError("too_large", "the body is larger than it can be", 413)
    return bytes(body)


def _json(message: Message) -> Response:
    return Response(dump(message), media_type="application/json")
