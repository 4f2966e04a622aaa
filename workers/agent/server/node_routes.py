"""The routes for the other agents of a cluster."""

import asyncio
import tempfile
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workers.agent.peers.auth import require_self
from workers.agent.protocol.aggregation import ExchangeResult
from workers.agent.protocol.common import AgentProblem, StopResult, UploadResult
from workers.agent.protocol.consensus import AuditSegment, ScoreUpdates
from workers.agent.protocol.exchange import FallBackToStar
from workers.agent.protocol.inference import InferTexts
from workers.agent.protocol.secure_aggregation import REQUEST_OF_PHASE, AdvertiseKeys, AskSurvivors, RevealShares, ShareSecrets
from workers.agent.runtime.errors import AgentError
from workers.agent.server.parts import AgentParts
from workers.agent.server.responses import ModelFileResponse, json_response, posted, read_message, round_of, wait_seconds

LARGEST_UPDATE = 8 * 2**30
_ROUND = "/trainings/{training_id}/rounds/{number:int}"
_NOT_EXPECTED = AgentProblem(code="not_expected", message="no update of this node is expected")


class NodeRoutes:
    def __init__(self, parts: AgentParts) -> None:
        self._parts = parts

    def for_aggregator(self) -> list[Route]:
        parts = self._parts
        return [
            Route(f"{_ROUND}/fallback", self._fallback, methods=["POST"]),
            Route("/scores", posted(ScoreUpdates, parts.evaluator.score), methods=["POST"]),
            Route("/audits", posted(AuditSegment, parts.replayer.audit), methods=["POST"]),
            Route(f"{_ROUND}/evidence/{{name}}", self._evidence),
            Route("/inferences", posted(InferTexts, parts.inference_worker.infer), methods=["POST"]),
        ]

    def for_authors(self) -> list[Route]:
        """Messages of a worker about itself: each route checks the author.

        The last route gives other workers this one's parts of an exchange.
        """
        return [
            Route(f"{_ROUND}/updates/{{node_id}}", self._update, methods=["PUT"]),
            Route(f"{_ROUND}/exchanged", self._exchanged, methods=["POST"]),
            Route(f"{_ROUND}/secure/{{phase}}", self._secure, methods=["POST"]),
            Route(f"{_ROUND}/parts/{{name}}", self._part),
            Route(f"{_ROUND}/model", self._new_model),
        ]

    def for_all_nodes(self) -> list[Route]:
        return [Route("/models/{digest}", self._model), Route("/trainings/{training_id}/graphs/{name}", self._graph)]

    async def _fallback(self, request: Request) -> Response:
        fallback = await read_message(FallBackToStar, request)
        training_id, number = round_of(request)
        self._parts.log("fallback", round=number, reason=fallback.reason)
        return json_response(StopResult(stopped=self._parts.worker.fall_back(training_id, number)))

    async def _evidence(self, request: Request) -> Response:
        name = request.path_params["name"]
        return ModelFileResponse(await asyncio.to_thread(self._parts.replayer.evidence, *round_of(request), name))

    async def _update(self, request: Request) -> Response:
        node_id, aggregator = request.path_params["node_id"], self._parts.aggregator
        training_id, number = round_of(request)
        require_self(request, node_id)
        if not aggregator.expects(training_id, number, node_id):
            return json_response(UploadResult(accepted=False, bytes=0, problem=_NOT_EXPECTED))
        folder = self._parts.store.updates(training_id)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as private:
            path, started = Path(private) / "update", time.perf_counter()
            await _write_body(request, path)
            seconds = time.perf_counter() - started
            return json_response(await aggregator.receive(training_id, number, node_id, path, seconds))

    async def _exchanged(self, request: Request) -> Response:
        result = await read_message(ExchangeResult, request)
        require_self(request, result.report.node_id)
        return json_response(await self._parts.aggregator.accept_exchange(*round_of(request), result))

    async def _secure(self, request: Request) -> Response:
        secure_round = self._parts.aggregator.secure(*round_of(request))
        wait_s, phase = wait_seconds(request), request.path_params["phase"]
        if phase not in REQUEST_OF_PHASE:
            raise AgentError("unknown_route", "a secure sum has no such phase", 404)
        message = await read_message(REQUEST_OF_PHASE[phase], request)
        require_self(request, message.node_id)
        match message:
            case AdvertiseKeys():
                return json_response(await secure_round.add_keys(message, wait_s))
            case ShareSecrets():
                return json_response(await secure_round.add_shares(message, wait_s))
            case AskSurvivors():
                return json_response(await secure_round.report_survivors(message, wait_s))
            case RevealShares():
                return json_response(await secure_round.add_revealed_shares(message, wait_s))

    async def _part(self, request: Request) -> Response:
        name, outbox = request.path_params["name"], self._parts.worker.outbox
        return ModelFileResponse(await outbox.find(round_of(request), name, wait_seconds(request)))

    async def _new_model(self, request: Request) -> Response:
        """Answer with the model of a round once there is one. No content: ask again."""
        training_id, number = round_of(request)
        digest = await self._parts.aggregator.new_model(training_id, number, wait_seconds(request))
        if digest is None:
            return Response(status_code=204)
        return ModelFileResponse(self._parts.store.require(digest))

    async def _graph(self, request: Request) -> Response:
        path = self._parts.store.graph_path(request.path_params["training_id"], request.path_params["name"])
        if not path.is_file():
            raise AgentError("unknown_graph", "this agent has no such graph", 404)
        return ModelFileResponse(path)

    async def _model(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        return ModelFileResponse(await self._parts.store.wait_for(digest, wait_seconds(request)))


async def _write_body(request: Request, path: Path) -> None:
    """Raises: AgentError `too_large` (413)."""
    size = 0
    with path.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > LARGEST_UPDATE:
                raise AgentError("too_large", "the update is too large", 413)
            file.write(chunk)
