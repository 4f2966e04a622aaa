"""Keys without access."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine

from api.domain.scopes import SCOPES
from api.main import create_app
from api.services import keys
from api.store.database import Database
from tests.api.routes.conftest import MakeUser, make_settings, serving
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


def test_a_rotated_secret_key_keeps_the_api_keys(postgres_url: str, tmp_path: Path) -> None:
    """A key that was used beside the former secret key works without it afterwards."""
    before, after = "b" * 32, "a" * 32
    engine = create_engine(postgres_url)
    database = Database(engine, lambda _step, _row_id: None)
    with database.unit_of_work() as uow:
        made = make_settings(postgres_url, tmp_path, secret_key=before)
        used, unused = (keys.create(uow.session, made, "rotated", keys.KeySpec("key", SCOPES)) for _ in range(2))
        turned = keys.rotate(uow.session, made, None, used.id, overlap_s=600)

    def statuses(*secrets: str, **fields: str) -> list[int]:
        with serving(create_app(make_settings(postgres_url, tmp_path, secret_key=after, **fields))) as url:
            return [
                httpx.get(f"{url}/v1/clusters", headers={"Authorization": f"Bearer {secret}"}).status_code for secret in secrets
            ]

    assert statuses(turned.secret, unused.secret) == [401, 401]
    # Also the secret that stays valid for some time beside the new one.
    assert statuses(turned.secret, used.secret, "fnx_unknown", old_secret_key=before) == [200, 200, 401]
    assert statuses(turned.secret, used.secret, unused.secret) == [200, 200, 401]
    engine.dispose()
