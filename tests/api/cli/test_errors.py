"""A failed command has one line on stderr, nothing on stdout, no traceback, and an exit code."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.api.cli.fake_api import ANSWERS, KEY, ApiRequest, FakeApi, run, without

UNREACHABLE = "error: cannot reach the API at http://127.0.0.1:9; start it with `flow-nexus up`, or name another with --url\n"
TRAIN = ("neural", "train", "distributed", "--cluster-id", "cls_1", "--dataset", "/d")


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Return the exit code and the one line on stderr."""
    code = run(*words)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert KEY not in err
    return code, err


def problem(status: int, code: str, detail: str = "No.", **fields: object) -> tuple[int, dict[str, str], bytes]:
    body = {"type": "about:blank", "title": "Title", "status": status, "detail": detail, "code": code, **fields}
    return status, {"Content-Type": "application/problem+json"}, json.dumps(body).encode()


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("neural", "cluster", "nonsense"),
        ("neural", "cluster", "init"),
        ("neural", "cluster", "init", "--name"),
        ("neural", "cluster", "init", "--name", "n", "--nonsense", "1"),
        ("neural", "cluster", "init", "--name", "n", "--daa-enabled", "maybe"),
        ("neural", "cluster", "init", "--name", "n", "--format", "xml"),
        ("neural", "cluster", "status"),
        ("neural", "node", "deploy", "--cluster-id", "cls_1", "--autonomy", "much"),
        ("neural", "node", "deploy", "--cluster-id", "cls_1", "--wait", "-1"),
        ("neural", "node", "deploy", "--cluster-id", ".."),
        ("neural", "node", "deploy", "--cluster-id", ""),
        ("neural", "node", "deploy", "--cluster-id", "\udcff"),
        (*TRAIN, "--epochs", "1.5"),
        (*TRAIN, "--learning-rate", "nan"),
        (*TRAIN, "--learning-rate", "inf"),
        (*TRAIN, "--federated", "yes"),
        (*TRAIN, "--optimizer", "\udcff"),
        ("neural", "predict", "distributed", "--cluster-id", "cls_1"),
        ("neural", "predict", "distributed", "--cluster-id", "cls_1", "--text", "a", "--input-data", "/b"),
        ("sandbox", "logs", "--sandbox-id", "sbx_1", "--lines", "0"),
        ("sandbox", "logs", "--sandbox-id", "sbx_1", "--lines", "many"),
        ("sandbox", "execute", "--sandbox-id", "sbx_1"),
        ("sandbox", "execute", "--sandbox-id", "sbx_1", "--code", "@nothing"),
        ("sandbox", "execute", "--sandbox-id", "sbx_1", "--code", "-", "--stdin", "-"),
        ("sandbox", "execute", "--sandbox-id", "sbx_1", "--code", "x", "--env", "NAME"),
        ("sandbox", "execute", "--sandbox-id", "sbx_1", "--code", "\udcff"),
        ("sandbox", "upload", "--sandbox-id", "sbx_1", "--file-path", "/x"),
        ("sandbox", "upload", "--sandbox-id", "sbx_1", "--file-path", "/x", "--content", "a", "--file", "b"),
        ("sandbox", "upload", "--sandbox-id", "sbx_1", "--file-path", "/x", "--content", "@nothing"),
        ("sandbox", "upload", "--sandbox-id", "sbx_1", "--file-path", "/x", "--file", "nothing"),
        ("sandbox", "upload", "--sandbox-id", "sbx_1", "--file-path", "/x", "--file", "."),
        ("sandbox", "download", "--sandbox-id", "sbx_1", "--remote-path", "/", "--local-path", "x"),
        ("sandbox", "download", "--sandbox-id", "sbx_1", "--remote-path", "/a/..", "--local-path", "x"),
        ("--url", "host", "neural", "cluster", "list"),
        ("--url", "http://a..b", "neural", "cluster", "list"),
        ("--api-key", "two words", "neural", "cluster", "list"),
        ("data", "generate", "--shards", "0"),
        ("data", "generate", "--label-noise", "0.9"),
        ("data", "generate", "--prefix", "../x"),
        ("data", "generate", "--prefix", ""),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2_and_ask_nothing(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert failed(capsys, *words)[0] == 2
    assert api.requests == []


@pytest.mark.parametrize("words", [("neural",), ("neural", "cluster"), ("sandbox",), ("data",), ()])
def test_a_group_without_a_command_shows_its_help(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run(*words) in (0, 2)
    assert "Usage:" in "".join(capsys.readouterr())
    assert api.requests == []


def test_help_needs_no_server(empty_folder: object, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("neural",), ("neural", "train", "distributed"), ("sandbox", "upload"), ("keys", "create"), ("up",)):
        assert run(*words, "--help") == 0
        assert "Usage:" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("neural", "cluster", "list"), ("neural", "cluster", "init", "--name", "x"), TRAIN])
def test_a_server_that_is_not_there_is_one_line_and_exit_code_1(
    empty_folder: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr("api.cli.http.client._PAUSES_S", (0.01, 0.01))
    code, line = failed(capsys, "--url", "http://127.0.0.1:9", "--api-key", KEY, *words)
    assert (code, line) == (1, UNREACHABLE)


def test_the_program_itself_shows_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api.cli.main", "--url", "http://127.0.0.1:9", "neural", "cluster", "list"],
        capture_output=True,
        text=True,
        timeout=60,
        env=without("FLOW_NEXUS_URL", "FLOW_NEXUS_API_KEY"),
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", UNREACHABLE)


@pytest.mark.parametrize(("status", "code"), [(401, 2), (403, 2), (404, 2), (409, 2), (422, 2), (500, 1), (502, 1)])
def test_the_apis_problem_is_its_detail_and_code(
    api: FakeApi, capsys: pytest.CaptureFixture[str], status: int, code: int
) -> None:
    api.answers["GET /v1/clusters"] = problem(status, "some_code", "Cannot be done.")
    assert failed(capsys, "neural", "cluster", "list") == (code, "error: Cannot be done. (some_code)\n")
    assert len(api.requests) == 1


def test_every_wrong_field_is_named_in_the_one_line(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    errors = [{"pointer": "/epochs", "message": "must be at least 1"}, {"pointer": "/dataset", "message": "is no path"}]
    api.answers["POST /v1/clusters/cls_1/trainings"] = problem(422, "validation_error", errors=errors)
    assert run(*TRAIN) == 2
    assert capsys.readouterr().err == "error: /epochs: must be at least 1; /dataset: is no path (validation_error)\n"


def test_without_a_key_the_way_to_one_is_told(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLOW_NEXUS_API_KEY")
    api.answers["GET /v1/clusters"] = problem(401, "unauthorized")
    assert "use FLOW_NEXUS_API_KEY or --api-key" in failed(capsys, "neural", "cluster", "list")[1]
    assert "authorization" not in api.last.headers


def test_what_the_server_says_cannot_steer_the_terminal(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers["GET /v1/clusters"] = problem(404, "x", "\x1b[2J\x07 evil \u202e line\nbreak")
    _, line = failed(capsys, "neural", "cluster", "list")
    assert not any(mark in line for mark in "\x1b\x07\u202e")
    row = {**ANSWERS["POST /v1/clusters"], "name": "\x1b]0;evil\x07"}
    api.answers["GET /v1/clusters"] = {"items": [row], "next_cursor": None}
    assert run("neural", "cluster", "list", "--format", "table") == 0
    assert "\x1b]" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, b"<html>"),
        (200, {}, b""),
        (200, {}, b"[]"),
        (200, {}, b"[" * 100_000),
        (200, {}, b"\xff"),
        {},
        {"item": []},
        (502, {"Content-Type": "text/html"}, b"<html>\x1b[2J"),
        (500, {}, b"[]"),
        (500, {}, b'{"detail": "x"}'),
    ],
)
def test_an_answer_that_is_not_the_apis_is_one_line(api: FakeApi, capsys: pytest.CaptureFixture[str], answer: Any) -> None:
    api.answers["GET /v1/clusters"] = answer
    code, line = failed(capsys, "neural", "cluster", "list")
    assert code == 1
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("words", "request_line"),
    [
        (("neural", "node", "deploy", "--cluster-id", "cls_1"), "POST /v1/clusters/cls_1/nodes"),
        (TRAIN, "POST /v1/clusters/cls_1/trainings"),
        (
            ("sandbox", "execute", "--sandbox-id", "sbx_1", "--code", "x", "--format", "table"),
            "POST /v1/sandboxes/sbx_1/execute",
        ),
        (
            ("sandbox", "upload", "--sandbox-id", "sbx_1", "--file-path", "/x", "--content", "x"),
            "PUT /v1/sandboxes/sbx_1/files",
        ),
        (("neural", "models", "download", "--model-id", "mdl_1"), "GET /v1/models/mdl_1"),
    ],
)
def test_an_answer_that_lacks_a_field_is_one_line(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], request_line: str
) -> None:
    api.answers[request_line] = {"status": "pending" if "trainings" in request_line else "provisioning"}
    assert failed(capsys, *words)[0] == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_with_the_same_idempotency_key(api: FakeApi, status: int) -> None:
    answers: list[Any] = [problem(status, "busy"), problem(status, "busy"), ANSWERS["POST /v1/clusters"]]

    def answer(_request: ApiRequest) -> Any:
        answer = answers.pop(0)
        return (answer[0], {**answer[1], "Retry-After": "0"}, answer[2]) if isinstance(answer, tuple) else answer

    api.answers["POST /v1/clusters"] = answer
    assert run("neural", "cluster", "init", "--name", "x") == 0
    assert len(api.requests) == 3
    assert len({request.headers["idempotency-key"] for request in api.requests}) == 1
    assert len({request.body for request in api.requests}) == 1


def test_a_server_that_asks_for_too_much_patience_is_not_waited_for(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    status, headers, body = problem(503, "unavailable", "Later.")
    api.answers["GET /v1/clusters"] = (status, {**headers, "Retry-After": "3600"}, body)
    assert failed(capsys, "neural", "cluster", "list") == (1, "error: Later. (unavailable)\n")


def test_a_reader_that_goes_away_is_no_error(api: FakeApi) -> None:
    api.answers["GET /v1/clusters"] = {"items": [{"cluster_id": "x" * 100}] * 5000, "next_cursor": None}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "api.cli.main", "neural", "cluster", "list"], stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert b"Traceback" not in done.stderr
