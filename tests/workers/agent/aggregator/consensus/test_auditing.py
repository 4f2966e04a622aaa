"""Audits of proof-of-learning rounds, between real agents and impostors."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from starlette.requests import Request
from starlette.responses import Response

from tests.workers.agent.agents import TRAINING, Federation, LiveAgent, federation, global_model
from tests.workers.agent.impostor import impostor, says
from workers.agent.aggregator.consensus.auditing import draw
from workers.agent.proof_of_learning.commitment import CommitmentChain
from workers.agent.proof_of_learning.trace import FingerprintSampler, trace_of
from workers.agent.protocol.consensus import AuditResult, AuditSegment
from workers.agent.protocol.training import Commitment, Hyperparameters, TrainReport
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore

POL = "proof-of-learning"
Answer = Callable[[Request], Awaitable[Response]]


def collect(agents: Federation, **fields: Any) -> None:
    agents.collect(consensus=POL, hyperparameters=Hyperparameters(**agents.hyperparameters), **fields)


def made_up(agents: Federation, node_id: str, states: list[dict[str, Any]], samples: int = 20) -> bytes:
    """Return an update that is the last of `states`. Its chain is valid, its steps are invented."""
    chain = CommitmentChain(agents.base, "3/1")
    for state in states:
        chain.add(tensors.state_digest(state), 0.5, 4, trace_of(secrets.token_hex(32) for _ in range(4)))
    report = TrainReport(
        node_id=node_id, training_id=TRAINING, round=1, state="done", samples=samples, commitment=chain.commitment
    )
    return safetensors.torch.save(states[-1], {"report": report.model_dump_json()})


def a_little_noise(agents: Federation, times: int) -> dict[str, Any]:
    generator = torch.Generator()
    generator.manual_seed(times)
    return {
        name: tensor + 1e-4 * times * torch.randn(tensor.shape, generator=generator)
        for name, tensor in global_model(agents).items()
    }


def rejected_alone(agents: Federation, answer: Answer, body: bytes) -> dict[str, Any]:
    """Run the round of a single worker, which is always audited."""
    with impostor(answer) as peer:
        agents.collect(consensus=POL, workers=[peer], hyperparameters=Hyperparameters(**agents.hyperparameters))
        assert agents.push("w9", body)["accepted"]
        return agents.aggregated()


def test_honest_workers_pass_and_the_audit_is_on_record(two: Federation) -> None:
    collect(two)
    for worker in two.workers:
        two.train(worker, consensus=POL)
    found = two.aggregated()
    assert (found["state"], sorted(found["accepted"]), found["rejected"]) == ("done", ["w1", "w2"], {})
    (audit,) = found["audits"]
    assert audit["worker"] in ("w1", "w2")
    assert (audit["passed"], audit["reason"], audit["segment"] in (0, 1, 2)) == (True, None, True)
    assert audit["seconds"] > 0
    commitments = {report["node_id"]: report["commitment"] for report in found["received"]}
    drawn = draw({name: Commitment(**item) for name, item in commitments.items()}, audit["nonce"])
    assert {name: (task.segment, task.step) for name, task in drawn.items()} == {
        audit["worker"]: (audit["segment"], audit["step"])
    }, "whoever is told the nonce can repeat the draw"


@pytest.mark.parametrize(
    "wanted",
    [
        {"local_epochs": 3, "batch_size": 4},
        {"optimizer": "adamw", "weight_decay": 0.1, "proximal_mu": 0.5, "batch_size": 2},
        {"optimizer": "sgd", "mixed_precision": True, "batch_size": 2},
        {"freeze_layers": 1, "batch_size": 2},
    ],
)
def test_every_segment_can_be_walked_again_to_the_bit(one: Federation, wanted: dict[str, Any]) -> None:
    worker = one.workers[0]
    freeze = wanted.get("freeze_layers", 0)
    one.collect(consensus=POL, freeze_layers=freeze)
    one.train(worker, consensus=POL, wanted=wanted)
    commitment = one.trained(worker)["commitment"]
    assert sum(commitment["steps"]) == -(-22 // wanted["batch_size"]) * wanted.get("local_epochs", 1)
    for segment, steps in enumerate(commitment["steps"]):
        audit = AuditSegment(training_id=TRAINING, round=1, segment=segment, steps=steps, step=1, nonce="n")
        answer = AuditResult(**worker.call("POST", "/audits", audit))
        assert trace_of(answer.fingerprints) == commitment["traces"][segment]
        digests = {name: tensors.state_digest(evidence(worker, name)) for name in ("start", "end")}
        before = tensors.state_digest(global_model(one)) if segment == 0 else commitment["segments"][segment - 1]
        assert digests == {"start": before, "end": commitment["segments"][segment]}
        middle = evidence(worker, "middle")
        frozen = {name for name in middle if "embeddings" in name or "layer.0." in name} if freeze else set()
        assert FingerprintSampler(middle, frozen, one.base, "3/1").fingerprint(middle, answer.loss) == answer.fingerprints[0]


def evidence(worker: LiveAgent, name: str) -> dict[str, Any]:
    answer = worker.http.get(f"/trainings/{TRAINING}/rounds/1/evidence/{name}")
    assert answer.status_code == 200, answer.text
    return safetensors.torch.load(answer.content)


def test_only_a_segment_of_the_round_in_hand_can_be_asked_for(one: Federation) -> None:
    worker = one.workers[0]
    asked = AuditSegment(training_id=TRAINING, round=1, segment=0, steps=1, step=1, nonce="n")
    assert worker.call("POST", "/audits", asked, status=404)["code"] == "nothing_to_replay"
    one.round(consensus=POL)
    worker.call("POST", "/audits", asked)
    for changed in ({"round": 2}, {"segment": 9}, {"training_id": "train_2"}):
        worker.call("POST", "/audits", asked.model_copy(update=changed), status=404)
    for name in ("1.pt", "..%2Fround", "local"):
        assert worker.http.get(f"/trainings/{TRAINING}/rounds/1/evidence/{name}").status_code == 404


def test_a_free_rider_that_only_echoes_its_digests_is_caught(one: Federation) -> None:
    async def echo(request: Request) -> Response:
        if request.url.path != "/audits":
            return Response("{}", 404)
        audit = AuditSegment.model_validate_json(await request.body())
        said = AuditResult(node_id="w9", nonce=audit.nonce, fingerprints=["f" * 64] * audit.steps, loss=0.5, seconds=0.1)
        return Response(said.model_dump_json())

    found = rejected_alone(one, echo, made_up(one, "w9", [a_little_noise(one, times) for times in (1, 2, 3, 4)]))
    assert found["problem"]["code"] == "quorum_not_met"
    assert found["rejected"] == {"w9": "its replay of a committed segment does not give what was committed to"}
    assert [(audit["worker"], audit["passed"]) for audit in found["audits"]] == [("w9", False)]


def test_a_free_rider_that_has_no_states_to_show_is_caught(one: Federation) -> None:
    """The attacker invented fingerprints and can repeat them, but a fingerprint needs a state."""
    prints = [[secrets.token_hex(32) for _ in range(4)] for _ in range(4)]
    states = [a_little_noise(one, times) for times in (1, 2, 3, 4)]
    chain = CommitmentChain(one.base, "3/1")
    for state, own in zip(states, prints, strict=True):
        chain.add(tensors.state_digest(state), 0.5, 4, trace_of(own))

    async def answer(request: Request) -> Response:
        if request.url.path == "/audits":
            audit = AuditSegment.model_validate_json(await request.body())
            said = AuditResult(node_id="w9", nonce=audit.nonce, fingerprints=prints[audit.segment], loss=0.5, seconds=0.1)
            return Response(said.model_dump_json())
        return Response(safetensors.torch.save(states[0]))

    report = TrainReport(node_id="w9", training_id=TRAINING, round=1, state="done", samples=20, commitment=chain.commitment)
    body = safetensors.torch.save(states[-1], {"report": report.model_dump_json()})
    found = rejected_alone(one, answer, body)
    assert "does not give what was committed to" in found["rejected"]["w9"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (says('{"code": "nothing_to_replay", "message": "no"}', 404), "peer_failed"),
        (says("not an answer"), "peer_failed"),
        (
            says(AuditResult(node_id="w9", nonce="of before", fingerprints=[], loss=0, seconds=0).model_dump_json()),
            "other_nonce",
        ),
    ],
)
def test_a_worker_that_does_not_answer_its_audit_is_rejected(one: Federation, answer: Answer, why: str) -> None:
    found = rejected_alone(one, answer, made_up(one, "w9", [a_little_noise(one, times) for times in (1, 2)]))
    assert found["rejected"] == {"w9": f"it did not answer for a committed segment ({why})"}


def test_a_worker_whose_data_changed_cannot_walk_its_segment_again(one: Federation) -> None:
    worker = one.workers[0]
    with impostor(forwarding(worker), "w1") as peer:
        one.collect(consensus=POL, workers=[peer])
        one.train(worker, consensus=POL)
        found = one.aggregated()
    assert found["rejected"] == {"w1": "its replay of a committed segment does not give what was committed to"}


def forwarding(worker: LiveAgent) -> Answer:
    """Forward every request to a worker, and damage its checkpoints before an audit."""

    async def answer(request: Request) -> Response:
        body = await request.body()
        if request.url.path == "/audits":
            await asyncio.to_thread(spoil, worker.root / "model" / TRAINING / "replay")
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        given = await asyncio.to_thread(lambda: worker.http.request(request.method, path, content=body))
        return Response(given.content, given.status_code)

    return answer


def spoil(folder: Path) -> None:
    """Another batch size: the worker trained in another way than it claims."""
    for path in folder.glob("*.pt"):
        torch.save({**torch.load(path, weights_only=True), "batch_size": 3}, path)


def test_an_update_stands_for_no_more_samples_than_its_steps_took(one: Federation) -> None:
    """A claim of more samples than four segments of four steps on batches of eight is refused."""
    states = [a_little_noise(one, times) for times in (1, 2, 3, 4)]
    for number, (samples, accepted) in enumerate([(4 * 4 * 8 + 1, False), (4 * 4 * 8, True)]):
        collect(one)
        receipt = one.push("w1", made_up(one, "w1", states, samples))
        assert receipt["accepted"] is accepted
        if number == 0:
            assert receipt["problem"]["message"] == "the update claims more samples than its steps can have used"
            assert one.aggregated()["rejected"] == {"w1": receipt["problem"]["message"]}


def test_a_commitment_to_other_batches_is_refused_at_the_door(one: Federation) -> None:
    collect(one)
    one.train(one.workers[0], consensus=POL, wanted={"seed": 4})
    assert one.aggregated()["rejected"] == {"w1": "the commitment is to other batches than the round's"}


def test_a_draw_takes_a_quarter_at_least_one_and_never_a_segment_without_steps() -> None:
    chain = CommitmentChain("b" * 64, "3/1")
    for number, steps in enumerate((20, 1, 2, 5, 0)):
        chain.add(f"{number:064x}", 0.5, steps, "t")
    few, many = ({f"w{number}": chain.commitment for number in range(count)} for count in (1, 8))
    assert len(draw(few, "n")) == 1
    drawn = [draw(many, secrets.token_hex(16)) for _ in range(400)]
    assert all(len(found) == 2 for found in drawn)
    seats = Counter(name for found in drawn for name in found)
    assert all(50 <= seats[name] <= 150 for name in many), "100 expected"
    tasks = {(task.segment, task.step) for found in drawn for task in found.values()}
    assert {segment for segment, _ in tasks} == {0, 1, 2, 3}
    assert {step for segment, step in tasks if segment == 1} == {1}
    assert {step for segment, step in tasks if segment == 2} == {1}
    assert {step for segment, step in tasks if segment == 0} == {*range(5, 16)}, "inside the segment, far from its ends"


def test_checkpoints_of_a_round_are_gone_when_the_next_one_begins(one: Federation) -> None:
    worker = one.workers[0]
    one.round(1, consensus=POL)
    kept = ModelStore(worker.root / "model").folder(TRAINING) / "replay"
    first = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.pt")}
    assert sorted(first) == ["0.pt", "1.pt", "2.pt"]
    one.round(2, consensus=POL)
    assert all(path.stat().st_mtime_ns > first[path.name] for path in kept.glob("*.pt"))
    assert json.loads((kept / "round.json").read_text())["round"] == 2


@pytest.fixture
def one() -> Any:
    with federation(1) as found:
        yield found
