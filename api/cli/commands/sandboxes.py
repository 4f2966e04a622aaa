"""`flow-nexus sandbox`."""

import sys
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from api.cli.commands.clusters import Limit
from api.cli.commands.models import Overwrite
from api.cli.errors import FAILURE, UsageError
from api.cli.http import transfer
from api.cli.http.client import api_path
from api.cli.http.download import save, size_of
from api.cli.output import printing, views
from api.cli.session import Session, given, group, with_session

app = group("Sandboxes: files, commands, logs.")

SandboxId = Annotated[str, typer.Option("--sandbox-id", help="sbx_… or node_…", metavar="ID")]
_EXECUTE_WAIT_S = 60.0


@app.command("list")
@with_session
def list_sandboxes(
    session: Session,
    status: Annotated[str | None, typer.Option(help="Only these: running, lost, terminated, …")] = None,
    limit: Limit = None,
) -> None:
    """List sandboxes."""
    session.show(session.client.items(api_path("sandboxes"), given(status=status), limit), views.sandboxes)


@app.command("status")
@with_session
def show_status(session: Session, sandbox_id: SandboxId) -> None:
    """Show a sandbox's health and resources."""
    session.show(session.client.get(api_path("sandboxes", sandbox_id)), views.mapping)


@app.command("upload")
@with_session
def upload(
    session: Session,
    sandbox_id: SandboxId,
    file_path: Annotated[str, typer.Option(help="Where to, in the sandbox: /data/train.json")],
    content: Annotated[str | None, typer.Option(help="The text itself, @FILE, or - for stdin.", metavar="TEXT")] = None,
    file: Annotated[Path | None, typer.Option(help="A local file.")] = None,
) -> None:
    """Write a file into a sandbox. A shell argument ends at 128 KiB; @FILE, - and --file do not."""
    source = transfer.content(content, file)
    with session.progress(PurePosixPath(file_path).name, source.size) as source.moved:
        answer = session.client.upload(
            api_path("sandboxes", sandbox_id, "files"),
            {"path": file_path},
            source.chunks,
            source.size,
            repeatable=source.repeatable,
        )
    transfer.check_arrival(source, answer)
    session.show(answer, views.stored)


@app.command("download")
@with_session
def download(
    session: Session,
    sandbox_id: SandboxId,
    remote_path: Annotated[str, typer.Option(help="A file or a folder in the sandbox.")],
    local_path: Annotated[Path, typer.Option(help="Where to. Nothing is written unless all of it arrives.")],
    overwrite: Overwrite = False,
) -> None:
    """Fetch a file or a folder from a sandbox."""
    name = PurePosixPath(remote_path).name
    if name in ("", ".."):
        raise UsageError("--remote-path must name a file or a folder")
    path = api_path("sandboxes", sandbox_id, "files")
    with (
        session.client.download(path, {"path": remote_path}) as response,
        session.progress(name, size_of(response)) as moved,
    ):
        saved = save(response, name, local_path, overwrite=overwrite, moved=moved)
    session.show({"remote_path": remote_path, **saved}, views.stored)


@app.command("execute")
@with_session
def execute(
    session: Session,
    sandbox_id: SandboxId,
    code: Annotated[str, typer.Option(help="The code itself, @FILE, or - for stdin.", metavar="TEXT")],
    language: Annotated[str | None, typer.Option(help="python, javascript, bash; the template's by default.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds; the server's limit by default.")] = None,
) -> None:
    """Run code in a sandbox. Exit code 1 when it fails there; the JSON has its own exit_code."""
    body = given(code=transfer.content(code).read_text(), language=language, timeout_s=timeout)
    with session.busy("running"):
        path = api_path("sandboxes", sandbox_id, "execute")
        answer = session.client.post(path, body, hold_s=timeout or _EXECUTE_WAIT_S)
    if session.json:
        printing.write_json(answer)
    else:
        sys.stdout.write(answer["stdout"])
        sys.stdout.flush()
        sys.stderr.write(answer["stderr"])
    if answer["exit_code"] != 0:
        if not session.json:
            printing.note(f"exit code {answer['exit_code']} after {answer['duration_ms']} ms")
        raise typer.Exit(FAILURE)


@app.command("logs")
@with_session
def logs(
    session: Session,
    sandbox_id: SandboxId,
    lines: Annotated[int | None, typer.Option(min=1, help="The last so many.")] = None,
) -> None:
    """Show a sandbox's last log lines."""
    params = {} if lines is None else {"lines": str(lines)}
    session.show(session.client.get(api_path("sandboxes", sandbox_id, "logs"), params), views.logs)
