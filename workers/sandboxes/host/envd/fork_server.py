"""The process of a sandbox that forks its agent, again each time the agent ends.

It exists only in a sandbox that was forked from a template process. envd forks it before it reads
anything from a client and before any command runs. It has the agent's modules in memory and no
descriptor but its connection to envd. As the agent, it denies other processes to trace it.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, Self

from .descriptors import become_silent, close_all_but
from .process_title import set_title

AGENT_CONFIG = Path("/run/flow-nexus/agent.json")
AGENT_COMMAND = ("python", "-m", "workers.agent", "--wait", "--config", str(AGENT_CONFIG))
OOM_SCORE = 500
_STREAMS = 3
_PID = struct.Struct("!I")
_ANSWER_S = 10.0
_PR_SET_DUMPABLE = 4


class AgentProgram(Protocol):
    """The agent's program, as the template process imports it by name."""

    def preload(self) -> None: ...
    def serve_forked(self, path: Path, /) -> None: ...


class ForkServer:
    """envd's side of the process. `pid` is its process id."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._connection = connection

    @classmethod
    def start(cls, agent: AgentProgram, environment: Mapping[str, str], home: Path) -> Self:
        """Fork the process. Call it before this process has threads."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                become_silent()
                close_all_but([theirs.fileno()])
                _serve(agent, theirs, environment, home)
            finally:
                os._exit(0)
        theirs.close()
        ours.setblocking(False)
        return cls(pid, ours)

    async def fork(self, streams: Sequence[int]) -> int | None:
        """Fork an agent with these standard streams, and return its process id.

        The agent is this process's child.

        Return None if the process limit is reached.

        Raises:
            OSError: the fork server has ended or does not answer.
        """
        socket.send_fds(self._connection, [b"."], list(streams))
        try:
            async with asyncio.timeout(_ANSWER_S):
                answer = await asyncio.get_running_loop().sock_recv(self._connection, _PID.size)
        except TimeoutError:
            # A late answer would be taken for that of the next request.
            self._connection.close()
            raise
        if len(answer) != _PID.size:
            raise ConnectionResetError("the fork server has ended")
        (pid,) = _PID.unpack(answer)
        return pid or None


def _serve(agent: AgentProgram, connection: socket.socket, environment: Mapping[str, str], home: Path) -> None:
    set_title(["python", "-m", "envd.fork_server"])
    _offer_to_oom_killer()
    while True:
        message, streams, _, _ = socket.recv_fds(connection, 1, _STREAMS)
        if not message:
            return
        pid = _fork_for_envd(agent, streams, environment, home)
        connection.sendall(_PID.pack(pid))
        for stream in streams:
            os.close(stream)


def _offer_to_oom_killer() -> None:
    """Let the kernel kill this process and its agents before envd.

    The file is writable only while other processes may trace this one. None exists yet.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _fork_for_envd(agent: AgentProgram, streams: Sequence[int], environment: Mapping[str, str], home: Path) -> int:
    """Fork an agent and return its process id, or 0 if no process can be started.

    The process between ends at once, so the first process of the namespace adopts the agent.
    """
    reading, writing = os.pipe()
    try:
        between = os.fork()
        if between == 0:
            try:
                child = os.fork()
                if child == 0:
                    _become_agent(agent, streams, environment, home)
                os.write(writing, _PID.pack(child))
            finally:
                os._exit(0)
        os.close(writing)
        writing = -1
        os.waitpid(between, 0)
        answer = os.read(reading, _PID.size)
        return int(_PID.unpack(answer)[0]) if answer else 0
    except BlockingIOError:
        return 0
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _become_agent(agent: AgentProgram, streams: Sequence[int], environment: Mapping[str, str], home: Path) -> NoReturn:
    code = 1
    try:
        os.setsid()
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        close_all_but([])
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(home)
        set_title(AGENT_COMMAND)
        agent.serve_forked(AGENT_CONFIG)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
        if isinstance(error.code, str):
            sys.stderr.write(error.code + "\n")
    except BaseException:  # noqa: BLE001 - the process must not return into the fork server's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
