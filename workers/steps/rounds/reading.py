"""The reading of data by the agents before a training's first round, followed for one poll.

It may take minutes for large shards. A step follows it for a while and writes down how far it is.
The next step asks again, and the agents go on meanwhile.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from api.domain.preparation import NodeReading, PreparationRecord, Stage
from api.domain.training_spec import TrainingSpec
from workers.agent.protocol.common import AgentProblem
from workers.agent.protocol.training import CheckShard, EncodeShard, ShardReport
from workers.agent_client import AgentClient, AgentRefusedError, AgentUnreachableError
from workers.context import Context
from workers.steps.shared import progress
from workers.steps.shared.agent_messages import data_format
from workers.steps.shared.node_snapshot import NodeSnapshot, agent_of

UNREACHABLE = "node_unreachable"
_POLL_S = 20.0
_ASK_S = 2.0
# Each step asks again for what is done already. The answer must not be that it runs.
_LEAST_S = 1.0
_NOTE_S = 1.0
# A read of the disk or the end of a file may take long. An agent that reads nothing is stuck.
_LONGEST_IDLE_S = 300.0
Ask = Callable[[AgentClient, float], Awaitable[ShardReport]]


class StillReadingError(Exception):
    """The poll is over, and agents still read."""

    def __init__(self, record: PreparationRecord) -> None:
        super().__init__(f"{record.progress:.0%} is read")
        self.record = record


class DataReading:
    """One poll of the reading agents of a training. Use it as an async context manager."""

    def __init__(self, context: Context, training_id: str, token: str) -> None:
        self._context = context
        self._training_id = training_id
        self._token = token
        self._ends_at = time.monotonic() + _POLL_S
        self._nodes: dict[str, NodeReading] = {}
        self._noter: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "DataReading":
        self._noter = asyncio.create_task(self._note())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._noter is not None:
            self._noter.cancel()
            await asyncio.gather(self._noter, return_exceptions=True)

    async def check(self, node: NodeSnapshot, request: CheckShard) -> ShardReport:
        """Return the check of a node's shard. Its state is `running` when the poll is over."""
        return await self._follow(node, "check", lambda agent, wait_s: agent.check_shard(request, wait_s))

    async def encode(self, node: NodeSnapshot, request: EncodeShard) -> ShardReport:
        """Return the report on a node's token ids. Its state is `running` when the poll is over."""
        return await self._follow(node, "tokens", lambda agent, wait_s: agent.encode_shard(request, wait_s))

    def require_done(self, reports: list[ShardReport]) -> None:
        """Raises: StillReadingError if agents still read, and no other has found a problem."""
        if any(report.state == "running" for report in reports) and all(report.problem is None for report in reports):
            raise StillReadingError(PreparationRecord(nodes=self._nodes))

    async def _follow(self, node: NodeSnapshot, stage: Stage, ask: Ask) -> ShardReport:
        try:
            agent = await agent_of(self._context, node)
            while True:
                left_s = self._ends_at - time.monotonic()
                report = await ask(agent, max(_LEAST_S, min(left_s, _ASK_S)))
                self._record(stage, report, node.node_id)
                if report.state == "running" and report.idle_seconds > _LONGEST_IDLE_S:
                    return _silent(node)
                if report.state == "done" or left_s <= 0:
                    return report
        except AgentUnreachableError:
            return _silent(node)
        except AgentRefusedError as error:
            return _refused(node, error)

    def _record(self, stage: Stage, report: ShardReport, node_id: str) -> None:
        before = self._nodes.get(node_id)
        # An agent does not know the size before it has begun with a stage.
        total = report.bytes_total or (before.bytes_total if before is not None else 0)
        self._nodes[node_id] = NodeReading(stage=stage, bytes_read=report.bytes_read, bytes_total=total, rows=report.rows)

    async def _note(self) -> None:
        """Write down how far the agents are, until the task is cancelled."""
        last: PreparationRecord | None = None
        while True:
            await asyncio.sleep(_NOTE_S)
            record = PreparationRecord(nodes=dict(self._nodes))
            if record.nodes and record != last:
                await asyncio.to_thread(progress.note_preparation, self._context, self._training_id, self._token, record)
                last = record


async def check_shard(context: Context, node: NodeSnapshot, spec: TrainingSpec) -> ShardReport:
    """Return the check of a node's shard once it is done. The caller limits the time."""
    request = CheckShard(dataset=spec.dataset, data_format=data_format(spec))
    try:
        agent = await agent_of(context, node)
        while (report := await agent.check_shard(request)).state == "running":
            pass
    except AgentUnreachableError:
        return _silent(node)
    except AgentRefusedError as error:
        return _refused(node, error)
    return report


def _refused(node: NodeSnapshot, error: AgentRefusedError) -> ShardReport:
    return ShardReport(node_id=node.node_id, problem=AgentProblem(code=error.code, message=error.message))


def _silent(node: NodeSnapshot) -> ShardReport:
    problem = AgentProblem(code=UNREACHABLE, message="the node's agent does not answer")
    return ShardReport(node_id=node.node_id, problem=problem)
