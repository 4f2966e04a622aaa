"""`flow-nexus projects`: what a project may use. Its members see that through the API; whoever runs the service sets it."""

from typing import Annotated, Any

import typer

from api.cli.errors import UsageError
from api.cli.http.client import api_path
from api.cli.output import views
from api.cli.session import Session, group, with_session

app = group("Projects: quotas and their use.")


@app.command("show")
@with_session
def show(session: Session) -> None:
    """Show the quotas of your key's project and how much of them is used."""
    session.show(session.client.get(api_path("project")), views.project)


@app.command("quota")
@with_session
def quota(
    session: Session,
    project: Annotated[str, typer.Option(help="The project's name.")],
    limits: Annotated[
        list[str],
        typer.Option("--set", help="nodes=20, =none for no limit, =default; repeatable.", metavar="NAME=VALUE"),
    ],
) -> None:
    """Set a project's quotas, in the database itself (needs FLOW_NEXUS_DATABASE_URL and _SECRET_KEY)."""
    from api.cli.operator import unit_of_work
    from api.schemas.projects import Project
    from api.services import quotas

    changes = dict(_change(text) for text in limits)
    with unit_of_work() as (uow, settings):
        row = quotas.override(uow.session, project, changes)
        answer = Project.of(*quotas.view(uow.session, settings, row.id)).model_dump(mode="json")
    session.show(answer, views.project)


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set takes NAME=VALUE, not {text!r}")
    if value in ("none", "default"):
        return name, None if value == "none" else value
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < 2**63:
        raise UsageError(f"{name} needs a number from 0, none or default, not {value!r}")
    return name, int(number) if number.is_integer() else number
