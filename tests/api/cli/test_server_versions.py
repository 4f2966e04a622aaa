"""A server of another version: unknown fields are ignored, and a missing value is a dash."""

import json
import shlex
from typing import Any

import pytest

from tests.api.cli.fake_api import ANSWERS, FakeApi, run

COMMANDS = {
    "neural cluster list": "GET /v1/clusters",
    "neural cluster status --cluster-id cls_1": "GET /v1/clusters/cls_1/status",
    "neural cluster connect --cluster-id cls_1": "POST /v1/clusters/cls_1/connect",
    "neural node list --cluster-id cls_1": "GET /v1/clusters/cls_1/nodes",
    "neural node deploy --cluster-id cls_1": "POST /v1/clusters/cls_1/nodes",
    "neural train list": "GET /v1/trainings",
    "neural train status --training-id train_1": "GET /v1/trainings/train_1",
    "neural search list": "GET /v1/searches",
    "neural search status --search-id search_1": "GET /v1/searches/search_1",
    "neural predict distributed --cluster-id cls_1 --text good": "POST /v1/clusters/cls_1/predictions",
    "neural models list": "GET /v1/models",
    "sandbox list": "GET /v1/sandboxes",
}
REQUIRED = ("items", "connections", "training_sessions")


def newer(answer: Any) -> Any:
    """Return the answer with an unknown field in each object with an identifier."""
    if isinstance(answer, list):
        return [newer(item) for item in answer]
    if not isinstance(answer, dict):
        return answer
    fields = {name: newer(value) for name, value in answer.items()}
    return {"news": {"of": ["a", "later", "version"]}, **fields} if any(name.endswith("_id") for name in fields) else fields


def older(answer: dict[str, Any]) -> dict[str, Any]:
    """Return only the identifiers and the lists that make the answer what it is."""
    fields = {name: value for name, value in answer.items() if name.endswith("_id") or name in REQUIRED}
    return {name: [older(item) for item in value] if isinstance(value, list) else value for name, value in fields.items()}


@pytest.mark.parametrize(("command", "request_line"), COMMANDS.items())
def test_unknown_fields_change_no_table(
    api: FakeApi, capsys: pytest.CaptureFixture[str], command: str, request_line: str
) -> None:
    assert run(*shlex.split(command), "--format", "table") == 0
    expected = capsys.readouterr().out
    api.answers[request_line] = newer(ANSWERS[request_line])
    assert run(*shlex.split(command), "--format", "table") == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(("command", "request_line"), COMMANDS.items())
def test_missing_values_are_dashes(api: FakeApi, capsys: pytest.CaptureFixture[str], command: str, request_line: str) -> None:
    api.answers[request_line] = older(ANSWERS[request_line])
    assert run(*shlex.split(command), "--format", "table") == 0
    output, errors = capsys.readouterr()
    assert "–" in output
    assert errors == ""


@pytest.mark.parametrize(("command", "request_line"), COMMANDS.items())
def test_json_is_printed_as_it_came(api: FakeApi, capsys: pytest.CaptureFixture[str], command: str, request_line: str) -> None:
    answer = newer(ANSWERS[request_line])
    api.answers[request_line] = answer
    assert run(*shlex.split(command), "--format", "json") == 0
    assert capsys.readouterr().out == json.dumps(answer, indent=2) + "\n"


def test_a_field_of_another_type_is_one_line(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.answers["GET /v1/clusters"] = {"items": [{"cluster_id": "cls_1", "name": ["a", "list"]}], "next_cursor": None}
    assert run("neural", "cluster", "list", "--format", "table") == 1
    assert capsys.readouterr().err == "error: the API's answer does not have the expected form; --format json shows it\n"
    assert run("neural", "cluster", "list", "--format", "json") == 0
