"""The aggregator asks some workers, drawn when all commitments are in, to do one segment of their round again.

What it takes to pass: the two states that the segment was committed to lie between (tensors.state_digest), the state after
one of its steps, drawn by the audit, and the fingerprints of all its steps, which the commitment's trace binds. Digests can be
echoed; these are what the digests were made of. A worker that made up its chain has none of it, and one that kept only
its digests must walk the segment again. The states must also be no farther apart than the optimizer can go in so many steps.

What it proves: that the worker can produce, step by step, the very sequence it had committed to before it was asked. What it
does not: that the steps came from data. Jia et al. (IEEE S&P 2021, arXiv:2103.05633) let the verifier repeat steps on the
prover's data; here no verifier has that data, so a patient cheat could invent a walk of small steps and replay it. Whether a
walk leads anywhere the committee finds out (committee.py). Equality is to the bit: the replay runs on the machine that trained.

What it costs in privacy: the aggregator sees three states of an audited worker's round besides the update itself.
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
from workers.agent.peers.client import PeerClient
from workers.agent.proof_of_learning.trace import FingerprintSampler, trace_of
from workers.agent.protocol.common import Peer
from workers.agent.protocol.consensus import AuditRecord, AuditResult, AuditSegment
from workers.agent.protocol.training import Commitment, TrainReport
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.logs import Log
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.updates.validation import read_sound_state

_SHARE = 4
_WITHIN_S = 120.0
# The evidence is there when the answer is.
_FETCH_S = 5.0
_NOT_REPRODUCED = "its replay of a committed segment does not give what was committed to"


@dataclass(frozen=True, slots=True)
class AuditTask:
    """One worker's task: do `segment` again, and show the state after `step` of its steps."""

    segment: int
    step: int


def draw(commitments: Mapping[str, Commitment], nonce: str) -> dict[str, AuditTask]:
    """A quarter of the workers, at least one. The draw follows from all roots and a nonce that is made after they are in."""
    roots = sorted((node_id, commitment.root) for node_id, commitment in commitments.items())
    seed = hashlib.sha256(json.dumps([roots, nonce]).encode()).hexdigest()
    chance = random.Random(seed)  # noqa: S311 - the secret is the nonce; who is told it can repeat the draw
    chosen = chance.sample(sorted(commitments), max(1, len(commitments) // _SHARE))
    found: dict[str, AuditTask] = {}
    for node_id in chosen:
        steps = commitments[node_id].steps
        segment = chance.choice([index for index, count in enumerate(steps) if count])
        # Inside the segment, where no state was digested whole; and far from its ends, as two states that lie one step
        # apart would show the gradient of a single batch.
        margin = max(1, steps[segment] // 4)
        found[node_id] = AuditTask(segment, chance.randint(margin, max(margin, steps[segment] - margin)))
    return found


class Auditor:
    def __init__(self, store: ModelStore, exchange: PeerClient, log: Log) -> None:
        self._store = store
        self._peers = exchange
        self._log = log

    async def audit(self, found: RoundState, frozen: Collection[str]) -> list[AuditRecord]:
        """Audits some of the workers whose updates are held, side by side."""
        commitments = {node_id: report.commitment for node_id, (report, _) in found.held.items() if report.commitment}
        if not commitments:
            return []
        nonce = secrets.token_hex(16)
        drawn = draw(commitments, nonce)
        return list(await asyncio.gather(*(self._one(found, frozen, *item, nonce) for item in sorted(drawn.items()))))

    async def _one(self, found: RoundState, frozen: Collection[str], node_id: str, task: AuditTask, nonce: str) -> AuditRecord:
        report, seconds = found.held[node_id][0], None
        within_s = max(_WITHIN_S, 2 * (report.train_seconds or 0.0))
        try:
            async with asyncio.timeout(within_s):
                answer = await self._asked(found, report, task, nonce, within_s)
                seconds = answer.seconds
                fault = await self._fault(found, frozen, report, task, answer)
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

    async def _asked(self, found: RoundState, report: TrainReport, task: AuditTask, nonce: str, within_s: float) -> AuditResult:
        assert report.commitment is not None
        question = AuditSegment(
            training_id=found.request.training_id,
            round=found.request.round,
            segment=task.segment,
            steps=report.commitment.steps[task.segment],
            step=task.step,
            nonce=nonce,
        )
        answer = await self._peers.ask(_peer(found, report.node_id), "/audits", question, AuditResult, within_s=within_s)
        if answer.nonce != nonce:
            raise AgentError("other_nonce", "the answer is to another audit")
        return answer

    async def _fault(
        self, found: RoundState, frozen: Collection[str], report: TrainReport, task: AuditTask, answer: AuditResult
    ) -> str | None:
        commitment = report.commitment
        assert commitment is not None
        prints = answer.fingerprints
        if len(prints) != commitment.steps[task.segment] or trace_of(prints) != commitment.traces[task.segment]:
            return _NOT_REPRODUCED
        folder = self._store.updates(found.request.training_id) / f"audit-{report.node_id}"
        base = self._store.require(found.request.base_digest)
        files = {"start": base} if task.segment == 0 else {}
        if commitment.segments[task.segment] == commitment.segments[-1]:
            files["end"] = found.held[report.node_id][1]
        for name in {"start", "middle", "end"} - files.keys():
            files[name] = folder / f"{name}.safetensors"
            folder.mkdir(parents=True, exist_ok=True)
            path = f"/trainings/{found.request.training_id}/rounds/{found.request.round}/evidence/{name}"
            await self._peers.fetch_part(_peer(found, report.node_id), path, files[name], _FETCH_S)
        return await asyncio.to_thread(_fault_of, found, frozen, commitment, task, answer, files, base)


def _peer(found: RoundState, node_id: str) -> Peer:
    return next(peer for peer in found.request.workers if peer.node_id == node_id)


def _fault_of(
    found: RoundState,
    frozen: Collection[str],
    commitment: Commitment,
    task: AuditTask,
    answer: AuditResult,
    files: Mapping[str, Path],
    base_path: Path,
) -> str | None:
    base = tensors.read(base_path)
    start, middle, end = (read_sound_state(files[name], base) for name in ("start", "middle", "end"))
    before = tensors.state_digest(base) if task.segment == 0 else commitment.segments[task.segment - 1]
    if (tensors.state_digest(start), tensors.state_digest(end)) != (before, commitment.segments[task.segment]):
        return _NOT_REPRODUCED
    sampler = FingerprintSampler(base, frozen, found.request.base_digest, commitment.seed)
    if sampler.fingerprint(middle, answer.loss) != answer.fingerprints[task.step - 1]:
        return _NOT_REPRODUCED
    wanted, rest = found.request.hyperparameters, commitment.steps[task.segment] - task.step
    if wanted is not None and (too_far(start, middle, task.step, wanted) or too_far(middle, end, rest, wanted)):
        return "a committed segment moves faster than its optimizer can"
    return None
