"""A second training in the same agents has its own first weights and its own frozen layers."""

import asyncio
import json
from pathlib import Path

import numpy as np
import torch

from workers.agent.aggregator.rounds import Aggregator
from workers.agent.context import AgentContext
from workers.agent.modeling.cache import ModelCache
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.training import InitTraining
from workers.agent.runtime.logs import Log
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import tensors

SPEC = ModelSpec(architecture="transformer", model="base", labels=["negative", "positive"], max_length=16)


def test_it_begins_with_the_specs_own_weights(tmp_path: Path) -> None:
    root = SandboxRoot(tmp_path)
    context = AgentContext.create("a", "key", root, Log("a"))
    store, cache, aggregator = context.store, context.cache, Aggregator(context)
    first = asyncio.run(aggregator.init(InitTraining(training_id="one", model=SPEC)))
    trained = {name: tensor + 1 for name, tensor in tensors.state_of(cache.network(SPEC).model).items()}
    cache.load(SPEC, store.path("one", store.save("one", trained).digest))
    second = asyncio.run(aggregator.init(InitTraining(training_id="two", model=SPEC)))
    assert second.digest == first.digest


def test_a_validation_file_that_changed_is_read_again(tmp_path: Path) -> None:
    root = SandboxRoot(tmp_path)
    cache = ModelCache(root)
    file = tmp_path / "validation.json"
    rows = [{"text": "a great lamp", "sentiment": "positive"}, {"text": "an awful lamp", "sentiment": "negative"}]
    file.write_text(json.dumps(rows))
    first = cache.samples(SPEC, "/validation.json", 1)
    assert cache.samples(SPEC, "/validation.json", 1) is first
    assert first.activations is not None
    file.write_text(json.dumps([*rows, rows[0]]))
    assert len(cache.samples(SPEC, "/validation.json", 1)) == 3
    network = cache.network(SPEC)
    plain = cache.samples(SPEC, "/validation.json")
    with torch.inference_mode():
        torch.testing.assert_close(network.batch_logits(first, np.arange(2)), network.batch_logits(plain, np.arange(2)))
