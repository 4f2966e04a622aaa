"""A global model as a folder that others can use: Hugging Face layout, model card, optionally ONNX."""

import json
import shutil
from pathlib import Path
from typing import Any

from workers.agent import hashed_words, onnx_graph, tensors
from workers.agent.model import ARCHITECTURES, Network
from workers.agent.models.lora import merged
from workers.agent.paths import Root
from workers.agent.protocol import Export, Exported, ExportedFile
from workers.agent.shelf import Shelf
from workers.agent.store import Store

_TOKENIZER_FILES = ("hashed_words.py", "tokenization_hashed_words.py")


def export(root: Root, store: Store, shelf: Shelf, request: Export) -> Exported:
    """Write /export/<name>, whole or not at all; a folder of that name is replaced. `unknown_model`, `onnx_failed`."""
    target = root.exports / request.name
    part = root.exports / f".{request.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with shelf.lock:
            network = shelf.loaded(request.model, store.need(request.digest))
            _save_model(network, part)
            _save_tokenizer(network, part)
            if request.onnx:
                onnx_graph.write(network, part / "model.onnx")
        (part / "README.md").write_text(card(request))
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    files = [
        ExportedFile(path=path.name, size=path.stat().st_size, sha256=tensors.file_digest(path))
        for path in sorted(target.iterdir())
    ]
    return Exported(path=root.shown(target), bytes=sum(file.size for file in files), files=files)


def _save_model(network: Network, folder: Path) -> None:
    code: str | None = getattr(ARCHITECTURES[network.spec.architecture], "CODE", None)
    model: Any = merged(network.model)
    config: Any = model.config
    if code is not None:
        shutil.copy(Path(__file__).parent / "models" / code, folder)
        module = code.removesuffix(".py")
        names = {"AutoConfig": type(config), "AutoModelForSequenceClassification": type(model)}
        config.auto_map = {name: f"{module}.{kind.__name__}" for name, kind in names.items()}
    model.save_pretrained(folder)


def _save_tokenizer(network: Network, folder: Path) -> None:
    if network.tokenizer is not None:
        network.tokenizer.save_pretrained(folder)
        return
    for name in _TOKENIZER_FILES:
        shutil.copy(Path(__file__).with_name(name), folder)
    config = {
        "tokenizer_class": "HashedWordTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_hashed_words.HashedWordTokenizer", None]},
        "model_max_length": network.spec.max_length,
        "padding_side": "left" if network.pad_left else "right",
        **{f"{name}_token": token for name, token in zip(("pad", "unk", "cls", "sep"), hashed_words.SPECIALS, strict=True)},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def card(request: Export) -> str:
    """The model card: facts that the control plane has measured, and how to load the model. No data."""
    front = "---\nlibrary_name: transformers\npipeline_tag: text-classification\n---\n"
    rows = "\n".join(f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in request.card.items())
    hashed = request.model.model in ("base", "large")
    trust = ", trust_remote_code=True"
    remote = trust if hashed else ""
    own = trust if hashed and hasattr(ARCHITECTURES[request.model.architecture], "CODE") else ""
    load = (
        "```python\nfrom transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n"
        f'model = AutoModelForSequenceClassification.from_pretrained("{request.name}"{own})\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{request.name}"{remote})\n```\n'
    )
    how = (
        "federated learning with Flow Nexus: its training data never left the workers' sandboxes."
        if request.card.get("federated", True)
        else "synchronous data-parallel learning with Flow Nexus, on one pooled data set that was shared out over the workers."
    )
    origin = f"A text classifier trained by {how}"
    table = f"| | |\n| --- | --- |\n{rows}\n| digest | `{request.digest}` |"
    return f"{front}# {request.name}\n\n{origin}\n\n{table}\n\n{load}"


def _cell(value: object) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value).replace("|", "\\|").replace("\n", " ")
