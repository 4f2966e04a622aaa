"""The sandbox provider, called through the E2B SDK.

The provider is E2B itself, our local host, or any other host that speaks E2B's protocol.
Only this package imports the SDK. The SDK's connections live in a runtime of their own.
Therefore one client serves every event loop.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Literal

import e2b
from e2b import AsyncSandbox
from e2b.api.client.api.sandboxes import get_v_2_sandboxes_sandbox_id_logs as read_logs
from e2b.api.client.models import LogsDirection, SandboxLogEntry
from e2b.api.client.models.error import Error
from e2b.api.client_async import get_api_client
from e2b.connection_config import ApiParams, ConnectionConfig

from api.domain.sandboxes import (
    CommandResult,
    Download,
    Endpoint,
    ExecuteOptions,
    ExecutionJob,
    ExecutionOutput,
    FileEntry,
    LogLine,
    LogStream,
    ProviderStatus,
    ResourceLimitHit,
    SandboxError,
    SandboxInfo,
    SandboxMetrics,
    SandboxNotFoundError,
    SandboxPathError,
    SandboxSpec,
    SandboxUnsupportedError,
    StoredFile,
)
from api.settings import Settings
from workers.sandboxes import executions, transfer
from workers.sandboxes.commands import run_command, start_command
from workers.sandboxes.local_host import LocalHostClient
from workers.sandboxes.loopback import exempt_loopback_from_proxies
from workers.sandboxes.scripts import MEMORY_ANSWER, make_script, program_of
from workers.sandboxes.sdk_errors import translate_sdk_errors

_REQUEST_S = 30.0
_CREATE_S = 120.0
_HEALTH_S = 3.0
_CLEAN_UP_S = 10.0
# The exit code after SIGKILL, at a host that answers as shells do and at E2B.
_STREAMS: dict[str, LogStream] = {"stdout": "stdout", "stderr": "stderr"}
_KILLED = (137, -1)
# Connecting extends a sandbox that would end sooner. It never shortens one.
_CONNECT_TIMEOUT_S = 15
_PAGE = 100
_MAX_CONNECTED = 1000
_MAX_LINES = 1000
_ROUTE_ID = "E2b-Sandbox-Id"
_ROUTE_PORT = "E2b-Sandbox-Port"
_TRAFFIC_TOKEN = "e2b-traffic-access-token"  # noqa: S105 (a header's name)
_PEER_URL = "http://peer"


class SandboxClient:
    """Implements `SandboxProvider`."""

    def __init__(self, settings: Settings) -> None:
        exempt_loopback_from_proxies()
        self._prefix = settings.template_prefix
        self._sandbox_url = settings.e2b_sandbox_url.rstrip("/") if settings.e2b_sandbox_url else None
        self._options: ApiParams = {
            "api_key": settings.e2b_api_key.get_secret_value(),
            "api_url": settings.e2b_api_url,
            "sandbox_url": self._sandbox_url,
            "domain": settings.e2b_domain,
            "http_version": settings.e2b_http_version or ("1.1" if self._sandbox_url else None),
            "request_timeout": _REQUEST_S,
        }
        self._host = LocalHostClient(self._sandbox_url, settings.e2b_api_key.get_secret_value()) if self._sandbox_url else None
        self._connected: dict[str, AsyncSandbox] = {}
        self._templates: dict[str, str] = {}
        self._interpreters: set[tuple[str, str]] = set()
        self._gateway: tuple[str | None] | None = None

    async def create(self, spec: SandboxSpec) -> SandboxInfo:
        """Start a sandbox whose ports can only be reached with its tokens."""
        options: ApiParams = {**self._options, "request_timeout": _CREATE_S}
        with translate_sdk_errors("start a sandbox"):
            sandbox = await AsyncSandbox.create(
                self._prefix + spec.template,
                timeout=spec.timeout_s,
                metadata=dict(spec.metadata),
                network={"allow_public_traffic": False},
                idempotency_key=spec.key.lower(),
                **options,
            )
        return await self.get(self._remember(sandbox).sandbox_id)

    async def get(self, sandbox_id: str) -> SandboxInfo:
        with translate_sdk_errors("describe the sandbox"):
            return self._info(await AsyncSandbox.get_info(sandbox_id, **self._options))

    async def list(self, metadata: Mapping[str, str]) -> Sequence[SandboxInfo]:
        query = e2b.SandboxQuery(metadata=dict(metadata))
        sandboxes: list[SandboxInfo] = []
        with translate_sdk_errors("list sandboxes"):
            pages = AsyncSandbox.list(query=query, limit=_PAGE, **self._options)
            while pages.has_next:
                sandboxes += [self._info(info) for info in await pages.next_items()]
        return sandboxes

    async def extend(self, sandbox_id: str, timeout_s: int) -> None:
        with translate_sdk_errors("extend the sandbox"):
            await AsyncSandbox.set_timeout(sandbox_id, timeout_s, **self._options)

    async def kill(self, sandbox_id: str) -> bool:
        """End a sandbox. Return False if there was none."""
        self._forget(sandbox_id)
        with translate_sdk_errors("end the sandbox"):
            return bool(await AsyncSandbox.kill(sandbox_id, **self._options))

    async def metrics(self, sandbox_id: str) -> SandboxMetrics | None:
        with translate_sdk_errors("measure the sandbox"):
            measurements = await AsyncSandbox.get_metrics(sandbox_id, **self._options)
        if not measurements:
            return None
        last = measurements[-1]
        return SandboxMetrics(
            time=last.timestamp,
            cpu_count=last.cpu_count,
            cpu_used_pct=last.cpu_used_pct,
            memory_used_bytes=last.mem_used,
            memory_total_bytes=last.mem_total,
            disk_used_bytes=last.disk_used,
            disk_total_bytes=last.disk_total,
        )

    async def limit_hits(self, sandbox_id: str) -> Sequence[ResourceLimitHit] | None:
        """Return the limits that the sandbox reached, the latest first.

        Return None if the provider keeps no such record. E2B does not.
        """
        return await self._host.limit_hits(sandbox_id) if self._host is not None else None

    async def logs(self, sandbox_id: str, lines: int) -> Sequence[LogLine]:
        """Return the last lines, oldest first, at most 1,000."""
        with translate_sdk_errors("read the sandbox's log"):
            answer = await read_logs.asyncio_detailed(
                sandbox_id,
                client=get_api_client(ConnectionConfig(**self._options)),
                limit=min(lines, _MAX_LINES),
                direction=LogsDirection.BACKWARD,
            )
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise SandboxNotFoundError("the sandbox does not exist any more")
        if answer.parsed is None or isinstance(answer.parsed, Error):
            raise SandboxError("the sandbox provider could not read the sandbox's log")
        return [_log_line(entry) for entry in reversed(answer.parsed.logs)]

    async def start(self, sandbox_id: str, command: str) -> int:
        """Start a service in the sandbox and return its process id."""
        sandbox = await self._sandbox(sandbox_id)
        with self._forgetting(sandbox_id), translate_sdk_errors("start the command"):
            return await start_command(sandbox, command)

    async def is_running(self, sandbox_id: str, words: str) -> bool:
        """Return whether a command that a client or the template started has these words."""
        sandbox = await self._sandbox(sandbox_id)
        with self._forgetting(sandbox_id), translate_sdk_errors("list the commands"):
            commands = await sandbox.commands.list(request_timeout=_REQUEST_S)
        return any(words in " ".join([command.cmd, *command.args]) for command in commands)

    async def run(
        self, sandbox_id: str, command: str, *, timeout_s: float, max_output: int, stdin: str | None = None
    ) -> CommandResult:
        return await self._run(sandbox_id, command, timeout_s=timeout_s, max_output=max_output, stdin=stdin)

    async def _run(
        self,
        sandbox_id: str,
        command: str,
        *,
        timeout_s: float,
        max_output: int,
        stdin: str | None = None,
        cwd: str | None = None,
    ) -> CommandResult:
        sandbox = await self._sandbox(sandbox_id)
        with self._forgetting(sandbox_id), translate_sdk_errors("run the command"):
            result = await run_command(sandbox, command, timeout_s=timeout_s, max_output=max_output, stdin=stdin, cwd=cwd)
        # The host has recorded a kill for memory itself.
        if result.limit in ("timeout", "output") and self._host is not None:
            await self._host.note_limit(sandbox_id, result.limit)
        return result

    async def execute(
        self,
        sandbox_id: str,
        code: str,
        *,
        language: str | None,
        timeout_s: float,
        max_output: int,
        options: ExecuteOptions | None = None,
    ) -> CommandResult:
        """Run code from a file, in `language`: python, nodejs, javascript or bash.

        The default is the template's language. The file is removed afterwards.

        Raises:
            SandboxUnsupportedError: the sandbox cannot run that language.
            SandboxPathError: the working folder does not exist.
        """
        options = options or ExecuteOptions()
        language = language or await self._template(sandbox_id)
        await self._check_interpreter(sandbox_id, program_of(language))
        script = make_script(code, language, options, counts_kills=self._host is None)
        memory_kills = ""
        try:
            result = await self._run(
                sandbox_id, script.command, timeout_s=timeout_s, max_output=max_output, stdin=script.stdin, cwd=options.cwd
            )
        except SandboxPathError as error:
            raise SandboxPathError("the sandbox has no folder at `cwd`, or it cannot be entered") from error
        finally:
            memory_kills = await asyncio.shield(self._clean_up(sandbox_id, script.cleanup))
        if result.exit_code in _KILLED and MEMORY_ANSWER in memory_kills:
            return replace(result, limit="memory")
        return result

    async def _clean_up(self, sandbox_id: str, command: str) -> str:
        """Run a command that removes files. Return its output, or nothing if it fails."""
        with contextlib.suppress(SandboxError, TimeoutError):
            async with asyncio.timeout(_CLEAN_UP_S):
                result = await self._run(sandbox_id, command, timeout_s=_CLEAN_UP_S, max_output=1000)
            return result.stdout
        return ""

    async def start_execution(self, sandbox_id: str, execution_id: str, job: ExecutionJob) -> None:
        """Run code as `execute` does, in the background. A second call with the id does nothing.

        Raises:
            SandboxUnsupportedError: the sandbox cannot run that language.
            SandboxPathError: the working folder does not exist.
        """
        language = job.language or await self._template(sandbox_id)
        await self._check_interpreter(sandbox_id, program_of(language))
        script = make_script(job.code, language, job.options, counts_kills=False)
        sandbox = await self._sandbox(sandbox_id)
        try:
            with self._forgetting(sandbox_id), translate_sdk_errors("start the execution"):
                await executions.start(sandbox, execution_id, script, job, machine_is_own=self._host is None)
        except SandboxPathError as error:
            raise SandboxPathError("the sandbox has no folder at `cwd`, or it cannot be entered") from error

    async def read_execution(
        self, sandbox_id: str, execution_id: str, *, after: tuple[int, int], most: int, wait_s: float
    ) -> ExecutionOutput:
        """Return the state of an execution, and its output after these positions."""
        sandbox = await self._sandbox(sandbox_id)
        with self._forgetting(sandbox_id), translate_sdk_errors("read the output"):
            return await executions.read(sandbox, execution_id, after=after, most=most, wait_s=wait_s)

    async def stop_execution(self, sandbox_id: str, execution_id: str) -> None:
        """End the code of an execution, with all processes that it started."""
        sandbox = await self._sandbox(sandbox_id)
        with self._forgetting(sandbox_id), translate_sdk_errors("end the execution"):
            await executions.stop(sandbox, execution_id)

    async def remove_execution(self, sandbox_id: str, execution_id: str) -> None:
        """Remove the output of an execution from its sandbox."""
        sandbox = await self._sandbox(sandbox_id)
        with self._forgetting(sandbox_id), translate_sdk_errors("remove the output"):
            await executions.remove(sandbox, execution_id)

    async def upload(self, sandbox_id: str, path: str, chunks: AsyncIterator[bytes], *, replaces: bool = True) -> StoredFile:
        sandbox = await self._sandbox(sandbox_id)
        with self._forgetting(sandbox_id):
            return await transfer.upload(sandbox, path, chunks, replaces=replaces)

    async def download(self, sandbox_id: str, path: str) -> Download:
        sandbox = await self._sandbox(sandbox_id)
        with self._forgetting(sandbox_id):
            return await transfer.download(sandbox, path)

    async def list_files(self, sandbox_id: str, path: str) -> Sequence[FileEntry]:
        sandbox = await self._sandbox(sandbox_id)
        with self._forgetting(sandbox_id):
            return await transfer.list_files(sandbox, path)

    async def remove(self, sandbox_id: str, path: str) -> None:
        """Remove a file, if it exists and the sandbox answers."""
        await transfer.remove_file(await self._sandbox(sandbox_id), path)

    async def endpoint(self, sandbox_id: str, port: int) -> Endpoint:
        sandbox = await self._sandbox(sandbox_id)
        headers = {_TRAFFIC_TOKEN: sandbox.traffic_access_token} if sandbox.traffic_access_token else {}
        if self._sandbox_url is None:
            return Endpoint(f"https://{sandbox.get_host(port)}", headers)
        return Endpoint(self._sandbox_url, {_ROUTE_ID: sandbox_id, _ROUTE_PORT: str(port), **headers})

    async def peer_endpoint(self, sandbox_id: str, port: int) -> Endpoint:
        """Return the endpoint of a port as another sandbox reaches it.

        An isolated local sandbox has no network. It reaches others through the host's gateway.
        """
        endpoint = await self.endpoint(sandbox_id, port)
        if self._host is None:
            return endpoint
        gateway = await self._gateway_socket()
        return Endpoint(_PEER_URL, endpoint.headers, gateway) if gateway else endpoint

    async def status(self) -> ProviderStatus:
        """Return whether the provider answers, and how it isolates sandboxes if known."""
        try:
            health = await self._host.health() if self._host else None
            # A host may be healthy while its API refuses this key, or while its address is wrong.
            with translate_sdk_errors("list sandboxes"):
                async with asyncio.timeout(_HEALTH_S):
                    await AsyncSandbox.list(limit=1, **self._options).next_items()
        except SandboxError as error:
            return ProviderStatus(False, "local" if self._sandbox_url else "e2b", warning=str(error))
        except TimeoutError:
            warning = f"it has not listed its sandboxes within {_HEALTH_S:g} s"
            return ProviderStatus(False, "local" if self._sandbox_url else "e2b", warning=warning)
        if health is not None:
            return ProviderStatus(True, "local", health.isolation, health.warning)
        return ProviderStatus(True, "e2b", "microVM")

    async def aclose(self) -> None:
        """Forget all sandboxes. The SDK keeps its connections for the whole process."""
        self._connected.clear()

    async def _sandbox(self, sandbox_id: str) -> AsyncSandbox:
        sandbox = self._connected.get(sandbox_id)
        if sandbox is None:
            with translate_sdk_errors("connect to the sandbox"):
                sandbox = await AsyncSandbox.connect(sandbox_id, timeout=_CONNECT_TIMEOUT_S, **self._options)
            self._remember(sandbox)
        return sandbox

    def _remember(self, sandbox: AsyncSandbox) -> AsyncSandbox:
        while len(self._connected) >= _MAX_CONNECTED:
            self._forget(next(iter(self._connected)))
        self._connected[sandbox.sandbox_id] = sandbox
        return sandbox

    def _forget(self, sandbox_id: str) -> None:
        self._connected.pop(sandbox_id, None)
        self._templates.pop(sandbox_id, None)
        self._interpreters -= {pair for pair in self._interpreters if pair[0] == sandbox_id}

    @contextmanager
    def _forgetting(self, sandbox_id: str) -> Iterator[None]:
        """Forget the sandbox if a call finds that it does not exist."""
        try:
            yield
        except SandboxNotFoundError:
            self._forget(sandbox_id)
            raise

    def _info(self, info: e2b.SandboxInfo) -> SandboxInfo:
        template = (info.name or info.template_id).removeprefix(self._prefix)
        self._templates[info.sandbox_id] = template
        state: Literal["running", "paused"] = "paused" if info.state == e2b.SandboxState.PAUSED else "running"
        return SandboxInfo(
            sandbox_id=info.sandbox_id,
            template=template,
            state=state,
            metadata=dict(info.metadata),
            started_at=info.started_at,
            end_at=info.end_at,
            cpu_count=info.cpu_count,
            memory_mb=info.memory_mb,
        )

    async def _template(self, sandbox_id: str) -> str:
        return self._templates.get(sandbox_id) or (await self.get(sandbox_id)).template

    async def _check_interpreter(self, sandbox_id: str, program: str) -> None:
        if (sandbox_id, program) in self._interpreters:
            return
        result = await self.run(sandbox_id, f"command -v {program}", timeout_s=_REQUEST_S, max_output=1000)
        if result.exit_code != 0:
            raise SandboxUnsupportedError(f"this sandbox cannot execute that language: '{program}' is not installed")
        self._interpreters.add((sandbox_id, program))

    async def _gateway_socket(self) -> str | None:
        if self._gateway is None:
            health = await self._host.health() if self._host else None
            self._gateway = (health.gateway if health else None,)
        return self._gateway[0]


def _log_line(entry: SandboxLogEntry) -> LogLine:
    source = str(entry.fields.additional_properties.get("stream"))
    return LogLine(entry.timestamp, _STREAMS.get(source, "system"), entry.message)
