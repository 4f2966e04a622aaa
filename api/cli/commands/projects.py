"""`flow-nexus projects`: the quotas of a project.

Members see them through the API. The operator sets them in the database.
"""

from typing import Annotated

import typer

from api.cli import responses
from api.cli.errors import UsageError
from api.cli.http.answer import Answer
from api.cli.http.client import api_path
from api.cli.output import views
from api.cli.session import Session, group, with_session

app = group("Quotas of a project, and their use.")


@app.command("show")
@with_session
def show(session: Session) -> None:
    """Show the quotas of your project and how much is used."""
    session.show(session.client.get(api_path("project"), responses.ProjectJson), views.project)


@app.command("quota")
@with_session
def quota(
    session: Session,
    project: Annotated[str, typer.Option(help="The name of the project.")],
    limits: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="A quota: nodes=20. The value none means no limit; default resets it (repeatable).",
            metavar="NAME=VALUE",
        ),
    ],
) -> None:
    """Set the quotas of a project, directly in the database.

    The command needs FLOW_NEXUS_DATABASE_URL and FLOW_NEXUS_SECRET_KEY.
    """
    from api.cli.operator import unit_of_work
    from api.schemas.projects import Project
    from api.services import quotas

    changes = dict(_change(text) for text in limits)
    with unit_of_work() as (uow, settings):
        row = quotas.override(uow.session, project, changes)
        project_json = Project.of(*quotas.view(uow.session, settings, row.id)).model_dump(mode="json")
    session.show(Answer(project_json, responses.ProjectJson), views.project)


def _change(text: str) -> tuple[str, float | str | None]:
    """Return the name and the new limit: a number, None for no limit, or "default"."""
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
