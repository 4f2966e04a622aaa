"""Words to ids without a vocabulary: the CRC32 of a word selects one of a fixed number of buckets.

This is the hashing trick (Weinberger et al., 2009, "Feature Hashing for Large Scale Multitask
Learning"). It needs no download and no data. So all workers agree on the ids before they have read
a text. An export contains a copy of this file, next to `tokenization_hashed_words.py`. So it
imports only the standard library.

Texts are put into Unicode's form NFKC, in lower case. What a word is depends on the script:

- With spaces between words: a run of letters, digits and their combining marks.
- Chinese and Japanese: each character is a word. The linear path of a model adds the pairs.
- Thai, Lao, Khmer, Burmese: their letters alone say little. So each run gives all its sequences of
  three letters, each with its marks. See McNamee and Mayfield, 2004, "Character N-Gram Tokenization
  for European Language Text Retrieval".
- A URL: one mark, and the words of its host and path.
- An emoji sequence, with skin tones and joiners, is one word. So is every other visible character.
"""

import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

PAD, UNK, CLS, SEP = range(4)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
BUCKETS = 16_384
VOCAB_SIZE = len(SPECIALS) + BUCKETS
URL = "://"
_SEQUENCE = 3


def _marks() -> str:
    """Return all combining marks as the inside of a character class.

    Python's `\\w` does not contain them, so it would cut Hindi words at their vowels.
    """
    ranges: list[list[int]] = []
    for code in range(0x300, 0x1F000):
        if unicodedata.category(chr(code))[0] != "M":
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_MARK = f"[{_marks()}\u200d]"
# Kana, Han (with its extensions) and Bopomofo; Thai, Lao, Burmese and Khmer.
_IDEOGRAMS = "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31f0-\u31ff"
_IDEOGRAMS += "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = "\u0e01-\u0e2e\u0e2f-\u0e4e\u0e80-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\u1780-\u17d3\u17d7\u17dc"
_PICTURE = "\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
_PICTURE = f"[{_PICTURE}\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff]"
_TONE = "[\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
_EMOJI = f"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\u20e3|{_PICTURE}{_TONE}*(?:\u200d{_PICTURE}{_TONE}*)*"
_LETTER = f"[^\\W_{_IDEOGRAMS}{_UNSPACED}]{_MARK}*"

# Texts of ASCII characters alone have neither marks nor emoji. They are by far the quickest.
_ASCII = re.compile("[^\\W_]+(?:'[^\\W_]+)*|[^\\w\\s]|_")
_ANY = re.compile(
    f"(?P<emoji>{_EMOJI})|(?P<unspaced>(?:[{_UNSPACED}]{_MARK}*)+)|[{_IDEOGRAMS}]{_MARK}*"
    f"|(?:{_LETTER})+(?:'(?:{_LETTER})+)*|[^\\w\\s]|_"
)
_CLUSTER = re.compile(f"[{_UNSPACED}]{_MARK}*")
_URL = re.compile("(?:(?:https?|ftp)://|(?<![a-z0-9.])www\\.)[!#-&(-;=?-~]+")
_WORD_OF_URL = re.compile("[a-z0-9]+")
# Characters that change how a word looks, but not what it says: joiners, directions, variants.
_UNSEEN = re.compile("[\u00ad\u0640\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")


def words(text: str) -> list[str]:
    """Return the words and other visible characters, in order.

    Composed and decomposed characters, and characters of full and half width, give the same words.
    """
    if text.isascii():
        return list(_split(text.lower(), _ASCII.findall))
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'").replace("\u200b", " ")
    return list(_split(_UNSEEN.sub("", plain), _any_words))


def _split(text: str, split: Callable[[str], Iterable[str]]) -> Iterator[str]:
    """Yield the words of the text, and those of each URL after the mark of a URL."""
    end = 0
    for url in _URL.finditer(text):
        yield from split(text[end : url.start()])
        yield URL
        yield from _WORD_OF_URL.findall(url[0])
        end = url.end()
    yield from split(text[end:])


def _any_words(text: str) -> Iterator[str]:
    for found in _ANY.finditer(text):
        if found.lastgroup != "unspaced":
            yield found[0]
            continue
        letters = _CLUSTER.findall(found[0])
        for start in range(max(1, len(letters) - _SEQUENCE + 1)):
            yield "".join(letters[start : start + _SEQUENCE])


@lru_cache(maxsize=65_536)
def word_id(word: str) -> int:
    """Return the id of a word: 4..16387."""
    return len(SPECIALS) + zlib.crc32(word.encode(errors="surrogatepass")) % BUCKETS


def encode(text: str, max_length: int) -> list[int]:
    """Return the ids of [CLS] words [SEP], at most `max_length` ids."""
    return [CLS, *(word_id(word) for word in words(text)[: max_length - 2]), SEP]
