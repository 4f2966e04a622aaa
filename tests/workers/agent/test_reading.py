"""A worker's agent never returns the contents of a file, not even to the control plane."""

import asyncio
from pathlib import Path

import httpx
import pytest

from workers.agent.peers.tokens import CONTROL_PLANE, issue
from workers.agent.protocol.admin import AgentConfig
from workers.agent.protocol.common import ModelSpec, Peer
from workers.agent.protocol.inference import PredictTexts
from workers.agent.runtime.logs import Log
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.server.app import Agent


@pytest.mark.parametrize(("role", "status"), [("worker", 403), ("validator", 403), ("aggregator", 404)])
def test_only_an_aggregator_reads_what_it_predicts_on(tmp_path: Path, role: str, status: int) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.json").write_text('[{"text": "a marked sentence", "sentiment": "a"}]')
    config = AgentConfig(node_id="n", role=role, key="k" * 32)
    request = PredictTexts(
        training_id="train_fed_a",
        model=ModelSpec(architecture="transformer", model="base", labels=["a", "b"]),
        digest="0" * 64,
        dataset="/data/*.json",
        aggregation="global",
        workers=[],
        self_peer=Peer(node_id="n", url="http://n"),
        input_data="/data/train.json",
    )

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Agent(config, SandboxRoot(tmp_path), Log("n")).app())
        async with httpx.AsyncClient(transport=transport, base_url="http://n") as client:
            headers = {"Authorization": f"Bearer {issue(config.key, CONTROL_PLANE)}", "Content-Type": "application/json"}
            return await client.post("/predictions", content=request.model_dump_json(), headers=headers)

    answer = asyncio.run(ask())
    assert "a marked sentence" not in answer.text
    assert answer.status_code == status, f"an aggregator goes on, and has no such model: {answer.text}"
