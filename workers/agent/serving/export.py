"""Exports of a global model: a folder in Hugging Face layout.

It has a model card, the curves of the rounds for TensorBoard and, on request, ONNX graphs.
"""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling import hashed_words, models
from workers.agent.modeling.cache import ModelCache
from workers.agent.modeling.fitting import TOKENIZER_CODE
from workers.agent.modeling.models.lora import merged
from workers.agent.modeling.network import ARCHITECTURES, Network
from workers.agent.protocol.exports import ExportedFile, ExportModel, ExportResult
from workers.agent.runtime.errors import AgentError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.serving import event_file, int8_graph, onnx_graph
from workers.agent.serving.int8_graph import QuantizationResult
from workers.agent.serving.model_card import card
from workers.agent.storage import tensors
from workers.agent.storage.model_store import ModelStore

_SHARED_CODE = "modeling_hashed_words.py"


def export(
    root: SandboxRoot, store: ModelStore, cache: ModelCache, request: ExportModel, temperature: float | None = None
) -> ExportResult:
    """Write /export/<name> atomically. It replaces a folder of that name.

    Raises:
        AgentError: `unknown_model`, `onnx_failed`.
    """
    target = root.exports / request.name
    part = root.exports / f".{request.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with cache.lock:
            network = cache.load(request.model, store.require(request.digest))
            _save_model(network, part)
            _save_tokenizer(network, part)
            int8 = _save_graphs(cache, network, request, part) if request.onnx else None
        (part / "README.md").write_text(card(request, temperature, int8, hashed=network.tokenizer is None))
        if request.rounds:
            event_file.write(part / event_file.NAME, request.rounds)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    files = [
        ExportedFile(path=path.name, size=path.stat().st_size, sha256=tensors.file_digest(path))
        for path in sorted(target.iterdir())
    ]
    return ExportResult(path=root.shown(target), bytes=sum(file.size for file in files), files=files)


def _save_graphs(cache: ModelCache, network: Network, request: ExportModel, folder: Path) -> QuantizationResult:
    """Write the fp32 graph.

    Write the int8 graph too if it agrees with the fp32 graph on the validation data.
    """
    onnx_graph.write(network, folder / "model.onnx")
    held_out: EncodedTexts | None = None
    if request.validation is not None:
        with suppress(AgentError):
            held_out = cache.samples(request.model, request.validation, data_format=request.data_format)
    classes, threads = len(request.model.labels), torch.get_num_threads()
    return int8_graph.write(folder / "model.onnx", folder / "model.int8.onnx", held_out, classes, threads)


def _save_model(network: Network, folder: Path) -> None:
    model: Any = merged(network.model)
    config: Any = model.config
    if network.tokenizer is None:
        code: str = ARCHITECTURES[network.spec.architecture].CODE
        for name in (code, _SHARED_CODE):
            shutil.copy(Path(models.__file__).parent / name, folder)
        module = code.removesuffix(".py")
        names = {"AutoConfig": type(config), "AutoModelForSequenceClassification": type(model)}
        config.auto_map = {name: f"{module}.{cls.__name__}" for name, cls in names.items()}
    model.save_pretrained(folder)


def _save_tokenizer(network: Network, folder: Path) -> None:
    if network.tokenizer is not None:
        network.tokenizer.save_pretrained(folder)
        return
    for name in TOKENIZER_CODE:
        shutil.copy(Path(hashed_words.__file__).with_name(name), folder)
    config = {
        "tokenizer_class": "HashedWordTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_hashed_words.HashedWordTokenizer", None]},
        "model_max_length": network.tokens,
        "padding_side": "left" if network.pad_left else "right",
        **{f"{name}_token": token for name, token in zip(("pad", "unk", "cls", "sep"), hashed_words.SPECIALS, strict=True)},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
