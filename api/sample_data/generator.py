"""Data sets of customer feedback: training shards, a validation set and a test set.

No text is in two of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from api.sample_data import vocabulary as words
from api.sample_data.clauses import Polarity
from api.sample_data.draw import SeededRandom
from api.sample_data.sentences import OPINIONATED, indifferent
from api.sample_data.style import typed

LABELS = ("positive", "negative", "neutral")
_SHARES = {"positive": 0.38, "negative": 0.36, "neutral": 0.26}
_TRIES = 2000


class ExhaustedError(ValueError):
    """The grammar cannot make that many different sentences."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How many samples to make, and how noisy they are.

    `samples` counts the samples of one shard. `label_noise` is the share of training samples with a
    wrong label; validation and test samples have none. `typo_rate` is the probability of a typing
    error in each word of four letters or more.
    """

    shards: int = 4
    samples: int = 2500
    test: int = 1000
    validation: int = 500
    seed: int = 0
    label_noise: float = 0.02
    typo_rate: float = 0.03


@dataclass(frozen=True, slots=True)
class Sample:
    text: str
    sentiment: str


def compose(draw: SeededRandom, label: str, typo_rate: float) -> str:
    """Return one piece of feedback that has the label `label`."""
    product = draw.pick(words.PRODUCTS)
    if label == "neutral":
        text = indifferent(draw, product)
    else:
        polarity: Polarity = 1 if label == "positive" else -1
        text = draw.weighted(OPINIONATED)(draw, polarity, product)
    if draw.chance(0.25):
        text = f"{draw.pick(words.OPENERS).format(span=draw.pick(words.SPANS))}: {text}"
    return typed(draw, text, typo_rate)


def _samples(draw: SeededRandom, count: int, typo_rate: float, seen: set[str]) -> Iterator[Sample]:
    for _ in range(count):
        label = draw.weighted(_SHARES)
        for _ in range(_TRIES):
            text = compose(draw, label, typo_rate)
            key = "".join(char for char in text.lower() if char.isalnum())
            if key not in seen:
                seen.add(key)
                yield Sample(text, label)
                break
        else:
            raise ExhaustedError(f"no new {label} sentence after {_TRIES} tries; ask for fewer samples")


def _mislabelled(draw: SeededRandom, sample: Sample, noise: float) -> Sample:
    if not draw.chance(noise):
        return sample
    return Sample(sample.text, draw.pick([label for label in LABELS if label != sample.sentiment]))


def generate(recipe: Recipe) -> Iterator[tuple[str, list[Sample]]]:
    """Yield ("test", samples), ("validation", samples), ("shard_1", samples) and so on.

    The same recipe gives the same samples on every machine. Test and validation come first and
    depend only on the seed. So runs with more or smaller shards have the same ones.

    Raises:
        ExhaustedError: The grammar cannot make that many different sentences.
    """
    seen: set[str] = set()
    held_out = SeededRandom(recipe.seed)
    yield "test", list(_samples(held_out, recipe.test, recipe.typo_rate, seen))
    yield "validation", list(_samples(held_out, recipe.validation, recipe.typo_rate, seen))
    draw = SeededRandom(~recipe.seed)
    for number in range(1, recipe.shards + 1):
        clean = _samples(draw, recipe.samples, recipe.typo_rate, seen)
        yield f"shard_{number}", [_mislabelled(draw, sample, recipe.label_noise) for sample in clean]
