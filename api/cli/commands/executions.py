"""`flow-nexus executions`."""

from typing import Annotated

import typer

from api.cli.errors import FAILURE
from api.cli.http.client import api_path
from api.cli.ids import id_option
from api.cli.output import printing, views, watch
from api.cli.parameters import Limit, Wait
from api.cli.responses import ExecutionJson
from api.cli.session import Session, group, with_session

app = group("Code in the background of a sandbox. `sandbox execute --background` starts it.")

_CANCEL_WAIT_S = 30
ExecutionId = Annotated[str, id_option("--execution-id", "execution", "exec_7h2k9m4p1q")]
SandboxId = Annotated[str, id_option("--sandbox-id", "sandbox or its node", "node_w1_abc123")]


@app.command("list")
@with_session
def list_executions(session: Session, sandbox_id: SandboxId, limit: Limit = None) -> None:
    """List the executions of a sandbox."""
    session.show(
        session.client.items(api_path("sandboxes", sandbox_id, "executions"), ExecutionJson, limit=limit), views.executions
    )


@app.command("status")
@with_session
def show_status(session: Session, execution_id: ExecutionId) -> None:
    """Show one execution."""
    session.show(session.client.get(api_path("executions", execution_id), ExecutionJson), views.execution)


@app.command("logs")
@with_session
def logs(
    session: Session,
    execution_id: ExecutionId,
    follow: Annotated[bool, typer.Option("--follow", help="Print the output until the code has ended.")] = False,
) -> None:
    """Print the output of an execution. In a pipe or with `--format json`, one event per line.

    With `--follow`, the exit code is 1 when the code fails.
    """
    execution = watch.watch_execution(session, execution_id, follow=follow)
    if not follow or (execution.status == "completed" and execution.exit_code == 0):
        return
    if not session.json:
        reason = f", limit: {execution.limit}" if execution.limit else ""
        printing.note(f"{execution.status}, exit code {execution.exit_code}{reason}")
    raise typer.Exit(FAILURE)


@app.command("cancel")
@with_session
def cancel(session: Session, execution_id: ExecutionId, wait: Wait = _CANCEL_WAIT_S) -> None:
    """End the code of an execution with all processes that it started."""
    path = api_path("executions", execution_id)
    session.show(
        session.client.post_and_poll(
            f"{path}/cancel", ExecutionJson, None, wait=wait, pending="cancelling", location=lambda _: path
        ),
        views.execution,
    )
