"""Keys without access."""

import httpx
import pytest

from api.services import keys
from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import problem


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer fnx_wrong", "Basic abc", "fnx_wrong", "Bearer ü"])
def test_wrong_keys(url: str, header: str) -> None:
    answer = httpx.get(f"{url}/v1/clusters", headers=[(b"Authorization", header.encode())])
    assert problem(answer, 401)["code"] in ("missing_key", "invalid_key")


def test_a_revoked_key_stops_at_once(make_user: MakeUser) -> None:
    caller = make_user()
    caller.cluster()
    with caller.rows.unit_of_work() as uow:
        ((row, _),) = keys.list_all(uow.session, caller.project)
        keys.revoke(uow.session, None, row.id)
    assert caller.refused("GET", "/v1/clusters", 401)["code"] == "invalid_key"
