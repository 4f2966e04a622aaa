"""Audits: the aggregator asks some workers to repeat one segment of their round.

The workers are drawn when all commitments are in. A worker passes with three states:

- the start and the end of the segment, with the digests of its commitment (tensors.state_digest)
- the state after one step of the segment. The audit draws that step.

It also passes only with the fingerprints of all steps, which the commitment's trace binds. Digests
alone can be repeated without the states. A worker that invented its chain has no states. A worker
that kept only the digests must repeat the segment. The states must also be no farther apart than
the optimizer can move in that number of steps.

What an audit proves: the worker can reproduce, step by step, the sequence that it committed to
before it was asked. It does not prove that the steps came from data. Jia et al. (IEEE S&P 2021,
arXiv:2103.05633) let the verifier repeat steps on the prover's data. No verifier has that data
here. So a patient attacker could invent a sequence of small steps and replay it. The committee
measures whether a sequence improves the model (committee.py). States are compared bit by bit: the
replay runs on the machine that trained.

Cost in privacy: the aggregator sees three states of an audited worker's round beside its update.
"""

import asyncio
import hashlib
import json
import random
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.agent.aggregator.consensus.plausible import too_far
from workers.agent.aggregator.round_state import RoundState
from workers.agent.context import AgentContext
from workers.agent.proof_of_learning.trace import FingerprintSampler, trace_of
from workers.agent.protocol.aggregation import AggregateRound
from workers.agent.protocol.common import Peer
from workers.agent.protocol.consensus import AuditRecord, AuditResult, AuditSegment
from workers.agent.protocol.training import Commitment
from workers.agent.runtime.errors import AgentError
from workers.agent.storage import tensors
from workers.agent.updates.validation import read_sound_state

_SHARE = 4
_WITHIN_S = 120.0
# The evidence is ready before the answer comes.
_FETCH_S = 5.0
_STATES = ("start", "middle", "end")
_NOT_REPRODUCED = "its replay of a committed segment does not give what was committed to"


@dataclass(frozen=True, slots=True)
class AuditTask:
    """One worker's task: repeat `segment`, and show the state after `step` of its steps."""

    segment: int
    step: int


@dataclass(frozen=True, slots=True)
class AuditedUpdate:
    """A worker's update and commitment, and what the audit asks of it. `path` is a whole model."""

    worker: Peer
    path: Path
    commitment: Commitment
    task: AuditTask
    within_s: float

    @property
    def steps(self) -> int:
        """Steps of the segment, by the commitment."""
        return self.commitment.steps[self.task.segment]

    @property
    def is_last_segment(self) -> bool:
        return self.commitment.segments[self.task.segment] == self.commitment.segments[-1]


def draw(commitments: Mapping[str, Commitment], nonce: str) -> dict[str, AuditTask]:
    """Draw a quarter of the workers, at least one, each with its task.

    The draw follows from all roots, and from a nonce that is made after the roots have arrived.
    """
    roots = sorted((node_id, commitment.root) for node_id, commitment in commitments.items())
    seed = hashlib.sha256(json.dumps([roots, nonce]).encode()).hexdigest()
    generator = random.Random(seed)  # noqa: S311 - the nonce is the secret; who knows it can repeat the draw
    chosen = generator.sample(sorted(commitments), max(1, len(commitments) // _SHARE))
    tasks: dict[str, AuditTask] = {}
    for node_id in chosen:
        steps = commitments[node_id].steps
        segment = generator.choice([index for index, count in enumerate(steps) if count])
        # The step lies inside the segment, where no whole state was digested. It lies far from the
        # ends: two states that are one step apart would show the gradient of a single batch.
        margin = max(1, steps[segment] // 4)
        tasks[node_id] = AuditTask(segment, generator.randint(margin, max(margin, steps[segment] - margin)))
    return tasks


class Auditor:
    def __init__(self, context: AgentContext) -> None:
        self._store = context.store
        self._peers = context.peers
        self._log = context.log

    async def audit(self, round_state: RoundState, frozen: Collection[str]) -> list[AuditRecord]:
        """Audit some of the workers whose updates are held, at the same time."""
        commitments = {
            node_id: update.report.commitment
            for node_id, update in round_state.held.items()
            if update.report.commitment is not None
        }
        if not commitments:
            return []
        nonce = secrets.token_hex(16)
        peers = {peer.node_id: peer for peer in round_state.request.workers}
        audits = []
        for node_id, task in sorted(draw(commitments, nonce).items()):
            held = round_state.held[node_id]
            within_s = max(_WITHIN_S, 2 * (held.report.train_seconds or 0.0))
            update = AuditedUpdate(peers[node_id], held.path, commitments[node_id], task, within_s)
            audits.append(self._audit(round_state.request, update, frozen, nonce))
        return list(await asyncio.gather(*audits))

    async def _audit(self, request: AggregateRound, update: AuditedUpdate, frozen: Collection[str], nonce: str) -> AuditRecord:
        node_id, task, seconds = update.worker.node_id, update.task, None
        try:
            async with asyncio.timeout(update.within_s):
                answer = await self._ask(request, update, nonce)
                seconds = answer.seconds
                fault = await self._fault(request, update, frozen, answer)
        except (AgentError, TimeoutError) as error:
            code = error.code if isinstance(error, AgentError) else "too_slow"
            fault = f"it did not answer for a committed segment ({code})"
        if fault is not None:
            self._log("audit_failed", node=node_id, segment=task.segment)
        return AuditRecord(
            worker=node_id,
            segment=task.segment,
            step=task.step,
            passed=fault is None,
            reason=fault,
            seconds=seconds,
            nonce=nonce,
        )

    async def _ask(self, request: AggregateRound, update: AuditedUpdate, nonce: str) -> AuditResult:
        question = AuditSegment(
            training_id=request.training_id,
            round=request.round,
            segment=update.task.segment,
            steps=update.steps,
            step=update.task.step,
            nonce=nonce,
        )
        answer = await self._peers.ask(update.worker, "/audits", question, AuditResult, within_s=update.within_s)
        if answer.nonce != nonce:
            raise AgentError("other_nonce", "the answer is to another audit")
        return answer

    async def _fault(
        self, request: AggregateRound, update: AuditedUpdate, frozen: Collection[str], answer: AuditResult
    ) -> str | None:
        """Fetch the evidence. Return what is wrong with it, or None."""
        segment = update.task.segment
        if len(answer.fingerprints) != update.steps or trace_of(answer.fingerprints) != update.commitment.traces[segment]:
            return _NOT_REPRODUCED
        node_id = update.worker.node_id
        folder = self._store.updates(request.training_id) / f"audit-{node_id}"
        base = self._store.require(request.base_digest)
        files = {"base": base}
        if segment == 0:
            files["start"] = base
        if update.is_last_segment:
            files["end"] = update.path
        for name in set(_STATES) - files.keys():
            files[name] = folder / f"{name}.safetensors"
            folder.mkdir(parents=True, exist_ok=True)
            path = f"/trainings/{request.training_id}/rounds/{request.round}/evidence/{name}"
            await self._peers.fetch_part(update.worker, path, files[name], _FETCH_S)
        return await asyncio.to_thread(_fault_of, request, update, frozen, answer, files)


def _fault_of(
    request: AggregateRound,
    update: AuditedUpdate,
    frozen: Collection[str],
    answer: AuditResult,
    files: Mapping[str, Path],
) -> str | None:
    """Compare the evidence with the commitment. `files` are the base and the three states."""
    commitment, task = update.commitment, update.task
    base = tensors.read(files["base"])
    start, middle, end = (read_sound_state(files[name], base) for name in _STATES)
    before = tensors.state_digest(base) if task.segment == 0 else commitment.segments[task.segment - 1]
    if (tensors.state_digest(start), tensors.state_digest(end)) != (before, commitment.segments[task.segment]):
        return _NOT_REPRODUCED
    sampler = FingerprintSampler(base, frozen, request.base_digest, commitment.seed)
    if sampler.fingerprint(middle, answer.loss) != answer.fingerprints[task.step - 1]:
        return _NOT_REPRODUCED
    hyperparameters, rest = request.hyperparameters, update.steps - task.step
    if hyperparameters is not None and (
        too_far(start, middle, task.step, hyperparameters) or too_far(middle, end, rest, hyperparameters)
    ):
        return "a committed segment moves faster than its optimizer can"
    return None
