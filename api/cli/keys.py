"""`flow-nexus keys`: make and revoke API keys, straight in the database, for whoever runs the deployment."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from api.domain.errors import DomainError
from api.services import keys
from api.settings import Settings
from api.store.database import Database, UnitOfWork, make_engine

app = typer.Typer(help="Make, list and revoke API keys (needs FLOW_NEXUS_DATABASE_URL and FLOW_NEXUS_SECRET_KEY).")

Project = Annotated[str, typer.Option(help="project that the key belongs to; made if it is new")]


@contextmanager
def _unit_of_work() -> Iterator[tuple[UnitOfWork, Settings]]:
    try:
        settings = Settings()
    except ValidationError as error:
        missing = ", ".join(f"FLOW_NEXUS_{item['loc'][0]}".upper() for item in error.errors())
        _fail(f"these settings are missing or wrong: {missing} (source <home>/operator.env of `flow-nexus up`)")
    database = Database(make_engine(settings), lambda _step, _row_id: None)
    try:
        with database.unit_of_work() as uow:
            yield uow, settings
    except DomainError as error:
        _fail(f"{error.detail} ({error.code})")
    except SQLAlchemyError as error:
        _fail(f"the database cannot be used: {type(error).__name__}", code=1)
    finally:
        database.dispose()


def _fail(message: str, code: int = 2) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


def _show(value: datetime | None) -> str | None:
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if value else None


@app.command()
def create(
    project: Project = "default",
    name: Annotated[str, typer.Option(help="what the key is for")] = "key",
    scopes: Annotated[str, typer.Option(help="comma-separated; all by default")] = ",".join(sorted(keys.SCOPES)),
    expires_days: Annotated[int | None, typer.Option(min=1, max=3650, help="days until the key expires")] = None,
) -> None:
    """Make a key and print it, this once."""
    expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
    wanted = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    with _unit_of_work() as (uow, settings):
        row, plaintext = keys.create(uow.session, settings, project=project, name=name, scopes=wanted, expires_at=expires_at)
    answer = {"key_id": row.id, "project": project, "name": name, "scopes": row.scopes, "expires_at": _show(expires_at)}
    typer.echo(json.dumps({**answer, "api_key": plaintext}, indent=2))


@app.command("list")
def list_keys(project: Annotated[str | None, typer.Option(help="only this project's keys")] = None) -> None:
    """List keys, without their secrets."""
    with _unit_of_work() as (uow, _):
        rows = keys.page(uow.session, project)
    shown = [
        {
            "key_id": row.id,
            "project": project_name,
            "name": row.name,
            "prefix": row.prefix,
            "scopes": row.scopes,
            "created_at": _show(row.created_at),
            "expires_at": _show(row.expires_at),
            "revoked_at": _show(row.revoked_at),
            "last_used_at": _show(row.last_used_at),
        }
        for row, project_name in rows
    ]
    typer.echo(json.dumps({"items": shown}, indent=2))


@app.command()
def revoke(key_id: Annotated[str, typer.Option(help="key_… as `keys list` shows it")]) -> None:
    """Revoke a key; it stops working at once. Safe to ask twice."""
    with _unit_of_work() as (uow, _):
        keys.revoke(uow.session, key_id)
    typer.echo(json.dumps({"key_id": key_id, "status": "revoked"}, indent=2))
