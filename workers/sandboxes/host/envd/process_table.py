"""The processes that clients started: how they run, who receives their output, how they end."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from .fork_server import AGENT_COMMAND, OOM_SCORE, ForkServer
from .limit_notifier import LimitNotifier
from .log_writer import LineLogger, SandboxLog
from .memory_kills import RECORD_VARIABLE, MemoryKills
from .process_tree import adopt_orphans, kill_all_but, kill_tree, kill_unrelated
from .sandbox_paths import HOME, USER, SandboxPaths
from .wire import SandboxSettings

_CHUNK = 64 << 10
_QUEUED_CHUNKS = 32
_DRAIN_S = 1.0
_MEMORY_KILLS = "/tmp/.memory_kills"  # noqa: S108 (the sandbox's own)
_KILLED = 128 + signal.SIGKILL
_AFTER_KILL_S = 0.3
# envd must get CPU time to kill a fork bomb. And the agent comes before executed code.
_NICENESS = 10


@dataclass(frozen=True, slots=True)
class OutputChunk:
    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """The end of a process. If signal n ended it, `exit_code` is 128 + n, as in shells.

    `out_of_memory`: SIGKILL ended it, and the memory limit killed a process while it ran.
    """

    exit_code: int
    status: str
    timed_out: bool
    out_of_memory: bool


@dataclass(slots=True)
class _ForkedAgent:
    """What `Process` needs of a child that `subprocess` did not start."""

    pid: int
    stdout: BinaryIO
    stderr: BinaryIO
    returncode: int | None = None


Event = OutputChunk | ProcessExit
Listener = asyncio.Queue[Event]


class Process:
    """One started command and its process group.

    Output waits for the slowest listener, so no queue grows without bound. With `adopts`, the
    command adopts its orphans. `kills_before` is the number of kills for memory when it started.
    """

    def __init__(
        self,
        popen: "subprocess.Popen[bytes] | _ForkedAgent",
        command: Sequence[str],
        cwd: str,
        tag: str,
        *,
        adopts: bool,
        kills_before: int,
    ) -> None:
        self.pid = popen.pid
        self.command = command
        self.cwd = cwd
        self.tag = tag
        self.stdin: asyncio.StreamWriter | None = None
        self._popen = popen
        self.adopts = adopts
        self._kills_before = kills_before
        self._listeners: set[Listener] = set()
        self._output_tasks: list[asyncio.Task[None]] = []
        self._ended: ProcessExit | None = None
        self._timed_out = False

    def add_listener(self) -> Listener:
        listener: Listener = asyncio.Queue(_QUEUED_CHUNKS)
        self._listeners.add(listener)
        return listener

    def remove_listener(self, listener: Listener) -> None:
        """Remove a listener and drop its queue, so that waiting output can continue."""
        self._listeners.discard(listener)
        while not listener.empty():
            listener.get_nowait()

    def forward_output(self, stream: Literal["stdout", "stderr"], log: SandboxLog | None) -> None:
        pipe = getattr(self._popen, stream)
        logger = LineLogger(log, stream, self.pid) if log else None
        self._output_tasks.append(asyncio.create_task(self._forward(stream, pipe, logger)))

    async def _forward(self, stream: Literal["stdout", "stderr"], pipe: object, logger: LineLogger | None) -> None:
        reader = asyncio.StreamReader(_CHUNK)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        while data := await reader.read(_CHUNK):
            if logger:
                logger.feed(data)
            await self._publish(OutputChunk(stream, data))
        if logger:
            logger.close()

    async def _publish(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            await listener.put(event)

    def signal(self, number: int) -> None:
        """Signal the whole process group, if it still exists.

        SIGKILL also reaches descendants that have left the group.
        """
        if number == signal.SIGKILL and self.adopts:
            kill_tree(self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def time_out(self) -> None:
        self._timed_out = True
        self.signal(signal.SIGKILL)

    async def finish(self, returncode: int, memory_kills: int) -> None:
        """Publish the end of the process after its output.

        `memory_kills` is the number of kills for memory until now.

        A daemon that it left behind may keep the pipes open, so the wait for output is short.
        """
        self._popen.returncode = returncode
        await asyncio.wait(self._output_tasks, timeout=_DRAIN_S)
        exit_code, status = returncode, f"exit status {returncode}"
        if returncode < 0:
            exit_code, status = 128 - returncode, f"signal: {signal.Signals(-returncode).name}"
        out_of_memory = exit_code == _KILLED and memory_kills > self._kills_before
        self._ended = ProcessExit(exit_code, status, self._timed_out, out_of_memory)
        if self.stdin is not None:
            self.stdin.close()
        await self._publish(self._ended)


class ProcessTable:
    """Starts commands and reaps all children.

    As the first process of its namespace, envd also inherits the children of others.
    """

    def __init__(
        self,
        settings: SandboxSettings,
        paths: SandboxPaths,
        log: SandboxLog,
        notifier: LimitNotifier,
        fork_server: int | None = None,
    ) -> None:
        """`fork_server` is the process id of the fork server, if there is one. Limits spare it."""
        self._settings = settings
        self._paths = paths
        self._log = log
        self._notifier = notifier
        self._fork_server = fork_server
        self.memory_kills = MemoryKills(paths.resolve(_MEMORY_KILLS), kernel_enforces=not settings.watch_memory)
        self._processes: dict[int, Process] = {}
        self._endings: set[asyncio.Task[None]] = set()

    def list(self) -> list[Process]:
        return list(self._processes.values())

    def services(self) -> set[int]:
        """Return the ids of the services: processes without a deadline."""
        return {pid for pid, process in self._processes.items() if not process.adopts} | self._spared

    @property
    def _spared(self) -> set[int]:
        return {self._fork_server} if self._fork_server is not None else set()

    def find(self, pid: int | None = None, tag: str | None = None) -> Process:
        """Return the process with that id or tag. Raise LookupError if none is running."""
        for process in self._processes.values():
            if process.pid == pid or (tag and process.tag == tag):
                return process
        raise LookupError("no such process")

    async def start(
        self, command: Sequence[str], envs: Mapping[str, str], cwd: str, *, stdin: bool, tag: str, timeout_s: float | None
    ) -> tuple[Process, Listener]:
        """Start a command in its own session.

        A command without a deadline is a service: its output goes to the sandbox's log. The output
        of a command with a deadline goes only to the client that started it.

        Raises:
            OSError: the command cannot be started.
        """
        folder = self._paths.resolve(cwd or HOME)
        kills_before = self.memory_kills.count()
        environment = command_environment(self._settings, self._paths) | dict(envs)
        popen = await self._open(command, folder, environment, stdin=stdin, adopts=timeout_s is not None)
        shown = self._paths.show(folder)
        process = Process(popen, command, shown, tag, adopts=timeout_s is not None, kills_before=kills_before)
        listener = process.add_listener()
        self._processes[popen.pid] = process
        self._offer_to_oom_killer(popen.pid)
        for stream in ("stdout", "stderr"):
            process.forward_output(stream, self._log if timeout_s is None else None)
        if timeout_s is not None:
            asyncio.get_running_loop().call_later(timeout_s, self._expire, process)
        if stdin:
            process.stdin = await _writer(popen.stdin)
        return process, listener

    async def fork_agent(self, server: ForkServer) -> Listener | None:
        """Let the fork server fork an agent. It is a service like one that a client started.

        Return None if the process limit is reached.

        Raises:
            OSError: the fork server has ended.
        """
        null = os.open(os.devnull, os.O_RDONLY)
        (out, agents_out), (err, agents_err) = os.pipe(), os.pipe()
        stdout, stderr = os.fdopen(out, "rb", 0), os.fdopen(err, "rb", 0)
        try:
            pid = await server.fork([null, agents_out, agents_err])
        except BaseException:
            stdout.close()
            stderr.close()
            raise
        finally:
            for descriptor in (null, agents_out, agents_err):
                os.close(descriptor)
        if pid is None:
            stdout.close()
            stderr.close()
            return None
        forked = _ForkedAgent(pid, stdout, stderr)
        process = Process(forked, AGENT_COMMAND, HOME, "", adopts=False, kills_before=self.memory_kills.count())
        listener = process.add_listener()
        for stream in ("stdout", "stderr"):
            process.forward_output(stream, self._log)
        if _is_child(pid):
            self._processes[pid] = process
        else:
            # It has ended, and `reap` did not know it yet.
            await process.finish(1, self.memory_kills.count())
        return listener

    async def _open(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], *, stdin: bool, adopts: bool
    ) -> "subprocess.Popen[bytes]":
        """Start a command. If no more processes are allowed, kill unrelated ones and try again.

        Unrelated processes do not belong to a running command, for example those of a fork bomb.
        """
        for is_last_try in (False, True):
            try:
                return subprocess.Popen(  # noqa: ASYNC220, S603 (a fork, not a wait)
                    list(command),
                    stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    cwd=folder,
                    env=environment,
                    start_new_session=True,
                    preexec_fn=_lower_priority_and_adopt if adopts else None,
                )
            except BlockingIOError:
                if is_last_try or os.getpid() != 1:
                    raise
                self._notifier.notify("processes")
                self._log.write("system", "process limit reached: processes that belong to no running command were killed")
                kill_unrelated(set(self._processes) | self._spared)
                await asyncio.sleep(_AFTER_KILL_S)
        raise AssertionError

    def _expire(self, process: Process) -> None:
        if self._processes.get(process.pid) is process:
            process.time_out()
            self._notifier.notify("timeout")

    @staticmethod
    def _offer_to_oom_killer(pid: int) -> None:
        """Under memory pressure the kernel should kill a command, never envd."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE))

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if process := self._processes.pop(pid, None):
                exit_code = os.waitstatus_to_exitcode(status)
                ending = asyncio.create_task(process.finish(exit_code, self.memory_kills.count()))
                self._endings.add(ending)
                ending.add_done_callback(self._endings.discard)

    def kill_all(self, *, at_end: bool = False) -> None:
        """Kill all processes, `at_end` also the fork server.

        As the first process of its namespace, envd also reaches those that it did not start.
        """
        if os.getpid() != 1:
            for process in self.list():
                process.signal(signal.SIGKILL)
        elif self._fork_server is not None and not at_end:
            kill_all_but(self._fork_server)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)


def command_environment(settings: SandboxSettings, paths: SandboxPaths) -> dict[str, str]:
    """Return the environment of every command, before a client adds to it."""
    home = str(paths.resolve(HOME))
    environment = {
        "PATH": settings.path,
        "HOME": home,
        "USER": USER,
        "LOGNAME": USER,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TMPDIR": str(paths.resolve("/tmp")),  # noqa: S108 (the sandbox's own)
        "PYTHONPATH": settings.python_path,
        "PYTHONDONTWRITEBYTECODE": "1",
        # The file system and the kernel may show the host's. Programs can plan with these.
        "SANDBOX_MEMORY_BYTES": str(settings.memory_bytes),
        "SANDBOX_DISK_BYTES": str(settings.disk_bytes),
    }
    if settings.watch_memory:
        environment[RECORD_VARIABLE] = str(paths.resolve(_MEMORY_KILLS))
    if settings.root != "/":
        environment["SANDBOX_ROOT"] = settings.root
    return environment | settings.envs


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _lower_priority_and_adopt() -> None:
    os.nice(_NICENESS)
    adopt_orphans()


async def _writer(pipe: object) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    return asyncio.StreamWriter(transport, protocol, None, loop)
