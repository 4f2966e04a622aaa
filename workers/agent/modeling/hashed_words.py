"""Words to numbers without a vocabulary: each word's CRC32 picks one of a fixed number of buckets.

The hashing trick (Weinberger et al., 2009, "Feature Hashing for Large Scale Multitask Learning"). Nothing is downloaded and
nobody's data is looked at, so every worker agrees on the ids before any has seen a text. An export carries a copy of this
file beside `tokenization_hashed_words.py`; it imports the standard library only.
"""

import re
import zlib
from functools import lru_cache

PAD, UNK, CLS, SEP = range(4)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
BUCKETS = 16_384
VOCAB_SIZE = len(SPECIALS) + BUCKETS

# Runs of letters and digits, inner apostrophes kept ("can't"); any other visible character stands alone.
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]|_")


def words(text: str) -> list[str]:
    """Lower-cased words and punctuation marks, in order."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


@lru_cache(maxsize=65_536)
def word_id(word: str) -> int:
    """The id of a word: 4..16387."""
    return len(SPECIALS) + zlib.crc32(word.encode()) % BUCKETS


def encode(text: str, max_length: int) -> list[int]:
    """[CLS] words [SEP], at most `max_length` ids."""
    return [CLS, *(word_id(word) for word in words(text)[: max_length - 2]), SEP]
