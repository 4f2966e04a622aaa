"""`flow-nexus train` against the fake API: what it sends, what it prints, and how it ends."""

import hashlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.cli.fake_api import MODEL, NODE, PREDICTION, SESSION, ApiRequest, FakeApi, run, tar

ROWS = [{"text": f"text {n}", "label": "good" if n % 3 else "bad", "site": f"s{n % 2}"} for n in range(60)]
MATRIX = {"labels": ["bad", "good"], "counts": [[3, 1], [0, 8]]}
RESULTS = {"accuracy": 11 / 12, "precision": 0.9, "recall": 0.8, "f1_score": 0.85, "confusion_matrix": MATRIX}
STATUS = "GET /v1/clusters/cls_1/status"


def stored(request: ApiRequest) -> dict[str, Any]:
    return {"path": request.query["path"], "size": len(request.body), "sha256": hashlib.sha256(request.body).hexdigest()}


def status_of(**fields: Any) -> dict[str, Any]:
    session = {**SESSION, "epoch": 10, "total_epochs": 10, "status": "completed", "cost_per_epoch_usd": 0.01, **fields}
    return {"cluster_id": "cls_1", "status": "terminated", "cost_usd": 0.25, "training_sessions": [session]}


@pytest.fixture
def service(api: FakeApi) -> FakeApi:
    """The fake API of a whole run. The folder has the file of the run."""
    numbers = iter(range(1, 100))
    api.answers["POST /v1/clusters/cls_1/nodes"] = lambda _request: {**NODE, "node_id": f"node_{next(numbers)}"}
    for number in range(1, 10):
        api.answers[f"PUT /v1/sandboxes/node_{number}/files"] = stored
    api.answers[STATUS] = status_of()
    api.answers["POST /v1/clusters/cls_1/predictions"] = {**PREDICTION, "results": {**RESULTS, "predictions": []}}
    api.answers["POST /v1/trainings/train_1/exports"] = {**MODEL, "name": "reviews"}
    model = tar(("reviews", None), ("reviews/config.json", b"{}"))
    api.answers["GET /v1/models/mdl_1/download"] = (200, {"Content-Type": "application/x-tar"}, model)
    api.answers["GET /v1/sandboxes"] = {"items": [], "next_cursor": None}
    Path("reviews.json").write_text(json.dumps(ROWS))
    return api


def sent(api: FakeApi, line: str) -> list[ApiRequest]:
    return [request for request in api.requests if f"{request.method} {request.path}" == line]


def uploads(api: FakeApi) -> dict[str, list[dict[str, str]]]:
    return {request.query["path"]: json.loads(request.body) for request in api.requests if request.method == "PUT"}


def terminated(api: FakeApi) -> bool:
    return bool(sent(api, "POST /v1/clusters/cls_1/terminate"))


def test_a_run_is_one_json_document(service: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "reviews.json", "--workers", "2", "--format", "json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert err == ""
    assert document["test"] == {**RESULTS, "notices": []}
    assert document["samples"] == {"workers": [24, 24], "test": 12, "skipped": 0}
    assert (document["cluster_status"], document["cost_usd"], document["running_sandboxes"]) == ("terminated", 0.25, 0)
    assert Path(document["model"], "config.json").read_text() == "{}"
    assert document["service"] == "was running"
    assert terminated(service)


def test_each_worker_gets_its_shard_and_the_aggregator_the_test_file(service: FakeApi) -> None:
    assert run("train", "reviews.json", "--workers", "3", "--seed", "4", "--strategy", "fedprox", "--batch-size", "8") == 0
    files = uploads(service)
    assert list(files) == ["/data/train_1.json", "/data/train_2.json", "/data/train_3.json", "/data/test.json"]
    assert [Counter(row["sentiment"] for row in rows)["bad"] for rows in files.values()] == [6, 5, 5, 4]
    texts = [row["text"] for rows in files.values() for row in rows]
    assert sorted(texts) == sorted(row["text"] for row in ROWS)
    (training,) = sent(service, "POST /v1/clusters/cls_1/trainings")
    assert training.json == {
        "dataset": "/data/train_*.json",
        "epochs": 10,
        "seed": 4,
        "strategy": "fedprox",
        "batch_size": 8,
    }
    types = [request.json["node_type"] for request in sent(service, "POST /v1/clusters/cls_1/nodes")]
    assert types == ["worker"] * 3 + ["parameter_server"]


def test_people_see_lines_figures_and_what_to_do_next(service: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    flag = {"message": "w1 lacks a class.", "suggestion": "Give it some."}
    sessions = iter([status_of(status="training", epoch=4, red_flags=[flag]), *[status_of(red_flags=[flag])] * 9])
    service.answers[STATUS] = lambda _request: next(sessions)
    assert run("train", "reviews.json") == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "reviews.json: 60 samples; workers: 4; bad 20, good 40"
    assert next(line for line in lines if line.startswith("  epoch")).startswith("  epoch 4/10")
    assert out.count("w1 lacks a class. Give it some.") == 1
    for expected in ("91.7% on 12 texts", "rows: true, columns: predicted", "$0.2500", "reviews_model", "flow-nexus up"):
        assert expected in out
    assert "\x1b" not in out, "a pipe gets plain lines"


def test_sites_and_skew_decide_who_gets_what(service: FakeApi) -> None:
    assert run("train", "reviews.json", "--site-column", "site", "--test", "0", "--name", "sites") == 0
    first, second = uploads(service).values()
    assert {int(row["text"].split()[1]) % 2 for row in first} == {0}
    assert {int(row["text"].split()[1]) % 2 for row in second} == {1}
    assert not sent(service, "POST /v1/clusters/cls_1/predictions"), "no test part, no test"
    service.requests.clear()
    assert run("train", "reviews.json", "--skew", "0.1", "--name", "skewed") == 0
    shares = [Counter(row["sentiment"] for row in rows) for path, rows in uploads(service).items() if "train" in path]
    assert min(share.total() for share in shares) >= 4
    assert len({share["bad"] / share.total() for share in shares}) > 1


def test_keep_leaves_the_cluster(service: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "reviews.json", "--keep") == 0
    assert not terminated(service)
    assert "flow-nexus neural cluster terminate cls_1" in capsys.readouterr().out


@pytest.mark.parametrize("keep", [(), ("--keep",)])
def test_a_training_that_fails_is_terminated(
    service: FakeApi, capsys: pytest.CaptureFixture[str], keep: tuple[str, ...]
) -> None:
    service.answers[STATUS] = status_of(status="failed", error={"code": "diverged", "detail": "The loss grew"})
    assert run("train", "reviews.json", "--format", "json", *keep) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["failed: terminating cls_1", "error: the training is failed: The loss grew (diverged)"]
    assert terminated(service)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """A shell starts a background job with SIGINT ignored, and pytest passes that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_terminated(service: FakeApi, capsys: pytest.CaptureFixture[str], number: signal.Signals) -> None:
    def interrupted(_request: ApiRequest) -> dict[str, Any]:
        os.kill(os.getpid(), number)
        return status_of(status="training", epoch=1)

    service.answers[STATUS] = interrupted
    assert run("train", "reviews.json", "--keep") == 130
    # The fake API's server also complains there about the broken connection.
    assert "interrupted: terminating cls_1\n" in capsys.readouterr().err
    assert terminated(service)
    assert not Path("reviews_model").exists()


def test_what_the_api_refuses_exits_with_2_and_leaves_nothing(service: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"title": "Unprocessable", "status": 422, "detail": "krum needs 5 workers.", "code": "too_few_workers"}
    service.answers["POST /v1/clusters/cls_1/trainings"] = (422, {}, json.dumps(problem).encode())
    assert run("train", "reviews.json", "--strategy", "krum") == 2
    assert "krum needs 5 workers. (too_few_workers)" in capsys.readouterr().err
    assert terminated(service)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("absent.json", "absent.json cannot be read: No such file or directory"),
        (
            "reviews.json --text-field review",
            "(JSON array) has no field 'review'; its fields are text, label, site",
        ),
        ("reviews.json --label-field stars", "has no field 'stars'"),
        ("reviews.json --site-column country", "there is no column 'country'; the columns are text, label, site"),
        ("reviews.json --site-column site --workers 2", "leave --workers out"),
        ("reviews.json --site-column text", "site 1 of 'text' has 1 samples; 4 are needed"),
        ("reviews.json --workers 20", "there are 48 samples without the 12 of the test set; at least 4 for each of 20 files"),
        ("reviews.json --name a/b", "--name takes"),
        ("reviews.json --out there", "there exists; --overwrite replaces it"),
        ("one.json", "all samples have one label"),
        ("bad.json", "row 61: there is no label; see `flow-nexus data check`, or use --skip-bad-rows"),
        ("broken.csv", "line 2: there are not 2 columns"),
        ("empty.csv", "empty.csv is empty"),
    ],
)
def test_what_cannot_be_trained_is_one_line_before_anything_is_created(
    service: FakeApi, capsys: pytest.CaptureFixture[str], words: str, complaint: str
) -> None:
    Path("there").mkdir()
    Path("there/file").touch()
    Path("one.json").write_text(json.dumps([row for row in ROWS if row["label"] == "good"]))
    Path("bad.json").write_text(json.dumps([*ROWS, {"text": "secret"}]))
    Path("broken.csv").write_text("text,label\nsecret\n")
    Path("empty.csv").touch()
    assert run("train", *words.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert complaint in err
    assert "secret" not in err
    assert service.requests == []


def test_bad_rows_can_be_skipped(service: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    Path("reviews.json").write_text(json.dumps([*ROWS, {"text": "no label"}]))
    assert run("train", "reviews.json", "--skip-bad-rows", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["samples"]["skipped"] == 1


def test_keep_needs_a_service_that_outlives_the_run(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("reviews.json").write_text(json.dumps(ROWS))
    assert run("train", "reviews.json", "--keep") == 2
    assert "--keep needs a running service" in capsys.readouterr().err
    assert not Path(".flow-nexus").exists()


def test_a_pretrained_model_gets_options_that_suit_it(service: FakeApi) -> None:
    assert run("train", "reviews.json", "--model", "minilm", "--epochs", "3") == 0
    (training,) = sent(service, "POST /v1/clusters/cls_1/trainings")
    assert training.json == {
        "dataset": "/data/train_*.json",
        "epochs": 3,
        "learning_rate": 0.0003,
        "optimizer": "adamw",
        "mixed_precision": True,
    }
    assert {request.json["model"] for request in sent(service, "POST /v1/clusters/cls_1/nodes")} == {"minilm"}
