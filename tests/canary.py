"""A sentence that occurs nowhere else, and a search for every form in which it could leave."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from workers.agent.modeling import hashed_words

WORDS = ("zyxquartz", "plimworth", "vandrickle", "oskelund", "brimtassel", "quonderful")
SENTENCE = " ".join(WORDS)
_TYPES = ("<i4", "<i8", ">i4", ">i8", "<u2")


def marked(samples: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The same samples, each with the marked sentence in it."""
    return [{**sample, "text": f"{sample['text']} {SENTENCE}"} for sample in samples]


@dataclass
class Canary:
    """The forms to search for: each word, and the sentence as token ids, in bytes and in JSON."""

    needles: dict[str, bytes] = field(init=False)

    def __post_init__(self) -> None:
        ids = hashed_words.encode(SENTENCE, 128)
        body = [token for token in ids if token >= len(hashed_words.SPECIALS)]
        assert len(body) == len(WORDS)
        self.needles = {word: word.encode() for word in WORDS}
        self.needles |= {f"ids as {kind}": np.array(body, kind).tobytes() for kind in _TYPES}
        self.needles |= {f"ids as JSON {gap!r}": gap.join(map(str, body)).encode() for gap in (", ", ",")}
        self.needles["escaped"] = json.dumps(SENTENCE).encode()[1:-1]

    def found_in(self, content: bytes) -> list[str]:
        """Names of what occurs in `content`."""
        return [name for name, needle in self.needles.items() if needle in content]
