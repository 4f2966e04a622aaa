from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from api.domain.errors import ConflictError, InvalidError, NotFoundError
from api.services import idempotency, keys, principals
from api.settings import Settings
from api.store.database import Database
from api.store.tables import ApiKeyRow
from tests.api.store.rows import make_project


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=postgres_url, redis_url="redis://", secret_key="s" * 32, models_dir=tmp_path, E2B_API_KEY="e2b_0"
    )


def valid_principal(session: Session, settings: Settings, secret: str) -> principals.Principal | None:
    """Return the principal of a valid key, else None."""
    digest = principals.digest(settings, secret)
    principal = principals.find_principal(session, digest, secret[: principals.PREFIX_LENGTH])
    return principal if principal is not None and principal.valid else None


def test_a_key_opens_its_project_until_it_is_revoked(database: Database, settings: Settings) -> None:
    with database.unit_of_work() as uow:
        row, secret = keys.create(uow.session, settings, "acme", keys.KeySpec("ci", ["clusters:read"]))
    with database.unit_of_work() as uow:
        principal = valid_principal(uow.session, settings, secret)
    assert principal == principals.Principal(row.project_id, row.id, frozenset({"clusters:read"}), secret[:8])
    with database.unit_of_work() as uow:
        keys.revoke(uow.session, None, row.id)
        keys.revoke(uow.session, None, row.id)
        assert valid_principal(uow.session, settings, secret) is None


def test_the_database_never_holds_the_key(database: Database, settings: Settings) -> None:
    with database.unit_of_work() as uow:
        row, secret = keys.create(uow.session, settings, "acme", keys.KeySpec("ci", ["admin"]))
        stored = uow.session.get_one(ApiKeyRow, row.id)
        assert secret not in repr(vars(stored))
        assert len(stored.prefix) == 8


def test_expired_and_unknown_keys_open_nothing(database: Database, settings: Settings) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with database.unit_of_work() as uow:
        _, secret = keys.create(uow.session, settings, "acme", keys.KeySpec("old", ["admin"], expires_at=past))
        assert valid_principal(uow.session, settings, secret) is None
        assert valid_principal(uow.session, settings, "fnx_unknown") is None


def test_another_deployments_secret_does_not_open_it(database: Database, settings: Settings) -> None:
    with database.unit_of_work() as uow:
        _, secret = keys.create(uow.session, settings, "acme", keys.KeySpec("ci", ["admin"]))
        other = settings.model_copy(update={"secret_key": type(settings.secret_key)("t" * 32)})
        assert valid_principal(uow.session, other, secret) is None


@pytest.mark.parametrize("scopes", [[], ["root"]])
def test_scopes_are_checked(database: Database, settings: Settings, scopes: list[str]) -> None:
    with pytest.raises(InvalidError), database.unit_of_work() as uow:
        keys.create(uow.session, settings, "acme", keys.KeySpec("x", scopes))


def test_ensure_makes_one_key(database: Database, settings: Settings) -> None:
    for _ in range(2):
        with database.unit_of_work() as uow:
            keys.ensure(uow.session, settings, project="embedded", name="embedded", plaintext="fnx_fixed")
    with database.unit_of_work() as uow:
        assert len(keys.list_all(uow.session, "embedded")) == 1


def test_revoking_an_unknown_key_is_an_error(database: Database) -> None:
    with pytest.raises(NotFoundError), database.unit_of_work() as uow:
        keys.revoke(uow.session, None, "key_unknown")


def test_an_idempotency_key_stands_for_one_request(database: Database) -> None:
    with database.unit_of_work() as uow:
        project = make_project(uow.session)
        assert idempotency.find(uow, project, "k", "body one") is None
        idempotency.store(uow, project, "k", "cls_1")
    with database.unit_of_work() as uow:
        assert idempotency.find(uow, project, "k", "body one") == "cls_1"
    with pytest.raises(ConflictError), database.unit_of_work() as uow:
        idempotency.find(uow, project, "k", "body two")
    with database.unit_of_work() as uow:
        idempotency.forget(uow, project, "k", "cls_another")
        assert idempotency.find(uow, project, "k", "body one") == "cls_1"
        idempotency.forget(uow, project, "k", "cls_1")
        idempotency.forget(uow, project, "k", "cls_1")
    with database.unit_of_work() as uow:
        assert idempotency.find(uow, project, "k", "body two") is None


@pytest.mark.parametrize(("project", "name"), [("", "ci"), ("  ", "ci"), ("a\nb", "ci"), ("acme", ""), ("acme", "\x1b[2J")])
def test_names_are_a_line_of_text(database: Database, settings: Settings, project: str, name: str) -> None:
    with pytest.raises(InvalidError), database.unit_of_work() as uow:
        keys.create(uow.session, settings, project, keys.KeySpec(name, ["clusters:read"]))
