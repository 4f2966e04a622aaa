"""Networks and their tokenizers, from a ModelSpec. The only file that decides what `base` and `large` are."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from workers.agent import hashed_words
from workers.agent.batches import Encoded
from workers.agent.errors import AgentError, DataError
from workers.agent.paths import Root
from workers.agent.protocol import ModelSpec

# Dropout and initial weights draw from torch's one global generator: whoever draws holds this, so that an agent that does
# two things at once stays deterministic in both.
RNG = threading.Lock()


@dataclass(frozen=True, slots=True)
class Size:
    """A BERT encoder (Devlin et al., 2019) trained from scratch."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    dropout: float = 0.2


SIZES = {"base": Size(2, 128, 4, 512), "large": Size(4, 256, 4, 1024)}
_POSITIONS = 512
_TOKEN_DROPOUT = 0.1


@dataclass(frozen=True, slots=True)
class Network:
    """A classifier and how texts become its input. `encode` maps texts to token ids, cut at the spec's max_length."""

    spec: ModelSpec
    model: nn.Module
    encode: Callable[[Sequence[str]], list[list[int]]]
    pad_id: int
    tokenizer: Any
    """The transformers tokenizer of a pretrained model; None for hashed words."""
    token_dropout: float = 0.0
    """Share of tokens that training hides behind `unknown_id`, so that no single word decides."""
    unknown_id: int = 0
    first_word_id: int = 0

    def encoded(self, texts: Sequence[str], labels: Sequence[str | None] | None = None) -> Encoded:
        """DataError `unknown_label` when a label is none of the spec's classes."""
        if labels is None:
            return Encoded.of(self.encode(texts), None, self.pad_id)
        index = {label: i for i, label in enumerate(self.spec.labels)}
        unknown = sum(label not in index for label in labels)
        if unknown:
            raise DataError("unknown_label", f"{unknown} of {len(labels)} samples have a label that the training does not")
        return Encoded.of(self.encode(texts), [index[label] for label in labels if label is not None], self.pad_id)

    def logits(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Shape (texts, classes)."""
        result: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).logits
        return result


def build(spec: ModelSpec, root: Root) -> Network:
    """A network on the CPU in evaluation mode. The same spec gives bit-identical weights on every machine of a kind.

    Raises AgentError: architecture_unavailable, bad_labels, max_length_too_long, model_unavailable.
    """
    if spec.architecture != "transformer":
        raise AgentError("architecture_unavailable", "only the architecture 'transformer' is built")
    if len(spec.labels) < 2 or len(set(spec.labels)) != len(spec.labels):
        raise AgentError("bad_labels", "a classifier needs at least two distinct labels")
    with RNG, torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        return _from_scratch(spec, SIZES[spec.model]) if spec.model in SIZES else _pretrained(spec, root)


def _names(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _from_scratch(spec: ModelSpec, size: Size) -> Network:
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertForSequenceClassification

    if not 3 <= spec.max_length <= _POSITIONS:
        raise AgentError("max_length_too_long", f"max_length must be 3..{_POSITIONS} for this model")
    config = BertConfig(
        vocab_size=hashed_words.VOCAB_SIZE,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.feed_forward,
        max_position_embeddings=spec.max_length,
        type_vocab_size=1,
        hidden_dropout_prob=size.dropout,
        attention_probs_dropout_prob=0.0,
        pad_token_id=hashed_words.PAD,
        **_names(spec.labels),
    )

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [hashed_words.encode(text, spec.max_length) for text in texts]

    return Network(
        spec,
        BertForSequenceClassification(config).eval(),
        encode,
        hashed_words.PAD,
        None,
        token_dropout=_TOKEN_DROPOUT,
        unknown_id=hashed_words.UNK,
        first_word_id=len(hashed_words.SPECIALS),
    )


def _pretrained(spec: ModelSpec, root: Root) -> Network:
    """A Hugging Face id or an absolute path; an encoder without a classification head, or with another, gets a new one."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = str(root.resolve(spec.model)) if spec.model.startswith("/") else spec.model
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForSequenceClassification.from_pretrained(
            source, ignore_mismatched_sizes=True, dtype=torch.float32, **_names(spec.labels)
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise AgentError("model_unavailable", f"the model cannot be loaded ({type(error).__name__})") from None
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and spec.max_length > positions:
        raise AgentError("max_length_too_long", f"max_length must be at most {positions} for this model")
    if tokenizer.pad_token_id is None:
        raise AgentError("model_unavailable", "the model's tokenizer has no padding token")

    def encode(texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=spec.max_length)["input_ids"]
        return ids

    return Network(spec, model.eval(), encode, tokenizer.pad_token_id, tokenizer)
