"""The API, served by a real uvicorn over a real Postgres.

The tests write through the store what workers would write.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import create_engine

from api.domain.scopes import SCOPES
from api.http.server import make_config
from api.main import create_app
from api.services import keys
from api.settings import Settings
from api.store.database import Database, UnitOfWork
from tests.api.routes.user import User

# No server listens here: the broker and the provider of these tests cannot be reached.
NOWHERE = "127.0.0.1:9"


def make_settings(postgres_url: str, folder: Path, **fields: Any) -> Settings:
    return Settings(
        **{
            "database_url": postgres_url,
            "redis_url": f"redis://{NOWHERE}/0",
            "secret_key": "s" * 32,
            "models_dir": folder,
            "E2B_API_KEY": "e2b_0",
            "E2B_API_URL": f"http://{NOWHERE}",
            "E2B_SANDBOX_URL": f"http://{NOWHERE}",
            "database_pool_size": 4,
            "training_check_wait_s": 1.0,
            "max_body_bytes": 100_000,
            "max_streams": 5,
            **fields,
        }
    )


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Return the base URL of an app that runs in a thread of this process."""
    server = uvicorn.Server(make_config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < end, "the server did not start in time"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture(scope="module")
def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(postgres_url, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    with serving(create_app(settings)) as base:
        yield base


@pytest.fixture(scope="module")
def rows(postgres_url: str) -> Iterator[Database]:
    """Yield units of work beside the server, as a worker has them."""
    engine = create_engine(postgres_url, pool_size=4)
    yield Database(engine, lambda _step, _row_id: None)
    engine.dispose()


MakeUser = Callable[..., User]


@pytest.fixture(scope="module")
def make_user(url: str, settings: Settings, rows: Database) -> Iterator[MakeUser]:
    """Create a caller: a key with these scopes (all by default) in a project.

    Without a project's name, the project is new.
    """
    users: list[User] = []

    def make(project: str | None = None, scopes: frozenset[str] = SCOPES - {"admin"}) -> User:
        name = project or f"project-{len(users)}"

        def issue(uow: UnitOfWork) -> tuple[str, str]:
            row, secret = keys.create(uow.session, settings, name, keys.KeySpec("tests", scopes))
            return row.project_id, secret

        with rows.unit_of_work() as uow:
            project_id, secret = issue(uow)
        http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=60)
        users.append(User(http, rows, name, project_id, secret))
        return users[-1]

    yield make
    for user in users:
        user.http.close()


@pytest.fixture(scope="module")
def user(make_user: MakeUser) -> User:
    return make_user()
