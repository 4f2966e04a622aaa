"""The effect of malicious workers under each consensus mode, and the cost of the consensus.

    python -m tests.benchmarks.malicious [--data FOLDER] [--samples 2500] [--rounds 2]
        [--only none,proof-of-learning]

1 of 4 and 2 of 8 workers are malicious in every round. `base` is trained from scratch with batch
size 16, learning rate 0.001 (cosine) and adam, for one epoch a round. The 8 workers share the data
of the 4. No worker has more than `samples`. FOLDER holds train_shard_1..4.json and test.json. The
default is the shared data folder beside the repository. Without it, feedback is generated. Every
agent is a separate process, without a control plane. The malicious workers send what an honest
agent never sends:

- NaN: the base with one NaN in it.
- sign flip: they train, and send the base minus three times their change. Only the end of their
  chain is wrong.
- scaled noise: the base plus noise (standard deviation 0.05), with an invented chain. The noise is
  many times as long as an update.
- label flip: an honest agent on a shard in which all labels are wrong.
- free rider: the base plus a little noise (1e-4), with an invented chain.

The test accuracy is that of the last global model. `named` counts the rounds that rejected every
malicious worker. `wrongly` counts how often an honest worker was rejected. The overhead is the
fraction of the wall time of all rounds that the consensus took at the aggregator. It includes
downloads and replays. All agents share the machine's cores. The cost of the workers' commitments
shows in the seconds of a round, compared with the clean run without consensus.
"""

import argparse
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from api.domain.progress import learning_rate
from api.sample_data.generator import Recipe, generate
from tests.benchmarks.agent_accuracy import SHARED
from tests.benchmarks.fleet import PATIENCE_S, Fleeting, fleet
from tests.benchmarks.rows import row
from workers.agent.proof_of_learning.commitment import CommitmentChain, batch_seed, chain_root
from workers.agent.proof_of_learning.trace import trace_of
from workers.agent.protocol.aggregation import AggregateRound
from workers.agent.protocol.common import ModelSpec, Peer
from workers.agent.protocol.inference import EvaluateModel
from workers.agent.protocol.training import Commitment, Hyperparameters, InitTraining, ReplicateModel, TrainReport, TrainRound
from workers.agent.storage import tensors
from workers.agent.training.local_round import LOCAL_MODEL

MODEL = ModelSpec(architecture="transformer", model="base", labels=["negative", "positive"], max_length=64)
ATTACKS = ("NaN", "sign flip", "scaled noise", "label flip", "free rider")
MODES = ("none", "proof-of-learning", "byzantine")
_SEGMENTS = 4
_SEED = 0
Rows = list[dict[str, str]]


@dataclass
class Result:
    accuracy: float
    named: int = 0
    wrongly: int = 0
    consensus_s: float = 0.0
    seconds: float = 0.0
    problem: str | None = None


def _data(folder: Path | None, samples: int) -> tuple[list[Rows], Rows]:
    """Four shards and a test set."""
    if folder is not None:
        shards = [json.loads((folder / f"train_shard_{number}.json").read_bytes()) for number in range(1, 5)]
        return shards, json.loads((folder / "test.json").read_bytes())
    made = generate(Recipe(shards=4, samples=samples, test=1000, validation=10, seed=0))
    rows = {name: [{"text": row.text, "sentiment": row.sentiment} for row in part] for name, part in made}
    return [rows[f"shard_{number}"] for number in range(1, 5)], rows["test"]


def _turned(rows: Rows) -> Rows:
    labels = MODEL.labels
    return [{**row, "sentiment": labels[(labels.index(row["sentiment"]) + 1) % len(labels)]} for row in rows]


class Cluster:
    """A fleet and its data. It runs one training after another, each with its own attack."""

    def __init__(self, aggregator: Fleeting, workers: Sequence[Fleeting], shards: list[Rows], test: Rows, samples: int) -> None:
        self.aggregator = aggregator
        self.workers = list(workers)
        share = len(workers) // len(shards)
        self.malicious = self.workers[-(len(workers) // 4) :]
        (aggregator.root / "data/test.json").write_text(json.dumps(test))
        for index, worker in enumerate(workers):
            part = shards[index // share][index % share :: share][:samples]
            (worker.root / "data/train.json").write_text(json.dumps(part))
            (worker.root / "data/turned.json").write_text(json.dumps(_turned(part)))

    def run(self, attack: str | None, mode: str, rounds: int) -> Result:
        """Run a whole training."""
        training_id = f"t{secrets.token_hex(4)}"
        base = self.aggregator.post("/trainings", InitTraining(training_id=training_id, model=MODEL))["digest"]
        found = Result(float("nan"))
        for number in range(1, rounds + 1):
            started = time.perf_counter()
            report = self._round(training_id, number, rounds, base, attack, mode)
            found.seconds += time.perf_counter() - started
            found.consensus_s += report["consensus_seconds"] or 0.0
            bad = {worker.peer.node_id for worker in self.malicious} if attack else set()
            found.named += bool(bad) and bad <= report["rejected"].keys()
            found.wrongly += len(report["rejected"].keys() - bad)
            if report["state"] != "done":
                found.problem = f"round {number}: {report['problem']['message']}"
                return found
            base = report["digest"]
        evaluation = EvaluateModel(
            training_id=training_id,
            model=MODEL,
            digest=base,
            source=self.aggregator.peer,
            dataset="/data/test.json",
            held_out=False,
        )
        found.accuracy = self.aggregator.post("/evaluations", evaluation)["accuracy"]
        return found

    def _round(self, training_id: str, number: int, rounds: int, base: str, attack: str | None, mode: str) -> dict[str, Any]:
        wanted = Hyperparameters(
            batch_size=16, learning_rate=learning_rate(0.001, number, rounds, "cosine"), optimizer="adam", seed=_SEED
        )
        self.aggregator.post(
            "/rounds/aggregate",
            AggregateRound(
                training_id=training_id,
                round=number,
                model=MODEL,
                base_digest=base,
                workers=[worker.peer for worker in self.workers],
                self_peer=self.aggregator.peer,
                dataset="/data/train.json",
                quorum=1,
                deadline_s=PATIENCE_S,
                hyperparameters=wanted,
                consensus=mode,
            ),
        )
        asked = TrainRound(
            training_id=training_id,
            round=number,
            model=MODEL,
            base_digest=base,
            dataset="/data/train.json",
            hyperparameters=wanted,
            aggregator=self.aggregator.peer,
            consensus=mode,
        )
        turned = asked.model_copy(update={"dataset": "/data/turned.json"})
        away = asked.model_copy(update={"aggregator": Peer(node_id="nobody", url="http://agent", uds="/nowhere")})
        forged = [worker for worker in self.malicious if attack not in (None, "label flip")]
        for worker in self.workers:
            if worker not in forged:
                worker.post("/rounds/train", turned if attack and worker in self.malicious else asked)
            elif attack == "sign flip":
                worker.post("/models", ReplicateModel(training_id=training_id, digest=base, source=self.aggregator.peer))
                worker.post("/rounds/train", away)
        for worker in forged:
            self._push(training_id, number, worker, self._forged(training_id, number, base, worker, attack or ""))
        return self._followed(self.aggregator, training_id, number, "aggregator")

    def _push(self, training_id: str, number: int, worker: Fleeting, body: bytes) -> None:
        path = f"/trainings/{training_id}/rounds/{number}/updates/{worker.peer.node_id}"
        self.aggregator.http.put(path, content=body).raise_for_status()

    def _forged(self, training_id: str, number: int, base: str, worker: Fleeting, attack: str) -> bytes:
        start = tensors.read(self.aggregator.root / "model" / training_id / f"{base}.safetensors")
        states = [start]
        commitment: Commitment | None = None
        if attack == "NaN":
            first = next(iter(start))
            states = [{**start, first: torch.full_like(start[first], float("nan"))}]
        elif attack == "sign flip":
            trained = self._followed(worker, training_id, number, "worker")
            learned = tensors.read(worker.root / "model" / training_id / LOCAL_MODEL)
            states = [{name: tensor - 3 * (learned[name] - tensor) for name, tensor in start.items()}]
            if trained["commitment"] is not None:
                own = Commitment(**trained["commitment"])
                own = own.model_copy(update={"segments": [*own.segments[:-1], tensors.state_digest(states[0])]})
                commitment = own.model_copy(update={"root": chain_root(base, own)})
        else:
            size = 0.05 if attack == "scaled noise" else 1e-4
            states = [
                {name: tensor + size * torch.randn_like(tensor) for name, tensor in start.items()} for _ in range(_SEGMENTS)
            ]
        if commitment is None:
            chain = CommitmentChain(base, batch_seed(_SEED, number))
            for state in states:
                chain.add(tensors.state_digest(state), 0.4, 10, trace_of(secrets.token_hex(32) for _ in range(10)))
            commitment = chain.commitment
        report = TrainReport(
            node_id=worker.peer.node_id,
            training_id=training_id,
            round=number,
            state="done",
            samples=1000,
            loss=0.4,
            accuracy=0.8,
            commitment=commitment,
        )
        return safetensors.torch.save(states[-1], {"report": report.model_dump_json()})

    def _followed(self, agent: Fleeting, training_id: str, number: int, role: str) -> dict[str, Any]:
        while True:
            answer = agent.http.get(f"/trainings/{training_id}/rounds/{number}", params={"role": role, "wait": "50"})
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
            if found["state"] not in ("collecting", "running"):
                return found


def _tell(workers: int, attack: str | None, mode: str, found: Result, clean: Result, rounds: int) -> None:
    what = (
        f"{workers // 4} of {workers} malicious, {attack}, consensus {mode}"
        if attack
        else f"{workers} honest, consensus {mode}"
    )
    wanted = "at most 1 point lost, all named" if attack and mode != "none" else ""
    if found.problem:
        row(what, f"{found.problem}; named in {found.named} of {rounds} rounds", wanted)
        return
    figures = [f"{found.accuracy:.2%} ({100 * (found.accuracy - clean.accuracy):+.2f} points)"]
    if attack:
        figures.append(f"named in {found.named} of {rounds} rounds")
    if found.wrongly:
        figures.append(f"{found.wrongly} honest updates rejected")
    figures.append(f"{found.seconds / rounds:.1f} s a round")
    if mode != "none":
        figures.append(f"of it {found.consensus_s / found.seconds:.0%} consensus")
        wanted = wanted or "overhead at most 25 %"
    row(what, ", ".join(figures), wanted)


def main(data: tuple[list[Rows], Rows], given: argparse.Namespace) -> None:
    rounds, modes, attacks = given.rounds, given.only.split(","), given.attacks.split(",") if given.attacks else []
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for workers in map(int, given.workers.split(",")):
        with fleet(workers) as (aggregator, made):
            cluster = Cluster(aggregator, made, *data, given.samples)
            clean = cluster.run(None, "none", rounds)
            _tell(workers, None, "none", clean, clean, rounds)
            for attack in (None, *attacks):
                for mode in modes:
                    if attack or mode != "none":
                        _tell(workers, attack, mode, cluster.run(attack, mode, rounds), clean, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED if SHARED.is_dir() else None)
    parser.add_argument("--samples", type=int, default=2500)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default=",".join(MODES))
    parser.add_argument("--workers", default="4,8")
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    given = parser.parse_args()
    print(
        f"data: {given.data.name if given.data else 'generated feedback'}, at most {given.samples} samples a worker", flush=True
    )
    main(_data(given.data, given.samples), given)
