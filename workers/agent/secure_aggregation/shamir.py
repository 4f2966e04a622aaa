"""Secret sharing: any `threshold` shares give the secret back, and fewer reveal nothing about it.

Shamir, "How to Share a Secret", CACM 1979. The secret is the value of a random polynomial at 0.
A share is its value at another point.
No library: the maintained ones are obscure, and these are few lines.
"""

import secrets
from collections.abc import Mapping, Sequence

# A Mersenne prime, larger than any secret of 32 bytes.
PRIME = 2**521 - 1
SECRET_BYTES = 32


def split(secret: bytes, points: Sequence[int], threshold: int) -> dict[int, int]:
    """Return one share for each of the distinct `points` (1 or larger).

    Raises:
        ValueError: when there are fewer points than the threshold.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= len(points) or 0 in points or len(set(points)) != len(points):
        raise ValueError("a secret of 32 bytes is split for distinct points from 1 on, no fewer than the threshold")
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {point: _value(coefficients, point) for point in points}


def _value(coefficients: Sequence[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value


def join(shares: Mapping[int, int]) -> bytes:
    """Return the secret. It needs at least as many shares as the threshold.

    Raises:
        ValueError: when these are not shares of one secret.
    """
    secret = 0
    for point, share in shares.items():
        above = below = 1
        for other in shares:
            if other != point:
                above = above * -other % PRIME
                below = below * (point - other) % PRIME
        secret = (secret + share * above * pow(below, -1, PRIME)) % PRIME
    try:
        return secret.to_bytes(SECRET_BYTES, "big")
    except OverflowError:
        raise ValueError("these are not shares of one secret") from None
