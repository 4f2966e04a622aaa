"""Networks and their tokenizers, built from a ModelSpec.

Each architecture defines `base` and `large` in its own file.
"""

import threading
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling import fitting, hashed_words
from workers.agent.modeling.freezing import logits_from_activations
from workers.agent.modeling.models import cnn, gpt, lora, pretrained, rnn, transformer, transformer_xl
from workers.agent.protocol.common import ModelSpec
from workers.agent.runtime import process
from workers.agent.runtime.errors import AgentError, DataError
from workers.agent.runtime.paths import SandboxRoot
from workers.agent.storage import exports, tensors
from workers.agent.storage.exports import ExportFolder

# Dropout and initial weights use torch's only global generator. Code that uses it holds this lock,
# so that two threads of an agent stay deterministic.
RNG = threading.Lock()

ARCHITECTURES: dict[str, ModuleType] = {
    "transformer": transformer,
    "transformer-xl": transformer_xl,
    "gpt": gpt,
    "rnn": rnn,
    "cnn": cnn,
}
_PRETRAINED = frozenset({"transformer", "transformer-xl", "gpt"})
_SIZES = frozenset({"base", "large"})
_HASHED_WORDS = "HashedWordTokenizer"
_TOKEN_DROPOUT = 0.1
_LABEL_SMOOTHING = 0.1
# Of a model from scratch. Its linear path reads more of a text than the deep network does.
_LONGEST_TEXT = 1024


class TokenIds(NamedTuple):
    """The token ids of texts.

    `cut` counts the texts with more tokens than the spec's max_length. None: it is not known.
    """

    ids: list[list[int]]
    cut: int | None


@dataclass(frozen=True, slots=True)
class Network:
    """A classifier, and how texts become its input.

    `encode` maps texts to token ids. A pretrained model gets at most the spec's max_length. A model
    from scratch gets at most `tokens`. Its deep network reads the spec's max_length of them, its
    linear path reads all.
    """

    spec: ModelSpec
    model: nn.Module
    encode: Callable[[Sequence[str]], TokenIds]
    pad_id: int
    tokenizer: Any
    """The transformers tokenizer of a pretrained model; None for hashed words."""
    pad_left: bool = False
    token_dropout: float = 0.0
    """Fraction of tokens that training replaces by `unknown_id`, so that no single word decides."""
    unknown_id: int = 0
    first_word_id: int = 0
    tokens: int = 0
    """Tokens of the longest text."""
    label_smoothing: float = 0.0
    """Fraction of each target that training spreads over all classes.

    Without it, a network trained from scratch on a few thousand texts memorises wrong labels
    (Szegedy et al., CVPR 2016, arXiv:1512.00567). Reported losses do not include it.
    """

    def encoded(self, texts: Sequence[str], labels: Sequence[str | None] | None = None) -> EncodedTexts:
        """Return the texts, and their labels, as token ids and class indices.

        Composed and decomposed characters give the same ids.

        Raises:
            DataError: `unknown_label` when a label is not one of the spec's classes.
        """
        # Tokenizers fail on an empty list.
        ids, cut = self.encode([unicodedata.normalize("NFC", text) for text in texts]) if texts else TokenIds([], 0)
        if labels is None:
            return EncodedTexts.of(ids, None, self.pad_id, pad_left=self.pad_left, cut=cut)
        class_of = {label: index for index, label in enumerate(self.spec.labels)}
        unknown = sum(label not in class_of for label in labels)
        if unknown:
            raise DataError("unknown_label", f"{unknown} of {len(labels)} samples have a label that the training does not have")
        classes = [class_of[label] for label in labels if label is not None]
        return EncodedTexts.of(ids, classes, self.pad_id, pad_left=self.pad_left, cut=cut)

    def logits(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Compute the logits: shape (texts, classes)."""
        result: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).logits
        return result

    def batch_logits(self, data: EncodedTexts, batch: NDArray[np.int64]) -> torch.Tensor:
        """Compute the logits of a batch: shape (texts, classes).

        When `data` has activations of frozen layers, it computes only the layers above.
        """
        if not data.frozen_layers:
            return self.logits(*data.batch(batch))
        return logits_from_activations(self.model, data, batch)


def build(spec: ModelSpec, root: SandboxRoot) -> Network:
    """Build a network on the CPU, in evaluation mode.

    The same spec gives bit-identical weights on every machine of the same kind.

    Raises:
        AgentError: `architecture_unavailable`, `bad_labels`, `max_length_too_long`,
        `lora_unavailable`,
            and the errors of models/pretrained.py.
    """
    if spec.architecture not in ARCHITECTURES:
        raise AgentError("architecture_unavailable", f"the architectures are {', '.join(sorted(ARCHITECTURES))}")
    if len(spec.labels) < 2 or len(set(spec.labels)) != len(spec.labels):
        raise AgentError("bad_labels", "a classifier needs at least two distinct labels")
    with RNG, torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        with process.importing():  # the first time, this imports transformers
            network = _plain(spec, root)
        if spec.lora_rank:
            lora.adapt(network.model, spec.lora_rank)
        return network


def _plain(spec: ModelSpec, root: SandboxRoot) -> Network:
    if spec.model in _SIZES:
        return _from_scratch(spec, spec.model, spec.max_length)
    return _from_path(spec, root) if spec.model.startswith("/") else _pretrained(spec, spec.model)


def with_adapters(network: Network, spec: ModelSpec) -> Network:
    """Add the adapters of `spec` to a network without any. Their weights are drawn by its seed.

    Raises:
        AgentError: `lora_unavailable`.
    """
    with RNG, torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        if spec.lora_rank:
            lora.adapt(network.model, spec.lora_rank)
    return replace(network, spec=spec)


def _label_config(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _from_scratch(spec: ModelSpec, size: str, positions: int) -> Network:
    if not 3 <= spec.max_length <= positions <= transformer.POSITIONS:
        most = min(positions, transformer.POSITIONS)
        raise AgentError("max_length_too_long", f"max_length must be 3..{most} for this model")
    architecture = ARCHITECTURES[spec.architecture]
    common = {
        "vocab_size": hashed_words.VOCAB_SIZE,
        "pad_token_id": hashed_words.PAD,
        "deep_tokens": spec.max_length,
        **_label_config(spec.labels),
    }
    model = architecture.make(architecture.SIZES[size], positions, common)

    def encode(texts: Sequence[str]) -> TokenIds:
        ids = [hashed_words.encode(text, _LONGEST_TEXT) for text in texts]
        return TokenIds(ids, sum(len(each) > spec.max_length for each in ids))

    return Network(
        spec,
        model.eval(),
        encode,
        hashed_words.PAD,
        None,
        pad_left=spec.architecture == "transformer-xl",
        token_dropout=_TOKEN_DROPOUT,
        unknown_id=hashed_words.UNK,
        first_word_id=len(hashed_words.SPECIALS),
        tokens=_LONGEST_TEXT,
        label_smoothing=_LABEL_SMOOTHING,
    )


def _from_path(spec: ModelSpec, root: SandboxRoot) -> Network:
    """Build a network from a folder in the sandbox, or from the tar of an export."""
    if not root.resolve(spec.model).exists():
        raise AgentError("model_unavailable", f"there is no model at {spec.model}")
    with exports.opened(root, spec.model, fitting.TOKENIZER_CODE) as folder:
        if folder.read_object(exports.TOKENIZER_CONFIG).get("tokenizer_class") == _HASHED_WORDS:
            return _own_export(spec, folder)
        return _pretrained(spec, str(folder.path))


def _own_export(spec: ModelSpec, folder: ExportFolder) -> Network:
    """Build a network from the export of a `base` or `large` model. Its code is not run."""
    fitting.check_hashed_words(folder, spec)
    config, labels = folder.read_object(exports.CONFIG), folder.labels()
    positions = config.get("deep_tokens")
    if not isinstance(positions, int) or isinstance(positions, bool):
        raise exports.bad("its deep_tokens is no integer")
    old_spec = spec.model_copy(update={"labels": labels, "max_length": positions})
    for size in ARCHITECTURES[spec.architecture].SIZES:
        old: Any = _from_scratch(old_spec, size, positions).model
        if fitting.shapes_of(tensors.state_of(old)) == folder.shapes():
            break
    fitting.check_config(config, old.config.to_dict(), spec)
    fitting.check_shapes(folder.shapes(), fitting.shapes_of(tensors.state_of(old)), spec)
    network = _from_scratch(spec, size, positions)
    plain = fitting.PlainModel(labels, tensors.read(folder.weights))
    tensors.load_into(network.model, fitting.fitted(plain, tensors.state_of(network.model), spec))
    return network


def _pretrained(spec: ModelSpec, source: str) -> Network:
    if spec.architecture not in _PRETRAINED:
        raise AgentError("model_unavailable", f"the architecture {spec.architecture!r} is 'base' or 'large', never pretrained")
    model, tokenizer = pretrained.make(spec.architecture, source, _label_config(spec.labels))
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and positions > 0 and spec.max_length > positions:
        raise AgentError("max_length_too_long", f"max_length must be at most {positions} for this model")

    def encode(texts: Sequence[str]) -> TokenIds:
        batch = tokenizer(list(texts), truncation=True, max_length=spec.max_length)
        ids: list[list[int]] = batch["input_ids"]
        if batch.encodings is not None:
            return TokenIds(ids, sum(bool(each.overflowing) for each in batch.encodings))
        # A tokenizer in Python does not tell what it cut.
        return TokenIds(ids, None if any(len(each) >= spec.max_length for each in ids) else 0)

    # A decoder counts positions from its first token. Padding after a text does not affect it.
    pad_left = spec.architecture != "gpt" and tokenizer.padding_side == "left"
    return Network(spec, model.eval(), encode, tokenizer.pad_token_id, tokenizer, pad_left=pad_left, tokens=spec.max_length)
