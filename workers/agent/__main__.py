"""`python -m workers.agent --config FILE`: one agent, until it is killed."""

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
from workers.agent.runtime.logs import Log

_KEEP_ALIVE_S = 75


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workers.agent")
    parser.add_argument("--config", type=Path, required=True, help="AgentConfig as JSON; the file is removed once read")
    path: Path = parser.parse_args().config
    content = path.read_bytes()
    path.unlink()
    try:
        config = AgentConfig.model_validate_json(content)
    except ValidationError as error:
        # Never the error itself, which quotes the file, and the file holds the key.
        sys.exit(f"the config has the wrong form ({error.error_count()} errors)")
    process.harden()
    process.limit_memory_arenas()
    # Agents on one machine share its cores: the workers take one thread each, the aggregator works when they have finished.
    threads = config.threads or (1 if config.role == "worker" else process.cpu_cores())
    process.limit_threads(threads)
    if allowed(RESTART, config.autonomy):
        watchdog.watch(partial(_serve, config, threads), Log(config.node_id))
    else:
        _serve(config, threads, [])


def _serve(config: AgentConfig, threads: int, decisions: list[Decision]) -> None:
    # Imported late: the limits above must stand before torch reads them.
    with process.importing():
        import torch
        import uvicorn

        from workers.agent.runtime.paths import SandboxRoot
        from workers.agent.server import Agent

    torch.set_num_threads(threads)
    log = Log(config.node_id)
    plain_root = os.environ.get("SANDBOX_ROOT")
    app = Agent(config, SandboxRoot(Path(plain_root or "/")), log, decisions).app()
    log("ready", role=config.role, threads=threads, torch=torch.__version__)
    # Without namespaces a sandbox has no ports of its own; its host then looks for this socket.
    where = {"uds": f"{plain_root}/run/{config.port}.sock"} if plain_root else {"host": "0.0.0.0", "port": config.port}  # noqa: S104
    # A step of synchronous training may take longer than the usual five seconds, on connections that stay open for many.
    uvicorn.run(app, **where, log_config=None, access_log=False, server_header=False, timeout_keep_alive=_KEEP_ALIVE_S)


if __name__ == "__main__":
    main()
