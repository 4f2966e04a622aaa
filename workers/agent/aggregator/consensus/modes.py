"""The consensus modes by what they ask of an aggregator's round."""

from typing import Final

# Look at every update by itself, when all are in.
JUDGING: Final = ("proof-of-learning", "byzantine")
CONSENSUS: Final = ("none", "raft", "gossip", *JUDGING)
