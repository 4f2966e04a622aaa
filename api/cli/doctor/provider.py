"""Checks of the sandbox provider: it answers, isolates, and does each operation."""

import asyncio
import contextlib
import pkgutil
import time
from typing import Final

from api.cli.doctor.findings import Finding, failed, note, ok
from api.cli.doctor.operations import CREATE, LIFE_S, OPERATIONS, Operation, Probe, WrongAnswerError
from api.domain.sandboxes import SandboxError, SandboxProvider, SandboxUnsupportedError
from api.settings import Settings

_STATUS_S: Final = 15.0
_OPERATION_S: Final = 150.0
_END_S: Final = 30.0
_REACH: Final = "start the provider, or correct E2B_API_URL, E2B_SANDBOX_URL and E2B_API_KEY"
_TEMPLATE: Final = "build the template: python deploy/sandbox/build.py"


def check(settings: Settings) -> list[Finding]:
    """Make a sandbox, use it, and end it, also after an interruption."""
    name, remedy = "provider", "name a class as module:name in FLOW_NEXUS_SANDBOX_PROVIDER"
    try:
        provider: SandboxProvider = pkgutil.resolve_name(settings.sandbox_provider)(settings)
    except ModuleNotFoundError as error:
        return [failed(name, f"the Python module {error.name!r} is not installed", f"install it, or {remedy}")]
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        return [failed(name, f"it cannot be loaded: {type(error).__name__}", remedy)]
    return asyncio.run(_check(provider))


async def _check(provider: SandboxProvider) -> list[Finding]:
    try:
        async with asyncio.timeout(_STATUS_S):
            status = await provider.status()
        if not status.ok:
            return [failed("provider", status.warning or "it does not answer", _REACH)]
        findings = [ok("provider", f"{status.kind} answers")]
        isolation = status.isolation or "unknown"
        remedy = "run the host on Linux with user namespaces; see docs/sandboxes.md"
        findings.append(note("isolation", isolation, remedy) if status.warning else ok("isolation", isolation))
        return findings + await _operations(Probe(provider))
    except (SandboxError, TimeoutError) as error:
        return [failed("provider", str(error) or f"no answer within {_STATUS_S:g} s", _REACH)]
    finally:
        await provider.aclose()


async def _operations(probe: Probe) -> list[Finding]:
    findings: list[Finding] = []
    try:
        for operation in OPERATIONS:
            findings.append(await _attempt(probe, operation))
            if operation is CREATE and findings[-1].state == "failed":
                break
    finally:
        left = await _end_all(probe)
    return findings + left


async def _attempt(probe: Probe, operation: Operation) -> Finding:
    name, started = f"sandbox: {operation.name}", time.monotonic()
    calls = ", ".join(operation.calls)
    try:
        async with asyncio.timeout(_OPERATION_S):
            told = await operation.run(probe)
    except (SandboxError, WrongAnswerError) as error:
        remedy = _TEMPLATE if isinstance(error, SandboxUnsupportedError) else f"the provider must do this as E2B does: {calls}"
        return failed(name, str(error), remedy)
    except TimeoutError:
        return failed(name, "it took too long", f"the provider must do this as E2B does: {calls}")
    seconds = f"{time.monotonic() - started:.2f} s"
    return ok(name, f"{seconds}, {told}" if told else seconds)


async def _end_all(probe: Probe) -> list[Finding]:
    """End every sandbox of this run. A create that failed may have made one."""
    try:
        async with asyncio.timeout(_END_S):
            ids = {info.sandbox_id for info in await probe.provider.list(probe.metadata)}
            for sandbox_id in ids:
                await probe.provider.kill(sandbox_id)
    except (SandboxError, TimeoutError):
        if probe.info is not None:
            with contextlib.suppress(SandboxError):
                await probe.provider.kill(probe.info.sandbox_id)
        return [note("sandbox: none left", "it could not be asked", f"a sandbox of this check ends within {2 * LIFE_S} s")]
    return []
