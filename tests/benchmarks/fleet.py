"""Agents without a control plane, each in its own process behind a Unix socket."""

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from tests.workers.agent.acting import Acting, key_of, tokens_of
from workers.agent.peers.tokens import Caller, with_tokens
from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.common import Message, Peer
from workers.agent.runtime.logs import Log
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.server.app import Agent

PATIENCE_S = 300.0


@dataclass
class Fleeting:
    """One agent: its address, and the root folder of its sandbox."""

    peer: Peer
    process: BaseProcess
    http: httpx.Client
    root: Path

    def post(self, path: str, message: Message) -> dict[str, Any]:
        """Call as the control plane.

        Every peer in the message gets this agent's token at that peer.
        """
        passes = tokens_of(Caller("worker" if self.peer.node_id.startswith("w") else "aggregator", self.peer.node_id))
        answer = self.http.post(path, content=with_tokens(message, passes).model_dump_json())
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def memory(self, name: str) -> int:
        """Return VmRSS or VmHWM in bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise OSError(f"no {name}")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


def _serve(node_id: str, role: str, root: Path, socket: str) -> None:
    # An agent logs to standard output, where the results are printed.
    with open(os.devnull, "w") as sys.stdout:
        config = AgentConfig.model_validate({"node_id": node_id, "role": role, "key": key_of(node_id)})
        app = Agent(config, SandboxRoot(root), Log(node_id)).app()
        uvicorn.run(app, uds=socket, log_config=None, access_log=False, lifespan="off")


@contextmanager
def fleet(workers: int) -> Iterator[tuple[Fleeting, list[Fleeting]]]:
    """Start an aggregator `ps` and workers `w1`, `w2`, ...

    They are forked, so that torch is imported once.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    made: list[Fleeting] = []
    fork = multiprocessing.get_context("fork")
    try:
        for index in range(workers + 1):
            node_id, role = (f"w{index}", "worker") if index else ("ps", "aggregator")
            root, socket = folder / node_id, str(folder / f"{node_id}.sock")
            (root / "data").mkdir(parents=True)
            process = fork.Process(target=_serve, args=(node_id, role, root, socket), daemon=True)
            process.start()
            client = httpx.Client(
                base_url="http://agent",
                transport=httpx.HTTPTransport(uds=socket),
                auth=Acting(key_of(node_id)),
                timeout=PATIENCE_S,
            )
            made.append(Fleeting(Peer(node_id=node_id, url="http://agent", uds=socket), process, client, root))
        for agent in made:
            _until_up(agent)
        yield made[0], made[1:]
    finally:
        for agent in made:
            agent.http.close()
            agent.process.terminate()
            agent.process.join(10)
        shutil.rmtree(folder, ignore_errors=True)


def _until_up(agent: Fleeting) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(httpx.HTTPError):
            agent.http.get("/health").raise_for_status()
            return
        time.sleep(0.05)
    raise TimeoutError(agent.peer.node_id)
