"""Query parameters: unknown, repeated and blank ones are refused by every operation."""

import httpx
import pytest

from api.domain.scopes import SCOPES
from tests.api.routes.calls import Operation, guarded, operations
from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import User


@pytest.fixture
def admin(make_user: MakeUser) -> User:
    return make_user(scopes=SCOPES)


def _send(user: User, operation: Operation, query: list[tuple[str, str]]) -> httpx.Response:
    call = operation.call({})
    given = [(name, str(value)) for name, value in call.pop("params").items()]
    names = {name for name, _ in query}
    return user.http.request(**call, params=httpx.QueryParams([*((n, v) for n, v in given if n not in names), *query]))


def _known(operation: Operation) -> list[str]:
    return sorted(part["name"] for part in operation.item.get("parameters", ()) if part["in"] == "query")


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.name)
def test_an_unknown_parameter_is_named_with_the_known_ones(admin: User, operation: Operation) -> None:
    answer = _send(admin, operation, [("limt", "5")])
    assert answer.status_code == 422, answer.text
    body = answer.json()
    assert body["code"] == "invalid_request"
    (error,) = body["errors"]
    assert error["pointer"] == "/limt"
    for name in _known(operation):
        assert name in error["message"]


@pytest.mark.parametrize(
    "operation", [operation for operation in operations() if _known(operation)], ids=lambda operation: operation.name
)
def test_a_repeated_or_blank_parameter_is_refused(admin: User, operation: Operation) -> None:
    for name in _known(operation):
        for query in ([(name, "1"), (name, "2")], [(name, "")], [(name, " \t")]):
            answer = _send(admin, operation, query)
            assert answer.status_code == 422, f"{query}: {answer.text}"
            assert answer.json()["errors"][0]["pointer"] == f"/{name}"


@pytest.mark.parametrize("operation", guarded(), ids=lambda operation: operation.name)
def test_the_key_is_judged_before_the_query(url: str, operation: Operation) -> None:
    call = operation.call({})
    call["params"] = {**call["params"], "limt": "5"}
    with httpx.Client(base_url=url) as stranger:
        for headers in ({}, {"Authorization": "Bearer fnx_wrong"}):
            answer = stranger.request(**call, headers=headers)
            assert answer.status_code == 401, f"{headers}: {answer.text}"


def test_several_mistakes_are_told_at_once(user: User) -> None:
    body = user.refused("GET", "/v1/clusters?limt=1&cursr=a&limit=", 422)
    assert [error["pointer"] for error in body["errors"]] == ["/limt", "/cursr", "/limit"]


def test_known_parameters_and_none_at_all_are_taken(user: User) -> None:
    user.call("GET", "/v1/clusters?limit=5", 200)
    assert user.http.get("/healthz").status_code == 200
