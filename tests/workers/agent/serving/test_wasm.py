"""An exported graph in WebAssembly predicts the same labels as torch.

It needs node, and npm to install `wasm/package-lock.json` once (into .pytest_cache). Without them
it is skipped. Under `make wasm`, which tests every architecture, it fails.
"""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.workers.agent.jobs import job
from tests.workers.agent.texts import LABELS, samples
from workers.agent.datasets.batches import EncodedShard, EncodedTexts, by_length
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.held_out_metrics import probabilities
from workers.agent.modeling.network import ARCHITECTURES
from workers.agent.protocol.common import ModelSpec
from workers.agent.protocol.exports import ExportModel
from workers.agent.protocol.training import Hyperparameters
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving.export import export
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore
from workers.agent.training.local_epochs import train

HERE = Path(__file__).parent / "wasm"
FILES = ("package.json", "package-lock.json", "classify.mjs")
DEMANDED = os.environ.get("WASM") == "1"
TEXTS = [row["text"] for row in samples(300, 20_000)]


@pytest.fixture(scope="module")
def runtime(request: pytest.FixtureRequest) -> Path:
    """A folder with classify.mjs and its packages."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return _without("node and npm are not here")
    content = b"".join((HERE / name).read_bytes() for name in FILES)
    assert request.config.cache is not None
    folder = request.config.cache.mkdir(f"wasm-{hashlib.sha256(content).hexdigest()[:16]}")
    if not (folder / "installed").exists():
        for name in FILES:
            shutil.copy(HERE / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
        except (subprocess.SubprocessError, OSError) as error:
            return _without(f"npm could not install onnxruntime-web ({type(error).__name__})")
        (folder / "installed").touch()
    return folder


def _without(reason: str) -> Path:
    if DEMANDED:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES) if DEMANDED else ["transformer"])
def test_the_exported_graphs_give_torchs_labels_in_webassembly(runtime: Path, tmp_path: Path, architecture: str) -> None:
    root = SandboxRoot(tmp_path)
    cache, store = ModelCache(root), ModelStore(root.models)
    spec = ModelSpec(architecture=architecture, model="base", labels=LABELS, max_length=16)
    network = cache.network(spec)
    rows = samples(192)
    data = network.encoded([row["text"] for row in rows], [row["sentiment"] for row in rows])
    wanted = Hyperparameters(local_epochs=3, batch_size=16, learning_rate=3e-3, optimizer="adam")
    train(network, EncodedShard(data, data), job(wanted))
    digest = store.save("train_1", tensors.state_of(network.model)).digest
    (tmp_path / "data").mkdir()
    (tmp_path / "data/validation.json").write_text(json.dumps(samples(120, 10_000)))
    request = ExportModel(
        training_id="train_1", name="m", model=spec, digest=digest, onnx=True, validation="/data/validation.json"
    )
    export(root, store, cache, request)
    texts = network.encoded(TEXTS)
    expected = probabilities(network, texts).argmax(1).numpy()
    assert len(set(expected.tolist())) == len(LABELS), "a model that says one thing only would prove nothing"
    assert _agreement(runtime, root.exports / "m/model.onnx", texts, expected) >= 0.995
    assert _agreement(runtime, root.exports / "m/model.int8.onnx", texts, expected) >= 0.99


def _agreement(runtime: Path, graph: Path, texts: EncodedTexts, expected: np.ndarray) -> float:
    order = list(by_length(texts.lengths, 32))
    batches = []
    for indices in order:
        ids, mask = texts.batch(indices)
        batches.append(
            {"texts": ids.shape[0], "tokens": ids.shape[1], "ids": ids.flatten().tolist(), "mask": mask.flatten().tolist()}
        )
    question = graph.with_suffix(".json")
    question.write_text(json.dumps(batches))
    ran = subprocess.run(
        ["node", str(runtime / "classify.mjs"), str(graph), str(question)], capture_output=True, text=True, timeout=90
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = np.array(json.loads(ran.stdout.splitlines()[-1])["classes"])
    return float((found == expected[np.concatenate(order)]).mean())
