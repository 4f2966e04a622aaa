"""The check and the token ids of a shard as work that is followed, found again and stopped."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.workers.agent.agents import LiveAgent, live_agent
from tests.workers.agent.texts import samples, spec
from workers.agent.protocol.training import CheckShard, EncodeShard

DATASET = "/data/large.jsonl"
ROWS = 60_000
CHECK = CheckShard(dataset=DATASET)
ENCODE = EncodeShard(model=spec(), dataset=DATASET)


@pytest.fixture
def worker() -> Iterator[LiveAgent]:
    with live_agent("w1") as agent:
        agent.put(DATASET, "\n".join(json.dumps(row) for row in samples(ROWS)).encode())
        yield agent


def asked(agent: LiveAgent, path: str, request: CheckShard | EncodeShard, wait_s: float) -> dict[str, Any]:
    report: dict[str, Any] = agent.call("POST", f"{path}?wait={wait_s}", request)
    return report


def followed(agent: LiveAgent, path: str, request: CheckShard | EncodeShard) -> list[dict[str, Any]]:
    """Return all reports until the work is done."""
    reports = [asked(agent, path, request, 0)]
    end = time.monotonic() + 60
    while reports[-1]["state"] == "running":
        assert time.monotonic() < end
        reports.append(asked(agent, path, request, 0.1))
    return reports


@pytest.mark.parametrize(("path", "request_"), [("/shards/check", CHECK), ("/shards/encode", ENCODE)])
def test_the_work_tells_how_far_it_is_and_is_done_once(
    worker: LiveAgent, path: str, request_: CheckShard | EncodeShard
) -> None:
    *running, done = followed(worker, path, request_)
    assert running[0]["state"] == "running"
    reached = [report["rows"] for report in [*running, done]]
    assert reached == sorted(reached)
    assert done["samples"] == done["rows"] == ROWS
    assert done["bytes_read"] == done["bytes_total"] == (worker.root / "data/large.jsonl").stat().st_size
    again = asked(worker, path, request_, 0)
    assert (again["state"], again["samples"]) == ("done", ROWS), "a repeated request gets the same result at once"


def test_a_file_that_changed_is_checked_again(worker: LiveAgent) -> None:
    assert followed(worker, "/shards/check", CHECK)[-1]["samples"] == ROWS
    worker.put(DATASET, samples(30))
    assert followed(worker, "/shards/check", CHECK)[-1]["samples"] == 30


def test_a_refusal_is_not_kept(worker: LiveAgent) -> None:
    missing = CheckShard(dataset="/data/later.json")
    assert asked(worker, "/shards/check", missing, 20)["problem"]["code"] == "no_match"
    worker.put("/data/later.json", samples(30))
    assert asked(worker, "/shards/check", missing, 20)["samples"] == 30


def test_a_stopped_training_ends_the_reading(worker: LiveAgent) -> None:
    assert asked(worker, "/shards/check", CHECK, 0)["state"] == "running"
    assert worker.call("POST", "/trainings/train_1/stop") == {"stopped": True}
    report = asked(worker, "/shards/check", CHECK, 20)
    assert report["problem"]["code"] == "stopped"
    assert report["rows"] < ROWS
