"""The control plane's HTTP client of one agent.

Every call has a timeout. A call to a lost agent fails and never hangs.
"""

import asyncio
import hmac
from functools import partial
from typing import Any, TypeVar

import httpx
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ConfigDict, SecretStr

from api.domain import ids
from api.domain.sandboxes import Endpoint
from api.runtime import tracing
from workers.agent.peers.tokens import CONTROL_PLANE, Caller, issue, with_tokens
from workers.agent.protocol import storable
from workers.agent.protocol.admin import AgentHealth
from workers.agent.protocol.aggregation import AggregateReport, AggregateRound, DropWorkers
from workers.agent.protocol.common import StopResult
from workers.agent.protocol.consensus import RequestVote, VoteResult
from workers.agent.protocol.exports import ExportModel, ExportResult
from workers.agent.protocol.graphs import FetchGraphs, WriteGraphs, WrittenGraphs
from workers.agent.protocol.inference import (
    DescribeInput,
    EvaluateModel,
    EvaluationResult,
    InputDescription,
    PredictionProgress,
    PredictionResult,
    PredictTexts,
)
from workers.agent.protocol.training import (
    CheckShard,
    EncodeShard,
    ImportModel,
    ImportModelResult,
    InitTraining,
    InitTrainingResult,
    ReplicateModel,
    ReplicateResult,
    ShardReport,
    TrainReport,
    TrainRound,
)
from workers.network import AgentConnections

_CONNECT_S = 5.0
# How much longer than its wait a long poll may take.
_REPORT_GRACE_S = 10.0
# Postgres stores at most 255 MiB in one JSON value.
_LARGEST_ANSWER = 200 * 2**20
_LONGEST_CODE = 100
_LONGEST_MESSAGE = 2_000
# How a call fails whose connection was ended while it was idle.
_STALE = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
T = TypeVar("T", bound=BaseModel)


def _route(path: str) -> str:
    """Return the path without its query, with `{id}` and `{number}` for what differs."""
    parts = path.partition("?")[0].split("/")
    return "/".join("{number}" if part.isdecimal() else "{id}" if ids.field_of(part) else part for part in parts)


class _Problem(BaseModel):
    """An agent's error."""

    model_config = ConfigDict(strict=True)

    code: str
    message: str


class AgentCallError(Exception):
    """An agent's call failed."""


class AgentUnreachableError(AgentCallError):
    """The agent does not answer.

    It is dead, its sandbox is gone, or the connection is broken.
    """


class AgentRefusedError(AgentCallError):
    """The agent answered with an error. `code` and `message` are from the agent."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


class ClusterKeys:
    """The keys of a cluster's agents.

    They are derived from the deployment's secret, so that they are stored nowhere.
    """

    def __init__(self, secret: SecretStr, cluster_id: str) -> None:
        self._secret = b"agent-key:" + secret.get_secret_value().encode()
        self._cluster_id = cluster_id

    def key(self, node_id: str) -> str:
        """Return the key of an agent."""
        return hmac.digest(self._secret, f"{self._cluster_id}/{node_id}".encode(), "sha256").hex()

    def token_at(self, node_id: str, caller: Caller = CONTROL_PLANE) -> str:
        """Return the caller's token at an agent."""
        return issue(self.key(node_id), caller)


class _ReuseTrace:
    """Notices whether a request opened a connection."""

    def __init__(self) -> None:
        self.reused = True

    async def __call__(self, event: str, _: dict[str, Any]) -> None:
        if event.startswith("connection.connect"):
            self.reused = False


class AgentClient:
    """Async client of one agent, over connections that other clients share.

    Each peer in a message gets the agent's token at that peer.
    """

    def __init__(self, agent: Caller, endpoint: Endpoint, keys: ClusterKeys, connections: AgentConnections) -> None:
        """`agent` is the caller that the agent's peers will see."""
        self.node_id = agent.node_id
        self._token_at = partial(keys.token_at, caller=agent)
        self._url = endpoint.url
        self._headers = {**endpoint.headers, "Authorization": f"Bearer {keys.token_at(self.node_id)}"}
        self._http = connections.client(endpoint.uds)

    async def health(self) -> AgentHealth:
        return await self._call("GET", "/health", AgentHealth, timeout_s=5)

    async def check_shard(self, request: CheckShard, wait_s: float = 20) -> ShardReport:
        """Begin or find the check. Return its result, or after `wait_s` how far it is."""
        path, timeout_s = f"/shards/check?wait={wait_s:g}", wait_s + _REPORT_GRACE_S
        return await self._call("POST", path, ShardReport, request, timeout_s=timeout_s)

    async def encode_shard(self, request: EncodeShard, wait_s: float = 20) -> ShardReport:
        """Begin or find the writing of token ids, as `check_shard`."""
        path, timeout_s = f"/shards/encode?wait={wait_s:g}", wait_s + _REPORT_GRACE_S
        return await self._call("POST", path, ShardReport, request, timeout_s=timeout_s)

    async def import_model(self, request: ImportModel) -> ImportModelResult:
        return await self._call("POST", "/initial-models", ImportModelResult, request, timeout_s=300)

    async def init_training(self, request: InitTraining) -> InitTrainingResult:
        return await self._call("POST", "/trainings", InitTrainingResult, request, timeout_s=300)

    async def aggregate(self, request: AggregateRound) -> AggregateReport:
        return await self._call("POST", "/rounds/aggregate", AggregateReport, request)

    async def train(self, request: TrainRound, wait_s: float) -> TrainReport:
        """Begin or find a worker's round. Return its report once it is settled, or after `wait_s`.

        A worker that is done has then tried to fetch the round's new model.
        """
        path, timeout_s = f"/rounds/train?wait={wait_s:g}", wait_s + _REPORT_GRACE_S
        return await self._call("POST", path, TrainReport, request, timeout_s=timeout_s)

    async def train_report(self, training_id: str, number: int, wait_s: float) -> TrainReport:
        return await self._call(
            "GET",
            f"/trainings/{training_id}/rounds/{number}?role=worker&wait={wait_s:g}",
            TrainReport,
            timeout_s=wait_s + _REPORT_GRACE_S,
        )

    async def aggregate_report(self, training_id: str, number: int, wait_s: float) -> AggregateReport:
        return await self._call(
            "GET",
            f"/trainings/{training_id}/rounds/{number}?role=aggregator&wait={wait_s:g}",
            AggregateReport,
            timeout_s=wait_s + _REPORT_GRACE_S,
        )

    async def drop(self, training_id: str, number: int, node_ids: list[str]) -> AggregateReport:
        return await self._call(
            "POST", f"/trainings/{training_id}/rounds/{number}/drop", AggregateReport, DropWorkers(node_ids=node_ids)
        )

    async def stop(self, training_id: str) -> StopResult:
        return await self._call("POST", f"/trainings/{training_id}/stop", StopResult)

    async def replicate_model(self, request: ReplicateModel) -> ReplicateResult:
        return await self._call("POST", "/models", ReplicateResult, request, timeout_s=120)

    async def evaluate(self, request: EvaluateModel) -> EvaluationResult:
        return await self._call("POST", "/evaluations", EvaluationResult, request, timeout_s=600)

    async def vote(self, request: RequestVote) -> VoteResult:
        return await self._call("POST", "/ballots", VoteResult, request, timeout_s=10)

    async def predict(self, request: PredictTexts) -> PredictionResult:
        return await self._call("POST", "/predictions", PredictionResult, request, timeout_s=600)

    async def describe_input(self, input_data: str) -> InputDescription:
        request = DescribeInput(input_data=input_data)
        return await self._call("POST", "/inputs/describe", InputDescription, request, timeout_s=300)

    async def prediction_progress(self, prediction_id: str) -> PredictionProgress:
        return await self._call("GET", f"/predictions/{prediction_id}", PredictionProgress, timeout_s=5)

    async def cancel_prediction(self, prediction_id: str) -> StopResult:
        return await self._call("POST", f"/predictions/{prediction_id}/cancel", StopResult, timeout_s=5)

    async def export(self, request: ExportModel) -> ExportResult:
        return await self._call("POST", "/exports", ExportResult, request, timeout_s=600)

    async def write_graphs(self, request: WriteGraphs) -> WrittenGraphs:
        return await self._call("POST", "/graphs/write", WrittenGraphs, request, timeout_s=120)

    async def fetch_graphs(self, request: FetchGraphs) -> WrittenGraphs:
        return await self._call("POST", "/graphs/fetch", WrittenGraphs, request, timeout_s=120)

    async def _call(
        self, method: str, path: str, answer: type[T], body: BaseModel | None = None, *, timeout_s: float = 30
    ) -> T:
        try:
            # The client's timeout counts between two bytes. A slow agent could block for ever.
            async with asyncio.timeout(timeout_s):
                success, status, content = await self._exchange(method, path, body, timeout_s)
        except (httpx.HTTPError, TimeoutError) as error:
            raise AgentUnreachableError(f"{self.node_id}: {type(error).__name__}") from None
        if success:
            try:
                return storable.load(content, answer)
            except ValueError:
                # Without the cause: it quotes the answer, and a log of it would contain texts.
                raise AgentRefusedError("bad_answer", f"{self.node_id} sent an answer of the wrong form") from None
        raise self._failure(status, content)

    async def _exchange(self, method: str, path: str, body: BaseModel | None, timeout_s: float) -> tuple[bool, int, bytes]:
        """Send a request. Return whether it succeeded, the HTTP status and the body of the answer.

        Raises:
            AgentRefusedError: `answer_too_large`.
        """
        with tracing.span(f"agent {method} {_route(path)}", SpanKind.CLIENT, fields={"node_id": self.node_id}) as span:
            success, status, content = await self._send(method, path, body, timeout_s)
            span.set_attribute("http.response.status_code", status)
            return success, status, content

    async def _send(self, method: str, path: str, body: BaseModel | None, timeout_s: float) -> tuple[bool, int, bytes]:
        reuse = _ReuseTrace()
        traced = {tracing.HEADER: header} if (header := tracing.header()) else {}
        request = self._http.build_request(
            method,
            self._url + path,
            content=with_tokens(body, self._token_at).model_dump_json() if body else None,
            headers={**self._headers, **traced, **({"Content-Type": "application/json"} if body else {})},
            timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
            extensions={"trace": reuse},
        )
        try:
            response = await self._http.send(request, stream=True)
        except _STALE:
            if not reuse.reused:
                raise
            # The other side ended an idle connection. Every call may be repeated.
            response = await self._http.send(request, stream=True)
        try:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > _LARGEST_ANSWER:
                    raise AgentRefusedError("answer_too_large", f"{self.node_id} sent more than {_LARGEST_ANSWER} bytes")
        finally:
            await response.aclose()
        return response.is_success, response.status_code, bytes(content)

    def _failure(self, status: int, content: bytes) -> AgentCallError:
        try:
            problem = storable.load(content, _Problem)
        except ValueError:
            # The answer is not from an agent (the codes of a provider are numbers): it is
            # unreachable.
            return AgentUnreachableError(f"{self.node_id}: HTTP {status}")
        return AgentRefusedError(problem.code[:_LONGEST_CODE], problem.message[:_LONGEST_MESSAGE])
