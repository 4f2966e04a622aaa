"""What the control plane asks of a sandbox provider, one operation each, with the E2B calls.

The operations share one sandbox. Each compares the answer with what the control plane relies on.
"""

import asyncio
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from api.domain.sandboxes import (
    AGENT_PORT,
    Endpoint,
    ExecutionJob,
    SandboxFileExistsError,
    SandboxFileNotFoundError,
    SandboxInfo,
    SandboxNotFoundError,
    SandboxProvider,
    SandboxSpec,
)

UPLOAD_BYTES: Final = 10_000_000
TEMPLATE: Final = "python"
# The sandbox ends by itself after this time, if this process dies.
LIFE_S: Final = 300
MARK: Final = "flow_nexus_doctor"
_CHUNK: Final = 1_000_000
_FILE: Final = "/data/doctor/file.bin"
_PAGE: Final = "/data/doctor/page.txt"
_SHORT_S: Final = 30.0
_POLL_S: Final = 0.2
_MOST_CLOCK_OFFSET_S: Final = 10.0
_AGENT_PACKAGES: Final = ("workers.agent", "torch", "transformers", "safetensors", "onnx", "pyarrow")


class WrongAnswerError(Exception):
    """The provider answered, and not as E2B's protocol says. The message is for the operator."""


@dataclass
class Probe:
    """One provider, and the sandbox that the operations share. `key` makes this run unique."""

    provider: SandboxProvider
    key: str = field(default_factory=lambda: f"doctor-{secrets.token_hex(8)}")
    info: SandboxInfo | None = None
    digest: str = ""

    @property
    def metadata(self) -> Mapping[str, str]:
        return {MARK: self.key}

    @property
    def sandbox_id(self) -> str:
        if self.info is None:
            raise WrongAnswerError("there is no sandbox")
        return self.info.sandbox_id

    @property
    def spec(self) -> SandboxSpec:
        return SandboxSpec(self.key, TEMPLATE, LIFE_S, self.metadata)

    async def shell(self, command: str, stdin: str | None = None) -> str:
        """Run a command that must succeed. Return its output."""
        result = await self.provider.run(self.sandbox_id, command, timeout_s=_SHORT_S, max_output=10_000, stdin=stdin)
        expect(result.exit_code == 0, f"a command ended with {result.exit_code}")
        return result.stdout


@dataclass(frozen=True, slots=True)
class Operation:
    """`calls` are the parts of the E2B SDK that it uses. `run` returns what is worth telling."""

    name: str
    calls: tuple[str, ...]
    run: Callable[[Probe], Awaitable[str | None]]


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise WrongAnswerError(message)


async def _create(probe: Probe) -> str | None:
    probe.info = await probe.provider.create(probe.spec)
    expect(probe.info.state == "running", "it does not run")
    return None


async def _create_again(probe: Probe) -> str | None:
    again = await probe.provider.create(probe.spec)
    expect(again.sandbox_id == probe.sandbox_id, "the same key made a second sandbox")
    return None


async def _describe(probe: Probe) -> str | None:
    info = await probe.provider.get(probe.sandbox_id)
    expect(info.metadata.get(MARK) == probe.key, "its metadata is missing")
    expect(info.end_at > info.started_at, "it has no end")
    return None


async def _list(probe: Probe) -> str | None:
    found = [info.sandbox_id for info in await probe.provider.list(probe.metadata)]
    expect(found == [probe.sandbox_id], f"the list by metadata has {len(found)} sandboxes instead of 1")
    return None


async def _extend(probe: Probe) -> str | None:
    before = (await probe.provider.get(probe.sandbox_id)).end_at
    await probe.provider.extend(probe.sandbox_id, 2 * LIFE_S)
    expect((await probe.provider.get(probe.sandbox_id)).end_at > before, "its end did not move")
    return None


async def _command(probe: Probe) -> str | None:
    command = "echo out; echo error >&2; exit 3"
    result = await probe.provider.run(probe.sandbox_id, command, timeout_s=_SHORT_S, max_output=100)
    answer = (result.stdout, result.stderr, result.exit_code)
    expect(answer == ("out\n", "error\n", 3), "output or exit code differ")
    return None


async def _standard_input(probe: Probe) -> str | None:
    text = "line\n" * 100_000
    counted = await probe.shell("wc -c", stdin=text)
    expect(counted.split() == [str(len(text))], "the command did not get its whole input")
    return None


async def _time_limit(probe: Probe) -> str | None:
    result = await probe.provider.run(probe.sandbox_id, "sleep 97531", timeout_s=1, max_output=100)
    expect(result.limit == "timeout", "a command ran on after its limit")
    expect(not await probe.provider.is_running(probe.sandbox_id, "97531"), "the process still runs after its limit")
    return None


async def _output_limit(probe: Probe) -> str | None:
    result = await probe.provider.run(probe.sandbox_id, "yes", timeout_s=_SHORT_S, max_output=1000)
    expect((result.limit, len(result.stdout)) == ("output", 1000), "a command went on after its limit")
    return None


async def _upload(probe: Probe) -> str | None:
    chunk = os.urandom(_CHUNK)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(UPLOAD_BYTES // _CHUNK):
            yield chunk

    started = time.monotonic()
    stored = await probe.provider.upload(probe.sandbox_id, _FILE, chunks())
    seconds = time.monotonic() - started
    probe.digest = stored.sha256
    inside = await probe.shell(f'sha256sum "${{SANDBOX_ROOT-}}"{_FILE}')
    expect(inside.split()[:1] == [stored.sha256], "the file in the sandbox differs")
    return f"{UPLOAD_BYTES / 1e6 / seconds:.0f} MB/s"


async def _keep(probe: Probe) -> str | None:
    try:
        await probe.provider.upload(probe.sandbox_id, _FILE, _one(b"other"), replaces=False)
    except SandboxFileExistsError:
        return None
    raise WrongAnswerError("a file was replaced that must stay")


async def _download(probe: Probe) -> str | None:
    started = time.monotonic()
    digest = hashlib.sha256()
    async for chunk in (await probe.provider.download(probe.sandbox_id, _FILE)).chunks:
        digest.update(chunk)
    expect(digest.hexdigest() == probe.digest, "the file that came back differs")
    return f"{UPLOAD_BYTES / 1e6 / (time.monotonic() - started):.0f} MB/s"


async def _download_folder(probe: Probe) -> str | None:
    download = await probe.provider.download(probe.sandbox_id, "/data/doctor")
    size = sum([len(chunk) async for chunk in download.chunks])
    expect(size > UPLOAD_BYTES, "the archive of a folder is too small")
    return None


async def _list_folder(probe: Probe) -> str | None:
    entries = await probe.provider.list_files(probe.sandbox_id, "/data/doctor")
    found = {entry.name: entry.size for entry in entries}
    expect(found.get("file.bin") == UPLOAD_BYTES, "the list of a folder lacks its file or its size")
    return None


async def _remove(probe: Probe) -> str | None:
    await probe.provider.remove(probe.sandbox_id, _FILE)
    try:
        await probe.provider.download(probe.sandbox_id, _FILE)
    except SandboxFileNotFoundError:
        return None
    raise WrongAnswerError("a removed file is still there")


async def _serve(probe: Probe) -> str | None:
    await probe.provider.upload(probe.sandbox_id, _PAGE, _one(probe.key.encode()))
    folder = '"${SANDBOX_ROOT-}"/data/doctor'
    await probe.provider.start(probe.sandbox_id, f"exec python -m http.server {AGENT_PORT} --directory {folder}")
    expect(await probe.provider.is_running(probe.sandbox_id, "http.server"), "the list of commands lacks it")
    return None


async def _port(probe: Probe) -> str | None:
    endpoint = await probe.provider.endpoint(probe.sandbox_id, AGENT_PORT)
    end = time.monotonic() + _SHORT_S
    while not await _is_served(endpoint, probe.key):
        expect(time.monotonic() < end, "no answer came from a service that runs")
        await asyncio.sleep(_POLL_S)
    return None


async def _closed_port(probe: Probe) -> str | None:
    endpoint = await probe.provider.endpoint(probe.sandbox_id, AGENT_PORT)
    headers = {name: value for name, value in endpoint.headers.items() if "token" not in name.lower()}
    expect(not await _is_served(Endpoint(endpoint.url, headers), probe.key), "anyone can reach its ports")
    return None


async def _peer_port(probe: Probe) -> str | None:
    peer = await probe.provider.peer_endpoint(probe.sandbox_id, AGENT_PORT)
    code = (
        "import httpx\n"
        f"with httpx.Client(transport=httpx.HTTPTransport(uds={peer.uds!r}), timeout=20) as client:\n"
        f"    print(client.get({peer.url + '/page.txt'!r}, headers={dict(peer.headers)!r}).text)\n"
    )
    result = await probe.provider.execute(probe.sandbox_id, code, language="python", timeout_s=_SHORT_S, max_output=1000)
    expect(result.stdout.strip() == probe.key, "a sandbox cannot reach the port of another one")
    return None


async def _background(probe: Probe) -> str | None:
    job = ExecutionJob("print(6 * 7)", "python", timeout_s=_SHORT_S, max_output=1000)
    await probe.provider.start_execution(probe.sandbox_id, "doctor1", job)
    async with asyncio.timeout(_SHORT_S):
        while True:
            output = await probe.provider.read_execution(probe.sandbox_id, "doctor1", after=(0, 0), most=1000, wait_s=5)
            if output.end is not None:
                break
            expect(output.state == "running", f"it is {output.state}")
    expect((output.stdout.data, output.end.exit_code) == (b"42\n", 0), "output or exit code differ")
    await probe.provider.remove_execution(probe.sandbox_id, "doctor1")
    return None


async def _cancel(probe: Probe) -> str | None:
    job = ExecutionJob("import time; time.sleep(97530)", "python", timeout_s=LIFE_S, max_output=1000)
    await probe.provider.start_execution(probe.sandbox_id, "doctor2", job)
    await probe.provider.stop_execution(probe.sandbox_id, "doctor2")
    output = await probe.provider.read_execution(probe.sandbox_id, "doctor2", after=(0, 0), most=1000, wait_s=5)
    expect(output.end is not None and output.end.stopped, "it still runs")
    return None


async def _metrics(probe: Probe) -> str | None:
    measured = await probe.provider.metrics(probe.sandbox_id)
    if measured is None:
        return "none yet"
    memory, cores = measured.memory_total_bytes, measured.cpu_count
    return f"{cores or 'unknown'} cores, {memory / 2**30:.1f} GiB memory" if memory else None


async def _log(probe: Probe) -> str | None:
    await probe.provider.logs(probe.sandbox_id, 10)
    return None


async def _clock(probe: Probe) -> str | None:
    started = time.time()
    inside = float(await probe.shell("date +%s"))
    offset = max(started - inside, inside - time.time(), 0)
    expect(offset <= _MOST_CLOCK_OFFSET_S, f"its clock differs by {offset:.0f} s")
    return None


async def _agent(probe: Probe) -> str | None:
    code = f"import importlib.util as u\nprint(*[name for name in {_AGENT_PACKAGES!r} if not u.find_spec(name)])"
    result = await probe.provider.execute(probe.sandbox_id, code, language="python", timeout_s=_SHORT_S, max_output=1000)
    expect(result.exit_code == 0, f"Python ended with {result.exit_code}")
    expect(not result.stdout.split(), f"the template lacks {result.stdout.strip()}")
    return None


async def _end(probe: Probe) -> str | None:
    expect(await probe.provider.kill(probe.sandbox_id), "it was already gone")
    try:
        await probe.provider.get(probe.sandbox_id)
    except SandboxNotFoundError:
        return None
    raise WrongAnswerError("it still exists after its end")


async def _is_served(endpoint: Endpoint, text: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=_SHORT_S) as client:
            answer = await client.get(f"{endpoint.url}/page.txt", headers=endpoint.headers)
    except httpx.TransportError:
        return False
    return answer.is_success and answer.text == text


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


CREATE: Final = Operation("create", ("AsyncSandbox.create",), _create)
_RUN: Final = ("AsyncSandbox.connect", "commands.run", "handle.wait")
OPERATIONS: Final = (
    CREATE,
    Operation("create again with the same key", ("AsyncSandbox.create",), _create_again),
    Operation("describe", ("AsyncSandbox.get_info",), _describe),
    Operation("list by metadata", ("AsyncSandbox.list",), _list),
    Operation("extend", ("AsyncSandbox.set_timeout",), _extend),
    Operation("run a command", (*_RUN, "handle.disconnect"), _command),
    Operation("feed a command", ("commands.send_stdin", "commands.close_stdin"), _standard_input),
    Operation("limit the time of a command", ("handle.kill",), _time_limit),
    Operation("limit the output of a command", ("handle.kill",), _output_limit),
    Operation("upload 10 MB", ("files.write", "files.rename"), _upload),
    Operation("keep a file", ("files.exists",), _keep),
    Operation("download 10 MB", ("files.get_info", "files.read"), _download),
    Operation("download a folder", ("files.get_info", "files.read"), _download_folder),
    Operation("list a folder", ("files.list",), _list_folder),
    Operation("remove a file", ("files.remove",), _remove),
    Operation("start a service", ("commands.run", "handle.pid", "commands.list"), _serve),
    Operation("reach a port", ("sandbox.get_host", "sandbox.traffic_access_token"), _port),
    Operation("refuse a port without its token", ("sandbox.traffic_access_token",), _closed_port),
    Operation("reach a port from a sandbox", ("sandbox.get_host",), _peer_port),
    Operation("run in the background", ("commands.run", "files.write"), _background),
    Operation("cancel in the background", ("commands.run", "files.write"), _cancel),
    Operation("measure", ("AsyncSandbox.get_metrics",), _metrics),
    Operation("read the log", ("read_logs.asyncio_detailed",), _log),
    Operation("compare the clocks", ("commands.run",), _clock),
    Operation("find the agent's packages", ("commands.run",), _agent),
    Operation("end", ("AsyncSandbox.kill",), _end),
)
