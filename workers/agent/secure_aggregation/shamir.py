"""A secret in shares, any `threshold` of which give it back and fewer say nothing about it.

Shamir, "How to Share a Secret", CACM 1979: the secret is a random polynomial's value at 0, a share its value elsewhere.
"""

import secrets
from collections.abc import Mapping, Sequence

# A Mersenne prime, larger than any secret of 32 bytes.
PRIME = 2**521 - 1
SECRET_BYTES = 32


def split(secret: bytes, points: Sequence[int], threshold: int) -> dict[int, int]:
    """A share for each of the distinct `points` (1 or more). ValueError for fewer points than the threshold."""
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= len(points) or 0 in points or len(set(points)) != len(points):
        raise ValueError("a secret of 32 bytes is split for distinct points from 1 on, no fewer than the threshold")
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {point: _value(coefficients, point) for point in points}


def _value(coefficients: Sequence[int], point: int) -> int:
    found = 0
    for coefficient in reversed(coefficients):
        found = (found * point + coefficient) % PRIME
    return found


def join(shares: Mapping[int, int]) -> bytes:
    """The secret, from at least as many shares as its threshold. ValueError where they are no shares of one secret."""
    found = 0
    for point, share in shares.items():
        above = below = 1
        for other in shares:
            if other != point:
                above = above * -other % PRIME
                below = below * (point - other) % PRIME
        found = (found + share * above * pow(below, -1, PRIME)) % PRIME
    try:
        return found.to_bytes(SECRET_BYTES, "big")
    except OverflowError:
        raise ValueError("these are no shares of one secret") from None
