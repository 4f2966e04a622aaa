"""`flow-nexus keys`: API keys.

The commands use the API with a key that has the scope `admin`. With `--operator` they use the
database directly.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.errors import UsageError
from api.cli.http.answer import Answer
from api.cli.http.client import api_path
from api.cli.ids import id_option
from api.cli.output import views
from api.cli.responses import ApiKey, JsonObject, PageJson
from api.cli.session import Session, given, group, with_session

if TYPE_CHECKING:
    from api.store.tables import ApiKeyRow

app = group("API keys: create, list, rotate, revoke.")

Operator = Annotated[
    bool,
    typer.Option("--operator", help="Use the database directly, without a key. Needs FLOW_NEXUS_DATABASE_URL and _SECRET_KEY."),
]
Project = Annotated[str | None, typer.Option(help="The project, created if it is new. Implies --operator.")]
KeyId = Annotated[str, id_option("--key-id", "key", "key_8f3m1q")]
_DAY_S = 24 * 3600


@app.command("create")
@with_session
def create(  # noqa: PLR0913 - Typer makes an option of each parameter
    session: Session,
    name: Annotated[str, typer.Option(help="The purpose of the key.")] = "key",
    scopes: Annotated[
        str | None,
        typer.Option(help="A list with commas. Default: all but data:export, or those of a data owner.", metavar="A,B"),
    ] = None,
    node_id: Annotated[
        str | None,
        typer.Option(help="Create the key of this node's data owner. It opens only the sandbox of the node.", metavar="ID"),
    ] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires. Default: never.")] = None,
    project: Project = None,
    operator: Operator = False,
) -> None:
    """Create a key and print it. It cannot be shown again."""
    from api.domain.scopes import EXPORT, SCOPES

    names = None if scopes is None else [name for part in scopes.split(",") if (name := part.strip())]
    if names is None and node_id is None:
        names = sorted(SCOPES - {EXPORT})
    if operator or project:
        if node_id is not None:
            raise UsageError("--node-id needs the API and a key of the node's project; leave out --operator and --project")
        answer = _create_as_operator(project or "default", name, names or [], expires_days)
    else:
        seconds = None if expires_days is None else expires_days * _DAY_S
        body = given(name=name, scopes=names, node_id=node_id, expires_in_s=seconds)
        answer = session.client.post(api_path("keys"), JsonObject, body)
    session.show(answer, views.mapping)


def _create_as_operator(project: str, name: str, scopes: list[str], expires_days: int | None) -> Answer[JsonObject]:
    from api.cli.operator import unit_of_work
    from api.services import keys

    expires_at = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
    with unit_of_work() as (uow, settings):
        issued = keys.create(uow.session, settings, project, keys.KeySpec(name, scopes, expires_at=expires_at))
    return Answer({"project": project, **_key_json(issued.row), "api_key": issued.secret}, JsonObject)


@app.command("list")
@with_session
def list_keys(session: Session, project: Project = None, operator: Operator = False) -> None:
    """List keys without their secrets."""
    if not (operator or project):
        session.show(session.client.items(api_path("keys"), ApiKey), views.keys)
        return
    from api.cli.operator import unit_of_work
    from api.services import keys

    with unit_of_work() as (uow, _):
        items = [{"project": name, **_key_json(row)} for row, name in keys.list_all(uow.session, project)]
    session.show(Answer({"items": items}, PageJson[ApiKey]), views.keys)


@app.command("revoke")
@with_session
def revoke(session: Session, key_id: KeyId, operator: Operator = False) -> None:
    """Revoke a key. It stops working at once. The command can be repeated."""
    if not operator:
        answer = session.client.delete(api_path("keys", key_id), JsonObject)
        session.show(answer or Answer({"key_id": key_id, "status": "revoked"}, JsonObject), views.mapping)
        return
    from api.cli.operator import unit_of_work
    from api.services import keys

    with unit_of_work() as (uow, _):
        key = _key_json(keys.revoke(uow.session, None, key_id))
    session.show(Answer(key, JsonObject), views.mapping)


@app.command("rotate")
@with_session
def rotate(
    session: Session,
    key_id: KeyId,
    overlap: Annotated[int, typer.Option(min=0, help="The time for which the old secret still works.", metavar="SECONDS")] = 0,
    operator: Operator = False,
) -> None:
    """Give a key a new secret and print it. It cannot be shown again."""
    if not operator:
        body = {"overlap_s": overlap}
        session.show(session.client.post(api_path("keys", key_id, "rotate"), JsonObject, body), views.mapping)
        return
    from api.cli.operator import unit_of_work
    from api.services import keys

    with unit_of_work() as (uow, settings):
        issued = keys.rotate(uow.session, settings, None, key_id, overlap)
    session.show(Answer({**_key_json(issued.row), "api_key": issued.secret}, JsonObject), views.mapping)


def _key_json(row: "ApiKeyRow") -> JsonObject:
    from api.schemas.keys import Key

    return Key.of(row).model_dump(mode="json")
