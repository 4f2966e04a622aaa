import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.workers.agent.acting import bearer, key_of
from tests.workers.agent.agents import DATASET, MODEL, TRAINING, Federation, federation, global_model, update
from tests.workers.agent.texts import LABELS, samples
from workers.agent.peers.tokens import CONTROL_PLANE, Caller, issue
from workers.agent.protocol.exports import ExportModel
from workers.agent.protocol.inference import InferTexts
from workers.agent.protocol.training import CheckShard, InitTraining
from workers.agent.server import node_routes

ROUND = f"/trainings/{TRAINING}/rounds/1"
ROUTES = [
    ("GET", "/health"),
    ("POST", "/shards/check"),
    ("POST", "/shards/encode"),
    ("POST", "/trainings"),
    ("POST", "/rounds/aggregate"),
    ("POST", "/rounds/train"),
    ("GET", ROUND),
    ("POST", f"{ROUND}/drop"),
    ("PUT", f"{ROUND}/updates/w1"),
    ("POST", f"/trainings/{TRAINING}/stop"),
    ("POST", "/evaluations"),
    ("POST", "/scores"),
    ("POST", "/predictions"),
    ("POST", "/inferences"),
    ("POST", "/exports"),
    ("GET", f"/models/{'0' * 64}"),
    ("GET", "/no/such/route"),
]
BODIES = [path for method, path in ROUTES if method == "POST" and not path.endswith("/stop")]
CANARY = "canary-4711"


@pytest.fixture(scope="module")
def one() -> Iterator[Federation]:
    with federation(1) as found:
        yield found


def refused(answer: httpx.Response, status: int) -> str:
    """Return the code of an error. An error has only a code and a message, and quotes nothing."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body.keys() == {"code", "message"}
    assert body["message"]
    assert CANARY not in answer.text
    assert key_of("ps") not in answer.text
    return str(body["code"])


def updates(agents: Federation) -> list[Path]:
    folder = agents.aggregator.root / "model" / TRAINING / "updates"
    return [Path(found, name) for found, _, names in os.walk(folder) for name in names]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_asks_for_a_pass_of_this_agents(one: Federation, method: str, path: str) -> None:
    http = one.aggregator.http
    good = issue(key_of("ps"), CONTROL_PLANE)
    of_another = issue(key_of("w1"), CONTROL_PLANE)
    renamed = good.replace("control", "aggregator", 1)
    wrong = ["", "Bearer", f"Bearer {good}x", f"Bearer {good[:-1]}", f"bearer {good}", good, f"Basic {good}", "Bearer .."]
    for value in [*wrong, f"Bearer {renamed}", f"Bearer {of_another}", "Bearer \xfc.\xfc.\xfc"]:
        headers = {b"Authorization": value.encode("latin-1")}
        assert refused(http.request(method, path, headers=headers, content=b"{}"), 401) == "unauthorized"
    assert refused(http.send(http.build_request(method, path, content=b"{}"), auth=None), 401) == "unauthorized"
    assert http.request(method, path, content=b"{}").status_code not in (401, 403)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"[" * 5000,
        b"\xff\xfe",
        f'"{CANARY}"'.encode(),
        f'{{"training_id": "{CANARY}", "{CANARY}'.encode(),
        f'{{"training_id": ["{CANARY}"], "node_ids": 3, "name": "{CANARY}", "dataset": 3}}'.encode(),
    ],
)
def test_a_body_of_another_form_is_422_and_not_quoted(one: Federation, path: str, body: bytes) -> None:
    assert refused(one.aggregator.http.post(path, content=body), 422) == "invalid_message"


def test_unknown_fields_are_422(one: Federation) -> None:
    known = CheckShard(dataset=DATASET).model_dump()
    assert one.workers[0].http.post("/shards/check", json=known).status_code == 200
    assert refused(one.workers[0].http.post("/shards/check", json={**known, "extra": CANARY}), 422) == "invalid_message"
    nested = {"training_id": TRAINING, "model": {**MODEL.model_dump(), "extra": CANARY}}
    assert refused(one.aggregator.http.post("/trainings", json=nested), 422) == "invalid_message"


def test_health_tells_figures_of_the_process(one: Federation) -> None:
    health = one.aggregator.call("GET", "/health")
    assert (health["status"], health["node_id"], health["role"]) == ("ok", "ps", "aggregator")
    assert health["uptime_seconds"] > 0
    assert health["cpu_cores"] >= 1
    assert 10 < health["rss_mb"] < 100_000
    assert health["memory_gb"] > 0.1
    assert health["gpu"] is None or isinstance(health["gpu"], str)


def test_a_shard_is_checked_by_counts(one: Federation) -> None:
    answer = one.workers[0].call("POST", "/shards/check", CheckShard(dataset=DATASET))
    counts = {"files": 1, "samples": 24, "skipped": 0, "labels": dict.fromkeys(LABELS, 8)}
    assert answer.pop("idle_seconds") >= 0
    assert answer["bytes_read"] == answer.pop("bytes_total")
    assert answer.pop("bytes_read") > 0
    assert answer == {"node_id": "w1", "state": "done", "rows": 24, **counts, "problem": None}
    one.workers[0].put("/data/bad.json", f'[{{"text": "{CANARY}" "sentiment"'.encode())
    answer = one.workers[0].http.post("/shards/check", json={"dataset": "/data/bad.json"})
    assert answer.json()["problem"]["code"] == "unreadable_json"
    assert CANARY not in answer.text


@pytest.mark.parametrize("path", ["data/x", "/../x", "/data/\0", "/"])
def test_a_dataset_outside_the_sandbox_is_refused(one: Federation, path: str) -> None:
    assert refused(one.workers[0].http.post("/shards/check", json={"dataset": path}), 422) == "path_not_allowed"


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", ".hidden", "x" * 101])
def test_names_that_could_leave_their_folder_are_refused(one: Federation, name: str) -> None:
    request = InitTraining(training_id=name, model=MODEL)
    assert refused(one.aggregator.http.post("/trainings", content=request.model_dump_json()), 422) == "bad_id"
    export = {**ExportModel(training_id=TRAINING, name="x", model=MODEL, digest=one.base).model_dump(), "name": name}
    assert refused(one.aggregator.http.post("/exports", json=export), 422) == "invalid_message"


def test_models_are_served_by_digest_only(one: Federation) -> None:
    assert global_model(one)
    assert refused(one.aggregator.http.get(f"/models/{'0' * 64}"), 404) == "unknown_model"
    for digest in ("x", "A" * 64, "0" * 65, "%2e%2e", "..%2f..%2fetc%2fpasswd"):
        refused(one.aggregator.http.get(f"/models/{digest}"), 404 if "2f" in digest else 422)


def test_what_nobody_knows_is_404_in_json_as_well(one: Federation) -> None:
    assert refused(one.aggregator.http.get("/trainings/other/rounds/1?role=aggregator"), 404) == "unknown_round"
    assert refused(one.workers[0].http.get(f"/trainings/{TRAINING}/rounds/77"), 404) == "unknown_round"
    assert refused(one.aggregator.http.get(f"/{CANARY}"), 404) == "unknown_route"
    assert refused(one.aggregator.http.get(f"/trainings/{TRAINING}/rounds/{CANARY}"), 404) == "unknown_route"
    assert refused(one.aggregator.http.delete("/health"), 405) == "unknown_route"


def test_a_long_poll_ends_when_its_time_is_over_and_takes_no_other_word(one: Federation) -> None:
    one.collect()
    started = time.monotonic()
    assert one.aggregator.call("GET", f"{ROUND}?role=aggregator&wait=0.3")["state"] == "collecting"
    assert 0.25 < time.monotonic() - started < 10
    for wait in ("-5", "nan", "0"):
        assert one.aggregator.call("GET", f"{ROUND}?role=aggregator&wait={wait}")["state"] == "collecting"
    assert refused(one.aggregator.http.get(f"{ROUND}?role=aggregator&wait={CANARY}"), 422) == "invalid_message"


def test_an_update_that_is_too_large_is_refused_and_leaves_no_file(one: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_routes, "LARGEST_UPDATE", 10_000)
    one.collect(2)
    answer = one.aggregator.http.put(f"/trainings/{TRAINING}/rounds/2/updates/w1", content=b"x" * 10_001)
    assert refused(answer, 413) == "too_large"
    assert updates(one) == []
    monkeypatch.undo()
    assert one.push("w1", update(one, "w1", global_model(one), number=2), number=2)["accepted"], "it may send another"
    assert updates(one) == []


def test_an_update_that_is_cut_off_leaves_no_file_and_may_be_sent_again(one: Federation) -> None:
    one.collect(3)
    body = update(one, "w1", global_model(one), number=3)
    head = (
        f"PUT /trainings/{TRAINING}/rounds/3/updates/w1 HTTP/1.1\r\nHost: agent\r\n"
        f"Authorization: {bearer('ps', Caller('worker', 'w1'))['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(one.aggregator.peer.uds))
        raw.sendall(head.encode() + body[: len(body) // 2])
        end = time.monotonic() + 20
        while not updates(one):
            assert time.monotonic() < end, "the first half never came to lie anywhere"
    while updates(one):
        assert time.monotonic() < end, "the first half stays"
        time.sleep(0.01)
    assert one.push("w1", body, number=3)["accepted"]
    assert one.aggregated(3)["state"] == "done"


def test_a_failure_inside_is_told_by_its_type_alone_also_in_the_log(
    one: Federation, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (one.workers[0].root / "export").write_text("in the way")
    request = ExportModel(training_id=TRAINING, name=CANARY, model=MODEL, digest=one.base)
    with caplog.at_level(logging.DEBUG, logger="uvicorn.error"):
        answer = one.workers[0].http.post("/exports", content=request.model_dump_json())
    assert refused(answer, 500) == "agent_failed"
    out, err = capfd.readouterr()
    assert '"event": "failed"' in out
    assert CANARY not in out + err + caplog.text
    assert one.workers[0].call("GET", "/health")["status"] == "ok"


def test_nothing_that_an_agent_logs_holds_texts_or_the_token(capfd: pytest.CaptureFixture[str]) -> None:
    with federation(1) as own:
        marked = [{**row, "text": f"{CANARY} {row['text']}"} for row in samples(24)]
        own.workers[0].put("/data/train_0.json", marked)
        own.round()
        own.workers[0].call("POST", "/inferences", infer(own, [CANARY]))
    out, err = capfd.readouterr()
    assert '"event": "aggregated"' in out
    assert CANARY not in out + err
    assert not [key for key in map(key_of, ("ps", "w1")) if key in out + err]
    assert "Bearer" not in out + err


def infer(agents: Federation, texts: list[str]) -> InferTexts:
    return InferTexts(training_id=TRAINING, model=MODEL, digest=agents.base, source=agents.aggregator.peer, texts=texts)
