"""`flow-nexus doctor`: what a deployment has and lacks, one line each, with the remedy."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.text import Text

from api.cli.doctor import database, machine, provider
from api.cli.doctor.findings import Finding, State, failed, ok
from api.cli.errors import FAILURE, UsageError
from api.cli.operator import read_settings
from api.cli.output import printing
from api.cli.session import FormatOption
from api.cli.walkthrough.service import termination_as_interrupt

_MARKS: Final[dict[State, str]] = {"ok": "ok    ", "note": "note  ", "failed": "FAILED"}
_STYLES: Final[dict[State, str]] = {"ok": "green", "note": "yellow", "failed": "bold red"}
_NAME_WIDTH: Final = 40


def doctor(
    sandboxes: Annotated[bool, typer.Option(help="Make a sandbox, and try each operation that the service uses.")] = True,
    output_format: FormatOption = None,
) -> None:
    """Check this deployment: settings, database, Redis, folders, clocks, and a sandbox of its own.

    It reads FLOW_NEXUS_*, as the service does. The exit code is 1 if something would fail later.
    It changes nothing, prints no secret, and ends the sandbox that it made.
    """
    show = _collect if output_format == "json" else _print
    with termination_as_interrupt():
        findings = show(_findings(sandboxes=sandboxes))
    count = Counter(finding.state for finding in findings)
    if output_format == "json":
        printing.write_json({"healthy": not count["failed"], "findings": [asdict(finding) for finding in findings]})
    else:
        print(f"{count['ok']} ok, {count['note']} notes, {count['failed']} failed")
    if count["failed"]:
        raise typer.Exit(FAILURE)


def _findings(*, sandboxes: bool) -> Iterator[Finding]:
    yield machine.versions()
    try:
        settings = read_settings()
    except UsageError as error:
        yield failed("settings", error.message, "set them; docs/settings.md describes each")
        return
    yield ok("settings", "complete")
    yield machine.secret_key(settings)
    yield from machine.folders(settings)
    yield from database.check(settings)
    yield machine.broker(settings)
    if sandboxes:
        yield from provider.check(settings)


def _collect(findings: Iterable[Finding]) -> list[Finding]:
    return list(findings)


def _print(findings: Iterable[Finding]) -> list[Finding]:
    """Print each finding as soon as it is known."""
    printed = []
    for finding in findings:
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        line = Text(_MARKS[finding.state], style=_STYLES[finding.state])
        line.append(f"  {finding.name:<{_NAME_WIDTH}}  ", style="default")
        line.append(printing.plain(finding.detail + remedy), style="default")
        printing.console().print(line, soft_wrap=True)
        printed.append(finding)
    return printed
