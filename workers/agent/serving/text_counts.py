"""What a model cannot read of the texts of a prediction, as counts without content.

The weights of the linear path start at zero, and only words of training texts change theirs. So a
word whose weights are zero was never seen in training. A word that was never seen may share its
bucket with one that was. With a fraction f of the buckets in use, its weights are zero with
probability 1 - f. So the sum over zeros, divided by 1 - f, estimates how many were never seen. See
Horvitz and Thompson, Journal of the American Statistical Association, 1952.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.agent.datasets.batches import EncodedTexts
from workers.agent.modeling.network import Network
from workers.agent.protocol.inference import TextCounts
from workers.agent.storage.tensors import LazyState

_TABLE: Final = "linear_path.table.weight"
_SPECIAL: Final = ("pad", "bos", "eos", "cls", "sep", "mask")
# In standard errors. A notice appears only if the lower end is above half of the tokens.
_MARGIN: Final = 2.0


@dataclass(frozen=True, slots=True)
class SeenWords:
    """The ids of words that a global model was trained on: bool, shape (buckets,)."""

    seen: NDArray[np.bool_]

    @classmethod
    def of(cls, path: Path, network: Network) -> "SeenWords | None":
        """Read a global model from scratch. None if no weight, or every weight, was trained."""
        config: Any = network.model.config
        table = LazyState(path)[_TABLE][network.first_word_id : config.vocab_size]
        seen = (table != 0).any(1).numpy()
        return cls(seen) if 0 < seen.sum() < len(seen) else None

    def unseen(self, words: NDArray[np.int64]) -> tuple[float, float]:
        """Return how many of the words were never seen: an estimate, and a lower end.

        `words` are buckets, from 0.
        """
        zero = np.bincount(words, minlength=len(self.seen))[~self.seen].astype(np.float64)
        used = float(self.seen.mean())
        estimate = zero.sum() / (1 - used)
        error = float(np.sqrt(np.square(zero).sum() * used)) / (1 - used)
        least = max(float(zero.sum()), estimate - _MARGIN * error)
        return min(float(estimate), float(len(words))), min(least, float(len(words)))


def count(network: Network, texts: EncodedTexts, seen: SeenWords | None) -> TextCounts:
    """Count what the network cannot read. `seen` None: nothing is known about training texts."""
    if network.tokenizer is not None:
        return _count_pretrained(network.tokenizer, texts)
    words = texts.ids[texts.ids >= network.first_word_id].astype(np.int64) - network.first_word_id
    if seen is None:
        return TextCounts(cut=texts.cut, tokens=len(words))
    unseen, least = seen.unseen(words)
    return TextCounts(cut=texts.cut, tokens=len(words), unseen=unseen, least_unseen=least)


def _count_pretrained(tokenizer: Any, texts: EncodedTexts) -> TextCounts:
    special = {getattr(tokenizer, f"{name}_token_id") for name in _SPECIAL} - {None}
    tokens = int((~np.isin(texts.ids, list(special))).sum())
    unknown_id = tokenizer.unk_token_id
    # GPT-2 has one token for the unknown and the end. Its bytes can spell every text.
    known = unknown_id is None or unknown_id in special
    return TextCounts(cut=texts.cut, tokens=tokens, unknown=None if known else int((texts.ids == unknown_id).sum()))


def are_possible(counts: TextCounts, texts: int) -> bool:
    """Return whether `texts` texts can have these counts."""
    of_tokens = (counts.unknown, counts.unseen, counts.least_unseen)
    return (counts.cut or 0) <= texts and all((each or 0) <= counts.tokens for each in of_tokens)


def total(counts: Sequence[TextCounts | None]) -> TextCounts | None:
    """Add the counts of different texts. What one of them does not know, the sum does not know."""
    known = [each for each in counts if each is not None]
    if not known or len(known) < len(counts):
        return None

    def added(name: str) -> Any:
        values = [getattr(each, name) for each in known]
        return None if None in values else sum(values)

    return TextCounts(**{name: added(name) for name in TextCounts.model_fields})


def middle(counts: Sequence[TextCounts | None]) -> TextCounts | None:
    """Return the median of several workers' counts of the same texts, field by field.

    So one worker alone cannot decide them.
    """
    known = [each for each in counts if each is not None]
    if not known:
        return None

    def median(name: str) -> Any:
        values = sorted(value for each in known if (value := getattr(each, name)) is not None)
        return values[(len(values) - 1) // 2] if values else None

    return TextCounts(**{name: median(name) for name in TextCounts.model_fields})


def notices(counts: TextCounts | None, texts: int, max_length: int) -> list[str]:
    """Return what a reader of the predictions should know about the texts, in words."""
    if counts is None:
        return []
    found = []
    tokens = counts.tokens
    if counts.unseen is not None and counts.least_unseen is not None and 2 * counts.least_unseen > tokens:
        found.append(f"Most tokens were never seen in training: about {min(round(counts.unseen), tokens)} of {tokens}.")
    if counts.unknown is not None and 2 * counts.unknown > tokens:
        found.append(f"Most tokens are unknown to the model's tokenizer: {counts.unknown} of {tokens}.")
    if counts.cut is not None and 2 * counts.cut > texts:
        found.append(f"Most texts were cut: {counts.cut} of {texts} have more tokens than max_length ({max_length}).")
    return found
