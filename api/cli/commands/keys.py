"""`flow-nexus keys`: through the API with a key that has `admin`, or (`--operator`) straight in the deployment's database."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from api.cli.errors import UsageError
from api.cli.http.client import api_path
from api.cli.output import views
from api.cli.session import Session, given, group, with_session

app = group("API keys: make, list, rotate, revoke.")

Operator = Annotated[
    bool, typer.Option("--operator", help="In the database itself: needs FLOW_NEXUS_DATABASE_URL and _SECRET_KEY, and no key.")
]
Project = Annotated[str | None, typer.Option(help="Of this project, made if it is new; implies --operator.")]
KeyId = Annotated[str, typer.Option(help="key_… as `keys list` shows it.", metavar="ID")]
_DAY_S = 24 * 3600


@app.command("create")
@with_session
def create(
    session: Session,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    scopes: Annotated[
        str | None, typer.Option(help="With commas; by default all but data:export, or a data owner's.", metavar="A,B")
    ] = None,
    node_id: Annotated[
        str | None, typer.Option(help="Make it the key of this node's data owner, for its sandbox alone.", metavar="ID")
    ] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires; never by default.")] = None,
    project: Project = None,
    operator: Operator = False,
) -> None:
    """Make a key and print it, this once."""
    from api.domain.scopes import EXPORT, SCOPES

    wanted = None if scopes is None else [word for part in scopes.split(",") if (word := part.strip())]
    if wanted is None and node_id is None:
        wanted = sorted(SCOPES - {EXPORT})
    if operator or project:
        if node_id is not None:
            raise UsageError("--node-id goes through the API, with a key of the node's project")
        answer = _create_as_operator(project or "default", name, wanted or [], expires_days)
    else:
        seconds = None if expires_days is None else expires_days * _DAY_S
        body = given(name=name, scopes=wanted, node_id=node_id, expires_in_s=seconds)
        answer = session.client.post(api_path("keys"), body)
    session.show(answer, views.mapping)


def _create_as_operator(project: str, name: str, wanted: list[str], expires_days: int | None) -> dict[str, Any]:
    from api.cli.operator import unit_of_work
    from api.services import keys

    expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
    with unit_of_work() as (uow, settings):
        made = keys.create(uow.session, settings, project, keys.KeySpec(name, wanted, expires_at=expires_at))
    return {"project": project, **_shown(made.row), "api_key": made.secret}


@app.command("list")
@with_session
def list_keys(session: Session, project: Project = None, operator: Operator = False) -> None:
    """List keys, without their secrets."""
    if not (operator or project):
        session.show(session.client.items(api_path("keys")), views.keys)
        return
    from api.cli.operator import unit_of_work
    from api.services import keys

    with unit_of_work() as (uow, _):
        items = [{"project": name, **_shown(row)} for row, name in keys.list_all(uow.session, project)]
    session.show({"items": items}, views.keys)


@app.command("revoke")
@with_session
def revoke(session: Session, key_id: KeyId, operator: Operator = False) -> None:
    """Revoke a key; it stops working at once. Safe to ask twice."""
    if not operator:
        session.show(session.client.delete(api_path("keys", key_id)), views.mapping)
        return
    from api.cli.operator import unit_of_work
    from api.services import keys

    with unit_of_work() as (uow, _):
        answer = _shown(keys.revoke(uow.session, None, key_id))
    session.show(answer, views.mapping)


@app.command("rotate")
@with_session
def rotate(
    session: Session,
    key_id: KeyId,
    overlap: Annotated[int, typer.Option(min=0, help="Seconds that the old secret still works.", metavar="SECONDS")] = 0,
    operator: Operator = False,
) -> None:
    """Give a key a new secret and print it, this once."""
    if not operator:
        session.show(session.client.post(api_path("keys", key_id, "rotate"), {"overlap_s": overlap}), views.mapping)
        return
    from api.cli.operator import unit_of_work
    from api.services import keys

    with unit_of_work() as (uow, settings):
        made = keys.rotate(uow.session, settings, None, key_id, overlap)
    session.show({**_shown(made.row), "api_key": made.secret}, views.mapping)


def _shown(row: Any) -> dict[str, Any]:
    from api.schemas.keys import Key

    return Key.of(row).model_dump(mode="json")
