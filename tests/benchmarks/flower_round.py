"""A round of Flower in deployment mode: a SuperLink, and one SuperNode for each client.

The clients return what they receive. It needs an interpreter with flwr (measured with 1.42), which
is not a dependency of this project.
"""

import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

_PROJECT = """
[project]
name = "idle-round"
version = "1.0.0"
description = "clients that do not train"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "benchmark"
[tool.flwr.app.components]
serverapp = "idle_round:server"
clientapp = "idle_round:client"
[tool.flwr.app.config]
clients = {clients}
rounds = {rounds}
bytes = {size}
"""
_APP = """
import time

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(message, context):
    arrays = message.content["arrays"]
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)


class Timed(FedAvg):
    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        result = super().aggregate_train(server_round, replies)
        print(f"IDLE-ROUND {len(replies)} {time.time()}", flush=True)
        return result


@server.main()
def main(grid, context):
    config = context.run_config
    clients = config["clients"]
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
    arrays = ArrayRecord([np.zeros(config["bytes"] // 4, np.float32)])
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=config["rounds"] + 1)
"""
_CONFIG = '[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
_MARK = "IDLE-ROUND "
_START_S = 60.0
_STOP_S = 5.0
_RUN_S = 900.0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(port: int) -> None:
    end = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def _end(part: "subprocess.Popen[bytes]") -> None:
    """Stop a process and its child processes."""
    part.terminate()
    with suppress(subprocess.TimeoutExpired):
        part.wait(_STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(part.pid, signal.SIGKILL)
    part.wait()


def seconds(python: Path, clients: int, rounds: int, size: int, folder: Path) -> list[float]:
    """Return the seconds from the end of one round to the end of the next.

    The model has `size` bytes. The first round is not counted.
    """
    programs, app = python.parent, folder / "app"
    app.mkdir(parents=True)
    (app / "pyproject.toml").write_text(_PROJECT.format(clients=clients, rounds=rounds, size=size))
    (app / "idle_round.py").write_text(_APP)
    port = _free_port()
    (folder / "config.toml").write_text(_CONFIG.format(port=port))
    env = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(folder),
        "FLWR_HOME": str(folder),
        "FLWR_TELEMETRY_ENABLED": "0",
    }
    with ExitStack() as parts, (folder / "log").open("w") as log:

        def start(program: str, *arguments: str) -> None:
            command = [str(programs / program), "--insecure", *arguments]
            part = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True)
            parts.callback(_end, part)

        start("flower-superlink", "--port", str(port))
        _wait_for(port)
        for _ in range(clients):
            start("flower-supernode", "--superlink", f"127.0.0.1:{port}", "--port", str(_free_port()))
        command = [str(programs / "flwr"), "run", str(app), "local", "--stream"]
        ran = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=_RUN_S, check=False)
    marks = [line.removeprefix(_MARK).split() for line in ran.stdout.splitlines() if line.startswith(_MARK)]
    if len(marks) != rounds + 1 or any(int(replies) != clients for replies, _ in marks):
        raise RuntimeError(f"Flower did not finish its rounds: {ran.stdout[-1000:]} {ran.stderr[-1000:]}")
    ends = [float(end) for _, end in marks]
    return [end - start for start, end in pairwise(ends)]
