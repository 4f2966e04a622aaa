"""`flow-nexus sandbox`."""

import sys
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from api.cli.commands.models import Overwrite
from api.cli.errors import FAILURE, UsageError
from api.cli.http import transfer
from api.cli.http.client import api_path
from api.cli.http.download import is_folder, save, size_of
from api.cli.ids import id_option
from api.cli.output import printing, views
from api.cli.parameters import Limit
from api.cli.responses import ExecutionJson, ExecutionResultJson, JsonObject, LogsJson, SandboxJson
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
    session.show(session.client.items(api_path("sandboxes"), SandboxJson, given(status=status), limit), views.sandboxes)


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
        saved = save(response, name, local_path, folder=is_folder(response), overwrite=overwrite, on_progress=on_progress)
    session.show_local({"remote_path": remote_path, **asdict(saved)}, lambda: views.transferred(saved.local_path, saved.size))


@app.command("execute", cls=schema_command("executions.ExecuteRequest", timeout="timeout_s"))
@with_session
def execute(  # noqa: PLR0913 - each option is a parameter
    session: Session,
    sandbox_id: SandboxId,
    code: Annotated[str, typer.Option(help="The code, @FILE, or - for stdin.", metavar="TEXT")],
    language: str | None = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, metavar="SECONDS")] = None,
    env: Annotated[list[str] | None, typer.Option(help="A variable of the code. Repeatable.", metavar="NAME=VALUE")] = None,
    arg: Annotated[list[str] | None, typer.Option(help="An argument of the code. Repeatable.", metavar="TEXT")] = None,
    stdin: Annotated[
        str | None, typer.Option(help="The code's standard input: the text, @FILE, or - for stdin.", metavar="TEXT")
    ] = None,
    cwd: Annotated[str | None, typer.Option(metavar="PATH")] = None,
    background: Annotated[bool, typer.Option("--background", help="Start the code, print its id and return at once.")] = False,
) -> None:
    """Run code in a sandbox.

    The exit code is 1 when the code fails. The JSON output has the exit code of the code itself.
    """
    if code == stdin == "-":
        raise UsageError("only one of --code and --stdin can be - (stdin)")
    body = given(
        code=transfer.content(code).read_text(),
        language=language,
        timeout_s=timeout,
        env=_variables(env) if env else None,
        args=arg or None,
        stdin=None if stdin is None else transfer.content(stdin).read_text(),
        cwd=cwd,
    )
    if background:
        path = api_path("sandboxes", sandbox_id, "executions")
        session.show(session.client.post(path, ExecutionJson, body), views.execution)
        return
    with session.busy("running"):
        path = api_path("sandboxes", sandbox_id, "execute")
        answer = session.client.post(path, ExecutionResultJson, body, hold_s=timeout or _EXECUTE_WAIT_S)
    result = answer.value
    if session.json:
        printing.write_json(answer.json)
    else:
        sys.stdout.write(result.stdout)
        sys.stdout.flush()
        sys.stderr.write(result.stderr)
    if result.exit_code != 0:
        if not session.json:
            reason = f", limit: {result.limit}" if result.limit else ""
            printing.note(f"exit code {result.exit_code} after {result.duration_ms} ms{reason}")
        raise typer.Exit(FAILURE)


def _variables(texts: list[str]) -> dict[str, str]:
    """Return the variables of `NAME=VALUE` texts."""
    variables = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"--env {name[:50]}: write NAME=VALUE")
        variables[name] = value
    return variables


@app.command("logs")
@with_session
def logs(
    session: Session,
    sandbox_id: SandboxId,
    lines: Annotated[int | None, typer.Option(min=1, help="The number of lines, counted from the end.")] = None,
) -> None:
    """Show the last log lines of a sandbox."""
    params = {} if lines is None else {"lines": str(lines)}
    session.show(session.client.get(api_path("sandboxes", sandbox_id, "logs"), LogsJson, params), views.logs)
