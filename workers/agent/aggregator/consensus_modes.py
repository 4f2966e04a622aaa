"""The consensus modes of an aggregator's round."""

from typing import Final

# These modes judge the single updates once all have arrived.
JUDGING: Final = ("proof-of-learning", "byzantine")
CONSENSUS: Final = ("none", "raft", "gossip", *JUDGING)
