"""How people type: contractions, lower case, missing or many full stops, and typing errors."""

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


def add_typo(draw: SeededRandom, word: str) -> str:
    """Make one typing error: two letters swapped, one lost, one doubled, or a neighbouring key."""
    place = 1 + draw.below(len(word) - 2)
    error = draw.below(4)
    if error == 0:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if error == 1:
        return word[:place] + word[place + 1 :]
    if error == 2:
        return word[:place] + word[place] + word[place:]
    return word[:place] + draw.pick(_NEIGHBOURS[word[place]]) + word[place + 1 :]


def typed(draw: SeededRandom, text: str, typo_rate: float) -> str:
    """Return the sentence as a person might type it.

    `typo_rate` is the probability of a typing error in each word of four letters or more.
    """
    if draw.chance(0.5):
        for full, short in _CONTRACTIONS.items():
            text = re.sub(rf"\b{full}\b", short, text)
    sentences = [part[0].upper() + part[1:] for part in text.split(". ")]
    text = ". ".join(sentences) + draw.weighted({".": 6.0, "": 2.5, "!": 1.0, "...": 0.5})
    text = _WORD.sub(lambda match: add_typo(draw, match[0]) if draw.chance(typo_rate) else match[0], text)
    return text.lower() if draw.chance(0.2) else text
