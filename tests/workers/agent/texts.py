"""Feedback texts that a few training steps can learn, and the specs of suitable networks."""

from workers.agent.protocol.common import ModelSpec

LABELS = ["negative", "neutral", "positive"]
_WORDS = {
    "negative": ("broken", "awful", "useless", "ugly"),
    "neutral": ("average", "usual", "ordinary", "plain"),
    "positive": ("great", "perfect", "lovely", "sturdy"),
}
_SUBJECTS = ("camera", "phone", "kettle", "lamp", "radio")
WORDS = ("the", "number", "is", "and", *_SUBJECTS, *(word for words in _WORDS.values() for word in words))


def samples(count: int, offset: int = 0) -> list[dict[str, str]]:
    """Return texts that differ by offset. The labels take turns."""
    made = []
    for number in range(offset, offset + count):
        label = LABELS[number % 3]
        words = _WORDS[label]
        text = f"the {_SUBJECTS[number // 3 % 5]} number {number} is {words[number % 4]} and {words[number // 4 % 4]}"
        made.append({"text": text, "sentiment": label})
    return made


def spec(model: str = "base", *, labels: list[str] | None = None, max_length: int = 32, seed: int = 7) -> ModelSpec:
    found = LABELS if labels is None else labels
    return ModelSpec(architecture="transformer", model=model, labels=found, max_length=max_length, seed=seed)
