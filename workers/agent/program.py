"""The agent's program: read the configuration, then serve.

An agent with `--wait` imports everything first and then waits for its configuration. It is the
start command of a sandbox template. So a new sandbox has an agent that is ready at once.
"""

import argparse
import os
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError

from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.common import Decision
from workers.agent.runtime import process, watchdog
from workers.agent.runtime.autonomy import RESTART, allowed
from workers.agent.runtime.logs import Log, hide_messages

_KEEP_ALIVE_S = 75
_WAIT_EVERY_S = 0.01
# What an agent imports until it has trained the default architecture once. onnxruntime is left out:
# its import starts a thread, which a fork would lose.
_MODULES = (
    "uvicorn.loops.asyncio",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "uvicorn.lifespan.on",
    "workers.agent.server.app",
    "transformers.models.bert.modeling_bert",
    "torch.profiler",
    "onnx",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers.agent")
    parser.add_argument("--wait", action="store_true", help="import everything, then wait for the configuration")
    parser.add_argument("--ready", type=Path, help="with --wait: a file that the agent creates when it waits")
    parser.add_argument("--config", type=Path, required=True, help="AgentConfig as JSON; the agent removes the file")
    options = parser.parse_args()
    if options.wait:
        preload()
        if options.ready:
            options.ready.touch()
        wait_and_serve(options.config)
    else:
        _start(options.config.read_bytes(), options.config)


def preload() -> None:
    """Import what an agent needs, with one thread in each library's pool.

    No pool has started a thread afterwards, so this process may fork.
    """
    process.limit_memory_arenas()
    process.limit_threads(1)
    with process.importing():
        for name in _MODULES:
            import_module(name)


def serve_forked(path: Path) -> None:
    """Wait and serve in a process that was forked after `preload`."""
    process.leave_out_inherited_memory()
    wait_and_serve(path)


def wait_and_serve(path: Path) -> None:
    """Wait until the configuration is at `path`, then serve. Call `preload` first.

    The file must appear as a whole, by a rename.
    """
    process.harden()
    while True:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            time.sleep(_WAIT_EVERY_S)
        else:
            break
    # All agents of a template share its memory, and with it the states of all random generators.
    process.draw_seeds()
    _start(content, path)


def _start(content: bytes, path: Path) -> None:
    path.unlink()
    try:
        config = AgentConfig.model_validate_json(content)
    except ValidationError as error:
        # Do not print the error itself: it quotes the file, and the file holds the key.
        sys.exit(f"the config has the wrong form ({error.error_count()} errors)")
    process.harden()
    process.limit_memory_arenas()
    # Agents on one machine share its cores. Workers train at the same time, with one thread each.
    # The aggregator computes after they have finished, so it takes all cores.
    threads = config.threads or (1 if config.role == "worker" else process.cpu_cores())
    process.limit_threads(threads)
    if allowed(RESTART, config.autonomy):
        watchdog.watch(partial(_serve, config, threads), Log(config.node_id))
    else:
        _serve(config, threads, [])


def _serve(config: AgentConfig, threads: int, decisions: list[Decision]) -> None:
    # Imported here: torch reads the limits of `_start` when it is imported.
    with process.importing():
        import torch
        import uvicorn

        from workers.agent.runtime.paths import SandboxRoot
        from workers.agent.server.app import Agent

    torch.set_num_threads(threads)
    hide_messages()
    log = Log(config.node_id)
    plain_root = os.environ.get("SANDBOX_ROOT")
    app = Agent(config, SandboxRoot(Path(plain_root or "/"), config.largest_file), log, decisions).app()
    log("ready", role=config.role, threads=threads, torch=torch.__version__)
    # A sandbox without namespaces has no ports of its own. Its host then uses this socket.
    address = {"uds": f"{plain_root}/run/{config.port}.sock"} if plain_root else {"host": "0.0.0.0", "port": config.port}  # noqa: S104
    # Connections stay open over many steps of synchronous training. One step may take longer than
    # uvicorn's default of five seconds.
    uvicorn.run(app, **address, log_config=None, access_log=False, server_header=False, timeout_keep_alive=_KEEP_ALIVE_S)
