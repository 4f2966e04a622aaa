"""`flow-nexus sandbox`."""

import sys
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from api.cli.commands.clusters import Limit
from api.cli.commands.models import Overwrite
from api.cli.errors import FAILURE, UsageError
from api.cli.http import transfer
from api.cli.http.client import api_path
from api.cli.http.download import save, size_of
from api.cli.ids import id_option
from api.cli.output import printing, views
from api.cli.responses import Execution, JsonObject, Logs, Sandbox
from api.cli.schema_help import schema_command
from api.cli.session import Session, given, group, with_session

app = group("Sandboxes: files, commands, logs.")

SandboxId = Annotated[str, id_option("--sandbox-id", "sandbox or its node", "node_w1_abc123")]
_EXECUTE_WAIT_S = 60.0


@app.command("list")
@with_session
def list_sandboxes(
    session: Session,
    status: Annotated[str | None, typer.Option(help="Only sandboxes with this status: running, lost, terminated, …")] = None,
    limit: Limit = None,
) -> None:
    """List sandboxes."""
    session.show(session.client.items(api_path("sandboxes"), Sandbox, given(status=status), limit), views.sandboxes)


@app.command("status")
@with_session
def show_status(session: Session, sandbox_id: SandboxId) -> None:
    """Show the health and the resources of a sandbox."""
    session.show(session.client.get(api_path("sandboxes", sandbox_id), JsonObject), views.mapping)


@app.command("upload")
@with_session
def upload(
    session: Session,
    sandbox_id: SandboxId,
    file_path: Annotated[str, typer.Option(help="The path in the sandbox: /data/train.json")],
    content: Annotated[str | None, typer.Option(help="The text, @FILE, or - for stdin.", metavar="TEXT")] = None,
    file: Annotated[Path | None, typer.Option(help="A local file.")] = None,
) -> None:
    """Write a file into a sandbox.

    A shell argument has at most 128 KiB. @FILE, - and --file have no such limit.
    """
    source = transfer.content(content, file)
    with session.progress(PurePosixPath(file_path).name, source.size) as source.on_progress:
        answer = session.client.upload(
            api_path("sandboxes", sandbox_id, "files"),
            {"path": file_path},
            source.chunks,
            source.size,
            repeatable=source.repeatable,
        )
    transfer.check_upload(source, answer.value)
    session.show(answer, views.uploaded)


@app.command("download")
@with_session
def download(
    session: Session,
    sandbox_id: SandboxId,
    remote_path: Annotated[str, typer.Option(help="A file or a folder in the sandbox.")],
    local_path: Annotated[Path, typer.Option(help="The local path. Nothing is written if the download is incomplete.")],
    overwrite: Overwrite = False,
) -> None:
    """Download a file or a folder from a sandbox."""
    name = PurePosixPath(remote_path).name
    if name in ("", ".."):
        raise UsageError("--remote-path must name a file or a folder")
    path = api_path("sandboxes", sandbox_id, "files")
    with (
        session.client.download(path, {"path": remote_path}) as response,
        session.progress(name, size_of(response)) as on_progress,
    ):
        saved = save(response, name, local_path, overwrite=overwrite, on_progress=on_progress)
    session.show_local({"remote_path": remote_path, **asdict(saved)}, lambda: views.transferred(saved.local_path, saved.size))


@app.command("execute", cls=schema_command("sandboxes.Execute", timeout="timeout_s"))
@with_session
def execute(
    session: Session,
    sandbox_id: SandboxId,
    code: Annotated[str, typer.Option(help="The code, @FILE, or - for stdin.", metavar="TEXT")],
    language: str | None = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, metavar="SECONDS")] = None,
) -> None:
    """Run code in a sandbox.

    The exit code is 1 when the code fails. The JSON output has the exit code of the code itself.
    """
    body = given(code=transfer.content(code).read_text(), language=language, timeout_s=timeout)
    with session.busy("running"):
        path = api_path("sandboxes", sandbox_id, "execute")
        answer = session.client.post(path, Execution, body, hold_s=timeout or _EXECUTE_WAIT_S)
    if session.json:
        printing.write_json(answer.json)
    else:
        sys.stdout.write(answer.value.stdout)
        sys.stdout.flush()
        sys.stderr.write(answer.value.stderr)
    if answer.value.exit_code != 0:
        if not session.json:
            printing.note(f"exit code {answer.value.exit_code} after {answer.value.duration_ms} ms")
        raise typer.Exit(FAILURE)


@app.command("logs")
@with_session
def logs(
    session: Session,
    sandbox_id: SandboxId,
    lines: Annotated[int | None, typer.Option(min=1, help="The number of lines, counted from the end.")] = None,
) -> None:
    """Show the last log lines of a sandbox."""
    params = {} if lines is None else {"lines": str(lines)}
    session.show(session.client.get(api_path("sandboxes", sandbox_id, "logs"), Logs, params), views.logs)
