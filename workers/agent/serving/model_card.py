"""The model card of an export: the metrics of each round, and how to use the folder.

It has no data.
"""

from workers.agent.modeling.network import ARCHITECTURES
from workers.agent.protocol.exports import ExportModel
from workers.agent.serving.int8_graph import QuantizationResult

_ORIGIN = "A text classifier trained by {} with Flow Nexus: {}."
_FEDERATED = ("federated learning", "its training data never left the workers' sandboxes")
_POOLED = ("synchronous data-parallel learning", "one pooled data set was divided among the workers")
_GRAPHS = (
    "`model.onnx` takes `input_ids` and `attention_mask`, int64 of shape (texts, tokens), and gives `logits`, fp32 of shape"
    " (texts, classes). ONNX Runtime runs it, in browsers too (WASM)."
)


def card(request: ExportModel, temperature: float | None, int8: QuantizationResult | None, *, hashed: bool) -> str:
    """Return the card as Markdown.

    `int8` is None when no ONNX graph was requested. `hashed`: the tokenizer is that of hashed
    words.
    """
    front = "---\nlibrary_name: transformers\npipeline_tag: text-classification\n---\n"
    facts: dict[str, object] = {**request.card, "temperature": temperature}
    if int8 is not None:
        facts["int8"] = int8
    rows = [f"| {_named(name)} | {_cell(value)} |" for name, value in facts.items()]
    table = "\n".join(["| | |", "| --- | --- |", *rows, f"| digest | `{request.digest}` |"])
    parts = [
        f"{front}# {request.name}",
        _ORIGIN.format(*(_FEDERATED if request.federated else _POOLED)),
        table,
        "## Use",
        _loading(request, hashed=hashed),
        _confidence(temperature),
    ]
    if int8 is not None:
        parts.append(_GRAPHS + (" `model.int8.onnx` is the same with 8-bit weights." if int8.kept else ""))
    if request.record:
        parts += ["## Rounds", _rounds(request.record)]
    return "\n\n".join(parts) + "\n"


def _loading(request: ExportModel, *, hashed: bool) -> str:
    trust = ", trust_remote_code=True" if hashed else ""
    snippet = (
        "```python\nfrom transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n"
        f'model = AutoModelForSequenceClassification.from_pretrained("{request.name}"{trust})\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{request.name}"{trust})\n```'
    )
    if not hashed:
        return snippet
    code = ARCHITECTURES[request.model.architecture].CODE
    return f"{snippet}\n\n`trust_remote_code` runs `{code}` and `tokenization_hashed_words.py` of this folder."


def _confidence(temperature: float | None) -> str:
    if temperature is None:
        return "Confidences are not calibrated: no held-out data was there to measure them on."
    return (
        f"Calibrated confidences are `softmax(logits / {temperature:.4g})`: the temperature was fitted on held-out data"
        " (Guo et al., 2017). Labels are the same without it."
    )


def _rounds(record: list[dict[str, object]]) -> str:
    names = list(record[0])
    lines = [f"| {' | '.join(_named(name) for name in names)} |", f"|{' --- |' * len(names)}"]
    lines += [f"| {' | '.join(_cell(row.get(name)) for name in names)} |" for row in record]
    return "\n".join(lines)


def _named(name: str) -> str:
    return _cell(name.replace("_", " "))


def _cell(value: object) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{_cell(name)}: {_cell(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value) or "none"
    return str(value).replace("|", "\\|").replace("\n", " ")
