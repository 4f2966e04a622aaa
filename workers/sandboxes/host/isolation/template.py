"""The template process: it imports all that sandboxes need, and forks for each new sandbox.

`python -m workers.sandboxes.host.isolation.template CONTROL MODULE ROOM`. CONTROL is the
descriptor of a socket to the host. MODULE is the agent's program. ROOM is room for a title.

The process has one thread, no network, no key and none of the host's environment. It receives only
descriptors, never a plan: the forked child reads that from its own connection. So its memory holds
nothing of any sandbox, and no sandbox inherits anything of another one.

The child builds the sandbox as the launcher does, and its own child becomes the sandbox's envd.
Both outlive the template process. They end when the host closes the child's connection.
"""

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from workers.sandboxes.host.envd.client_imports import skip_client_imports
from workers.sandboxes.host.envd.descriptors import become_silent, close_all_but
from workers.sandboxes.host.envd.fork_server import AgentProgram, ForkServer
from workers.sandboxes.host.envd.process_title import set_title
from workers.sandboxes.host.envd.wire import SandboxSettings
from workers.sandboxes.host.isolation.fork_messages import DESCRIPTORS, READY, STARTED, receive_plan
from workers.sandboxes.host.isolation.launcher import enter, join_cgroups

skip_client_imports()

from workers.sandboxes.host.envd.process_limits import apply_limits  # noqa: E402
from workers.sandboxes.host.envd.process_table import command_environment  # noqa: E402
from workers.sandboxes.host.envd.sandbox_paths import HOME, SandboxPaths  # noqa: E402
from workers.sandboxes.host.envd.server import serve  # noqa: E402

# So few that closing all of them is quick. envd raises its own limit.
_OPEN_FILES = 256


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, most))
    agent: AgentProgram = import_module(sys.argv[2])
    agent.preload()
    gc.collect()
    gc.freeze()
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        sys.exit("an import has started a thread, which a fork would lose")
    # The kernel reaps the children.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control.sendall(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, DESCRIPTORS)
        if not message:
            return
        if len(descriptors) == DESCRIPTORS:
            _fork(agent, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _fork(agent: AgentProgram, connection: int, control: int, log: int) -> None:
    """Fork a sandbox. If that fails, the host sees that the connection closes."""
    try:
        child = os.fork()
    except OSError as error:
        sys.stderr.write(f"no sandbox was forked: {error.strerror}\n")
        return
    if child == 0:
        _become_sandbox(agent, connection, control, log)


def _become_sandbox(agent: AgentProgram, connection: int, control: int, log: int) -> NoReturn:
    """Become a sandbox's first process, or the process outside that waits for it."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        become_silent()
        for stream in (1, 2):
            os.dup2(log, stream)
        close_all_but([connection, control, log])
        host = socket.socket(fileno=connection)
        host.sendall(STARTED)
        plan = receive_plan(host)
        set_title(plan["title"])
        join_cgroups(plan["cgroups"])
        enter(plan["namespaces"], host)
        _become_envd(agent, socket.socket(fileno=control), log)
        code = 0
    except BaseException:  # noqa: BLE001 - the process must not return into the template's code
        traceback.print_exc()
    finally:
        os._exit(code)


def _become_envd(agent: AgentProgram, control: socket.socket, log: int) -> None:
    set_title(["python", "-m", "envd"])
    settings = SandboxSettings.receive(control)
    apply_limits(settings)
    paths = SandboxPaths(settings.root)
    home = paths.resolve(HOME)
    home.mkdir(parents=True, exist_ok=True)
    fork_server = ForkServer.start(agent, command_environment(settings, paths), home)
    asyncio.run(serve(settings, control, log, fork_server))


if __name__ == "__main__":
    main()
