"""Words to ids without a vocabulary: the CRC32 of a word selects one of a fixed number of buckets.

This is the hashing trick (Weinberger et al., 2009, "Feature Hashing for Large Scale Multitask
Learning"). It needs no download and no data. So all workers agree on the ids before they have read
a text. An export contains a copy of this file, next to `tokenization_hashed_words.py`. So it
imports only the standard library.
"""

import re
import zlib
from functools import lru_cache

PAD, UNK, CLS, SEP = range(4)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
BUCKETS = 16_384
VOCAB_SIZE = len(SPECIALS) + BUCKETS

# Runs of letters and digits, with inner apostrophes ("can't"), or any other visible character.
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]|_")


def words(text: str) -> list[str]:
    """Return the lower-cased words and punctuation marks, in order."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


@lru_cache(maxsize=65_536)
def word_id(word: str) -> int:
    """Return the id of a word: 4..16387."""
    return len(SPECIALS) + zlib.crc32(word.encode()) % BUCKETS


def encode(text: str, max_length: int) -> list[int]:
    """Return the ids of [CLS] words [SEP], at most `max_length` ids."""
    return [CLS, *(word_id(word) for word in words(text)[: max_length - 2]), SEP]
