"""`python -m workers.agent --config FILE` runs one agent until it is killed."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.common import Decision
from workers.agent.runtime import process, watchdog
from workers.agent.runtime.autonomy import RESTART, allowed
from workers.agent.runtime.logs import Log, hide_messages

_KEEP_ALIVE_S = 75


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers.agent")
    parser.add_argument("--config", type=Path, required=True, help="AgentConfig as JSON; the agent removes the file")
    path: Path = parser.parse_args().config
    content = path.read_bytes()
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
    # Imported here: torch reads the limits of `main` when it is imported.
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


if __name__ == "__main__":
    main()
