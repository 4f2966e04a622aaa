"""Every command of the walkthrough, with its words and flags, and its request to the API."""

import json
import shlex
import subprocess
import sys
from typing import Any

import pytest

from tests.api.cli.fake_api import ANSWERS, KEY, FakeApi, run

WALKTHROUGH: list[tuple[str, str, dict[str, Any] | None]] = [
    (
        "neural cluster init --name sentiment-analyzer-cluster --topology mesh --architecture transformer"
        " --daa-enabled true --consensus proof-of-learning --wasm-optimization true",
        "POST /v1/clusters",
        {
            "name": "sentiment-analyzer-cluster",
            "topology": "mesh",
            "architecture": "transformer",
            "daa_enabled": True,
            "consensus": "proof-of-learning",
            "wasm_optimization": True,
        },
    ),
    (
        "neural node deploy --cluster-id cls_1 --node-type worker --role worker --model base --template nodejs"
        " --autonomy 0.8 --capabilities training,inference",
        "POST /v1/clusters/cls_1/nodes",
        {
            "node_type": "worker",
            "role": "worker",
            "model": "base",
            "template": "nodejs",
            "autonomy": 0.8,
            "capabilities": ["training", "inference"],
        },
    ),
    (
        "neural node deploy --cluster-id cls_1 --node-type parameter_server --role aggregator --model large"
        " --template nodejs --autonomy 0.9 --capabilities aggregation,synchronization",
        "POST /v1/clusters/cls_1/nodes",
        {
            "node_type": "parameter_server",
            "role": "aggregator",
            "model": "large",
            "template": "nodejs",
            "autonomy": 0.9,
            "capabilities": ["aggregation", "synchronization"],
        },
    ),
    (
        "neural cluster connect --cluster-id cls_1 --topology mesh",
        "POST /v1/clusters/cls_1/connect",
        {"topology": "mesh"},
    ),
    (
        "neural train distributed --cluster-id cls_1 --dataset '/data/train_*.json' --epochs 50 --batch-size 32"
        " --learning-rate 0.001 --optimizer adam --federated true",
        "POST /v1/clusters/cls_1/trainings",
        {
            "dataset": "/data/train_*.json",
            "epochs": 50,
            "batch_size": 32,
            "learning_rate": 0.001,
            "optimizer": "adam",
            "federated": True,
        },
    ),
    (
        "neural train distributed --cluster-id cls_1 --dataset /d --gradient-compression true --compression-ratio 0.5"
        " --mixed-precision true --federated false",
        "POST /v1/clusters/cls_1/trainings",
        {"dataset": "/d", "gradient_compression": True, "compression_ratio": 0.5, "mixed_precision": True, "federated": False},
    ),
    (
        "neural train distributed --cluster-id cls_1 --dataset /d --secure-aggregation true --target-epsilon 8"
        " --max-grad-norm 0.5 --delta 0.00001",
        "POST /v1/clusters/cls_1/trainings",
        {
            "dataset": "/d",
            "secure_aggregation": True,
            "differential_privacy": {"target_epsilon": 8.0, "max_grad_norm": 0.5, "delta": 1e-5},
        },
    ),
    ("neural cluster status --cluster-id cls_1", "GET /v1/clusters/cls_1/status", None),
    (
        "neural predict distributed --cluster-id cls_1 --input-data /data/test.json --aggregation ensemble",
        "POST /v1/clusters/cls_1/predictions",
        {"input_data": "/data/test.json", "aggregation": "ensemble"},
    ),
    ("sandbox execute --sandbox-id sbx_1 --code 'print(6 * 7)'", "POST /v1/sandboxes/sbx_1/execute", {"code": "print(6 * 7)"}),
    (
        "sandbox execute --sandbox-id sbx_1 --code x --env A=1 --env B=c=d --arg --rows --arg 3 --stdin in --cwd /data",
        "POST /v1/sandboxes/sbx_1/execute",
        {"code": "x", "env": {"A": "1", "B": "c=d"}, "args": ["--rows", "3"], "stdin": "in", "cwd": "/data"},
    ),
    (
        "sandbox execute sbx_1 --code x --arg 3 --timeout 900 --background",
        "POST /v1/sandboxes/sbx_1/executions",
        {"code": "x", "args": ["3"], "timeout_s": 900.0},
    ),
    ("executions list sbx_1", "GET /v1/sandboxes/sbx_1/executions", None),
    ("executions status exec_1", "GET /v1/executions/exec_1", None),
    ("executions cancel --execution-id exec_1", "POST /v1/executions/exec_1/cancel", None),
    ("sandbox status --sandbox-id sbx_1", "GET /v1/sandboxes/sbx_1", None),
    ("sandbox logs --sandbox-id sbx_1 --lines 100", "GET /v1/sandboxes/sbx_1/logs", None),
    ("neural cluster terminate --cluster-id cls_1", "POST /v1/clusters/cls_1/terminate", None),
    ("sandbox list --status running", "GET /v1/sandboxes", None),
    # These are not in the walkthrough, but in the map of the contract.
    ("neural cluster list", "GET /v1/clusters", None),
    ("neural node list --cluster-id cls_1", "GET /v1/clusters/cls_1/nodes", None),
    ("neural node remove --node-id node_1", "DELETE /v1/nodes/node_1", None),
    ("neural train list --cluster-id cls_1", "GET /v1/trainings", None),
    ("neural train status --training-id train_1", "GET /v1/trainings/train_1", None),
    ("neural train status train_1", "GET /v1/trainings/train_1", None),
    ("neural train stop train_1", "POST /v1/trainings/train_1/stop", None),
    ("neural cluster status cls_1", "GET /v1/clusters/cls_1/status", None),
    ("neural node list cls_1", "GET /v1/clusters/cls_1/nodes", None),
    ("sandbox logs sbx_1 --lines 100", "GET /v1/sandboxes/sbx_1/logs", None),
    ("neural export train_1 --name m", "POST /v1/trainings/train_1/exports", {"name": "m"}),
    ("neural train rounds --training-id train_1", "GET /v1/trainings/train_1/rounds", None),
    ("neural train stop --training-id train_1", "POST /v1/trainings/train_1/stop", None),
    ("neural train resume --training-id train_1", "POST /v1/trainings/train_1/resume", None),
    ("neural train resume train_1 --epochs 5", "POST /v1/trainings/train_1/resume", {"epochs": 5}),
    (
        "neural train distributed --cluster-id cls_1 --dataset /d.json --epochs 2 --initial-model mdl_1",
        "POST /v1/clusters/cls_1/trainings",
        {"dataset": "/d.json", "epochs": 2, "initial_model": "mdl_1"},
    ),
    ("neural export --training-id train_1 --name m", "POST /v1/trainings/train_1/exports", {"name": "m"}),
    (
        "neural search --cluster cls_1 --dataset /d --epochs 3 --grid learning-rate=0.001,0.0003 --grid optimizer=adam,sgd"
        " --grid compression=null,int8 --set batch-size=16 --early-stopping median --grace-epochs 2 --budget-usd 1.5",
        "POST /v1/clusters/cls_1/searches",
        {
            "dataset": "/d",
            "epochs": 3,
            "space": {"learning_rate": [0.001, 0.0003], "optimizer": ["adam", "sgd"], "compression": [None, "int8"]},
            "batch_size": 16,
            "early_stopping": "median",
            "grace_epochs": 2,
            "budget_usd": 1.5,
        },
    ),
    (
        "neural search --cluster-id cls_1 --dataset /d --epochs 3 --random 5 --range learning-rate=1e-5:1e-2:log"
        " --range batch-size=8:64 --seed 7 --metric global_loss",
        "POST /v1/clusters/cls_1/searches",
        {
            "dataset": "/d",
            "epochs": 3,
            "method": "random",
            "max_trainings": 5,
            "space": {"learning_rate": {"min": 1e-5, "max": 1e-2, "scale": "log"}, "batch_size": {"min": 8, "max": 64}},
            "seed": 7,
            "metric": "global_loss",
        },
    ),
    ("neural search list --cluster cls_1 --status running", "GET /v1/searches", None),
    ("neural search status --search-id search_1", "GET /v1/searches/search_1", None),
    ("neural search stop --search-id search_1", "POST /v1/searches/search_1/stop", None),
    ("neural models list", "GET /v1/models", None),
    (
        "neural predict distributed --cluster-id cls_1 --text 'so good' --text bad",
        "POST /v1/clusters/cls_1/predictions",
        {"inputs": ["so good", "bad"]},
    ),
]


@pytest.mark.parametrize(("words", "request_line", "body"), WALKTHROUGH)
def test_a_command_asks_what_it_says_and_prints_the_apis_json(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: str, request_line: str, body: dict[str, Any] | None
) -> None:
    assert run(*shlex.split(words), "--format", "json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == ANSWERS[request_line]
    assert err == ""
    assert f"{api.last.method} {api.last.path}" == request_line
    assert (api.last.json if api.last.body else None) == body
    assert api.last.headers["authorization"] == f"Bearer {KEY}"
    if api.last.method == "POST":
        assert len(api.last.headers["idempotency-key"]) >= 32


@pytest.mark.parametrize(("words", "request_line", "_body"), WALKTHROUGH)
def test_a_table_shows_the_same_to_people(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: str, request_line: str, _body: object
) -> None:
    assert run(*shlex.split(words), "--format", "table") == 0
    out = capsys.readouterr().out
    assert not out.startswith(("{", "["))
    shown = {"rounds": "loss", "execute --sandbox-id": "42", "logs": "ready", "resume": "train_1", "models": "mdl_1"}
    expected = next((mark for word, mark in shown.items() if word in words), None)
    first = json.dumps(ANSWERS[request_line]).split('_id": "', 1)[-1].split('"', 1)[0]
    assert (expected or first) in out


def test_a_search_is_a_table_of_its_trainings(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--format", "table", "neural", "search", "status", "--search-id", "search_1") == 0
    out = capsys.readouterr().out
    for words in ("learning rate", "0.001", "75.0%", "early_stopped", "waiting", "train_1"):
        assert words in out
    assert run("neural", "--format", "table", "search", "--format", "json", "list") == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["search_id"] == "search_1"


def test_a_search_is_watched_to_its_end(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.cli.output.watch.POLL_S", 0.01)
    search = ANSWERS["GET /v1/searches/search_1"]
    for shown in ("json", "table"):
        states = iter(["running", "running", "failed"])
        api.answers["GET /v1/searches/search_1"] = lambda _request, states=states: {**search, "status": next(states)}
        words = ("neural", "search", "--cluster", "cls_1", "--dataset", "/d", "--epochs", "1", "--grid", "seed=1,2", "--watch")
        assert run(*words, "--format", shown) == 1
        out = capsys.readouterr().out
        if shown == "json":
            assert [json.loads(line)["status"] for line in out.splitlines()] == ["running", "failed"]
        assert "failed" in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--cluster cls_1 --epochs 1 --grid seed=1", "--dataset"),
        ("--cluster cls_1 --dataset /d --epochs 1", "nothing to search"),
        ("--cluster cls_1 --dataset /d --epochs 1 --grid seed", "OPTION=VALUE"),
        ("--cluster cls_1 --dataset /d --epochs 1 --random 3 --range seed=1", "MIN:MAX"),
    ],
)
def test_what_a_search_lacks_is_said(api: FakeApi, capsys: pytest.CaptureFixture[str], words: str, complaint: str) -> None:
    assert run("neural", "search", *shlex.split(words)) == 2
    assert complaint in capsys.readouterr().err
    assert api.requests == []


def test_red_flags_are_shown_with_what_to_do(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    status = ANSWERS["GET /v1/clusters/cls_1/status"]
    flag = {"code": "node_lost", "message": "w1 is lost.", "suggestion": "Redeploy it.", "node_id": "w1", "round": 1}
    session = {**status["training_sessions"][0], "red_flags": [flag]}
    api.answers["GET /v1/clusters/cls_1/status"] = {**status, "training_sessions": [session]}
    assert run("neural", "cluster", "status", "--cluster-id", "cls_1", "--format", "table") == 0
    out = capsys.readouterr().out
    assert "w1 is lost." in out
    assert "Redeploy it." in out


def test_query_parameters_and_waits_travel(api: FakeApi) -> None:
    run("sandbox", "list", "--status", "running", "--limit", "7")
    assert api.last.query == {"status": "running", "limit": "7"}
    run("sandbox", "logs", "--sandbox-id", "sbx_1", "--lines", "100")
    assert api.last.query == {"lines": "100"}
    run("neural", "node", "deploy", "--cluster-id", "cls_1", "--wait", "5")
    assert api.last.headers["prefer"] == "wait=5"
    run("neural", "node", "deploy", "--cluster-id", "cls_1", "--wait", "0")
    assert "prefer" not in api.last.headers
    assert api.last.json == {}, "what was not given is the API's to choose"


def test_the_format_may_stand_before_the_subcommand(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--format", "table", "neural", "cluster", "list") == 0
    assert "cls_1" in capsys.readouterr().out
    assert run("--format", "table", "neural", "cluster", "list", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["items"]


def test_a_list_is_all_its_pages(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    def page(request: Any) -> dict[str, Any]:
        number = int(request.query.get("cursor", "0"))
        return {"items": [{"sandbox_id": f"sbx_{number}"}], "next_cursor": str(number + 1) if number < 3 else None}

    api.answers["GET /v1/sandboxes"] = page
    assert run("sandbox", "list") == 0
    assert [item["sandbox_id"] for item in json.loads(capsys.readouterr().out)["items"]] == [f"sbx_{n}" for n in range(4)]
    assert run("sandbox", "list", "--limit", "2") == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 2


def test_slow_work_is_polled_until_it_is_done(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    pending = {**ANSWERS["POST /v1/clusters/cls_1/nodes"], "status": "provisioning"}
    states = iter(["provisioning", "running"])
    api.answers["POST /v1/clusters/cls_1/nodes"] = pending
    api.answers["GET /v1/nodes/node_1"] = lambda _request: {**pending, "status": next(states)}
    assert run("neural", "node", "deploy", "--cluster-id", "cls_1") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "running"
    assert len(api.requests) == 3


@pytest.mark.parametrize("status", ["failed", "refused"])
def test_work_that_fails_shows_why_and_exits_with_1(api: FakeApi, capsys: pytest.CaptureFixture[str], status: str) -> None:
    error = {"code": "no_match", "detail": "no file matches"}
    api.answers["POST /v1/clusters/cls_1/trainings"] = {
        **ANSWERS["GET /v1/trainings/train_1"],
        "status": status,
        "error": error,
    }
    words = ("neural", "train", "distributed", "--cluster-id", "cls_1", "--dataset", "/d")
    assert run(*words) == 1
    assert json.loads(capsys.readouterr().out)["error"] == error
    assert run(*words, "--format", "table") == 1
    assert "no file matches (no_match)" in capsys.readouterr().out


def test_code_that_fails_in_a_sandbox_exits_with_1(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers["POST /v1/sandboxes/sbx_1/execute"] = {"stdout": "a\n", "stderr": "b\n", "exit_code": 3, "duration_ms": 7}
    words = ("sandbox", "execute", "--sandbox-id", "sbx_1", "--code", "x", "--language", "bash", "--timeout", "2.5")
    assert run(*words, "--format", "table") == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("a\n", "b\nexit code 3 after 7 ms\n")
    assert api.last.json == {"code": "x", "language": "bash", "timeout_s": 2.5}
    assert run(*words) == 1
    assert json.loads(capsys.readouterr().out)["exit_code"] == 3
    api.answers["POST /v1/sandboxes/sbx_1/execute"]["limit"] = "memory"
    assert run(*words, "--format", "table") == 1
    assert capsys.readouterr().err == "b\nexit code 3 after 7 ms, limit: memory\n"


def test_the_program_itself_in_a_pipe(api: FakeApi) -> None:
    """A script sees only JSON on stdout, and the exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "api.cli.main", "neural", "cluster", "list"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == ANSWERS["GET /v1/clusters"]


def test_a_status_is_followed_until_no_training_runs(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.cli.output.watch.POLL_S", 0.01)
    answer = ANSWERS["GET /v1/clusters/cls_1/status"]
    running = answer["training_sessions"][0]
    sessions = iter([running, running, {**running, "epoch": 50, "status": "completed"}])
    api.answers["GET /v1/clusters/cls_1/status"] = lambda _request: {**answer, "training_sessions": [next(sessions)]}
    assert run("neural", "cluster", "status", "--cluster-id", "cls_1", "--watch") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["training_sessions"][0]["epoch"] for line in lines] == [10, 50], "one line for each change"
