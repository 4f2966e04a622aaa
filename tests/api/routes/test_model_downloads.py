"""Downloads of exported models: whole, in parts, and again."""

import hashlib
from collections.abc import Iterator

import pytest

from api.settings import Settings
from api.store.tables import ModelRow
from tests.api.routes.user import User, problem

CONTENT = bytes(range(256)) * 40
WHOLE = f"bytes */{len(CONTENT)}"


@pytest.fixture(scope="module")
def path(user: User, settings: Settings) -> Iterator[str]:
    """Yield the path of a download whose archive has `CONTENT`."""
    training_id = user.training(user.ready())
    user.training_becomes(training_id, "training")
    user.round_done(training_id, 1)
    model_id = user.call("POST", f"/v1/trainings/{training_id}/exports", 202, json={"name": "m"})["model_id"]
    archive = settings.models_dir / f"{model_id}.tar"
    archive.write_bytes(CONTENT)
    with user.rows.unit_of_work() as uow:
        row = uow.session.get_one(ModelRow, model_id)
        row.sha256, row.size = hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)
    user.export_done(model_id)
    yield f"/v1/models/{model_id}/download"
    archive.unlink()


def test_a_model_comes_whole_with_its_digest(user: User, path: str) -> None:
    answer = user.http.get(path)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="m.tar"'
    assert answer.headers["etag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"


def test_a_broken_download_goes_on(user: User, path: str) -> None:
    answer = user.http.get(path, headers={"Range": "bytes=1000-"})
    assert (answer.status_code, answer.content) == (206, CONTENT[1000:])
    assert answer.headers["content-range"] == f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}"


def test_a_part_of_another_file_is_not_sent(user: User, path: str) -> None:
    stale = {"Range": "bytes=1000-", "If-Range": '"an older export"'}
    assert user.http.get(path, headers=stale).content == CONTENT
    fresh = {"Range": "bytes=1000-", "If-Range": user.http.head(path).headers["etag"]}
    assert user.http.get(path, headers=fresh).content == CONTENT[1000:]


def test_a_range_beyond_the_end_is_a_problem(user: User, path: str) -> None:
    answer = user.http.get(path, headers={"Range": f"bytes={len(CONTENT)}-"})
    assert problem(answer, 416)["code"] == "range_not_satisfiable"
    assert answer.headers["content-range"] == WHOLE


@pytest.mark.parametrize("wanted", ["bytes=9-3", "bytes=0-0,5-5", "rows=1-2", "bytes=x-"])
def test_a_range_that_makes_no_sense_gets_the_whole_file(user: User, path: str, wanted: str) -> None:
    answer = user.http.get(path, headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, CONTENT)
