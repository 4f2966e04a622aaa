"""How people type: contractions, lower case, missing or many full stops, and slips of the finger."""

import re

from api.sample_data.draw import SeededRandom

_CONTRACTIONS = {
    "is not": "isn't",
    "are not": "aren't",
    "did not": "didn't",
    "do not": "don't",
    "cannot": "can't",
    "it is": "it's",
    "I am": "I'm",
    "I would": "I'd",
}
_NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
_WORD = re.compile(r"[a-z]{4,}")


def slip(draw: SeededRandom, word: str) -> str:
    """One typing error: two letters swapped, one lost, one doubled, or a neighbouring key."""
    at = 1 + draw.below(len(word) - 2)
    kind = draw.below(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + draw.pick(_NEIGHBOURS[word[at]]) + word[at + 1 :]


def typed(draw: SeededRandom, text: str, typo_rate: float) -> str:
    """The sentence as it might have been typed; `typo_rate` is the chance of a slip in each word of four letters or more."""
    if draw.chance(0.5):
        for full, short in _CONTRACTIONS.items():
            text = re.sub(rf"\b{full}\b", short, text)
    sentences = [part[0].upper() + part[1:] for part in text.split(". ")]
    text = ". ".join(sentences) + draw.weighted({".": 6.0, "": 2.5, "!": 1.0, "...": 0.5})
    text = _WORD.sub(lambda match: slip(draw, match[0]) if draw.chance(typo_rate) else match[0], text)
    return text.lower() if draw.chance(0.2) else text
