"""Limit the requests of each key with a token bucket. All API processes share the buckets in Redis.

A bucket has at most `quota` tokens. It is refilled evenly with `quota` tokens in `window_s`
seconds. A request takes one token. A process takes a hundredth of the quota at a time from Redis,
at least one token. It gives these tokens out by itself.

So a key never gets more than its bucket had. What one process holds is missing at the others: at
most one hundredth for each process. With a quota below 200, each request asks Redis.

Answers have the headers `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers
(revision 10). Without Redis there is no limit.
"""

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.domain.errors import RateLimitedError
from api.settings import Settings

log = logging.getLogger(__name__)
# One request waits this long for a silent Redis. Then nothing asks Redis for `_SILENT_S` seconds.
_TIMEOUT_S = 0.2
_SILENT_S = 2.0
_WARN_EVERY_S = 60.0
# A process takes this share of the quota at a time.
_SHARE = 100
_MOST_KEYS = 10_000
_TAKE = """
local quota, per_second = tonumber(ARGV[1]), tonumber(ARGV[1]) / tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local since = math.max(0, now - (tonumber(bucket[2]) or now))
local tokens = math.min(quota, (tonumber(bucket[1]) or quota) + since * per_second)
local taken = math.min(tonumber(ARGV[3]), math.floor(tokens))
tokens = tokens - taken
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil(tonumber(ARGV[2])) + 1)
return {taken, tostring(tokens)}
"""


@dataclass(frozen=True, slots=True)
class Allowance:
    """The state of a bucket.

    `left` are the requests that are allowed now. `next_s` are the seconds until the next one, 0
    while `left` is positive.
    """

    quota: int
    window_s: int
    left: int
    next_s: int

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Policy": f'"default";q={self.quota};w={self.window_s}',
            "RateLimit": f'"default";r={self.left};t={self.next_s}',
        }


@dataclass(slots=True)
class _Lease:
    """The tokens of one key that this process holds.

    `left` are the tokens that Redis held at `at`, a monotonic time.
    """

    tokens: int = 0
    left: float = 0.0
    at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    refill: asyncio.Task[None] | None = None


class RateLimiter:
    """Give out the tokens of leases from Redis. Allow every request while Redis fails or is silent.

    A request waits for Redis only when the process holds no token of its key. A silent Redis delays
    one request by at most 0.2 s. Then it is not asked for two seconds. The log has a warning at
    most once a minute.
    """

    def __init__(self, settings: Settings) -> None:
        self._quota = settings.rate_limit
        self._window_s = settings.rate_limit_window_s
        self._at_once = max(1, (self._quota or 0) // _SHARE)
        self._leases: dict[str, _Lease] = {}
        self._redis: Redis = Redis.from_url(
            settings.redis_url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=64,
        )
        self._silent_until = 0.0
        self._warned_at = -_WARN_EVERY_S

    async def take(self, key_id: str) -> Allowance | None:
        """Take a token from the key's bucket. Return None when requests are not counted.

        Raises:
            RateLimitedError: the bucket is empty.
        """
        if self._quota is None:
            return None
        lease = self._lease(key_id)
        if lease.tokens <= 0 and not await self._fill(key_id, lease):
            return None
        if lease.tokens <= 0:
            allowance = self._allowance(self._quota, lease)
            detail = f"This key may send {self._quota} requests in {self._window_s} seconds."
            raise RateLimitedError("rate_limited", detail, retry_after_s=allowance.next_s, headers=allowance.headers())
        lease.tokens -= 1
        if 2 * lease.tokens < self._at_once and self._at_once > 1 and lease.refill is None and not self._is_silent():
            lease.refill = asyncio.create_task(self._refill(key_id, lease))
        return self._allowance(self._quota, lease)

    def _lease(self, key_id: str) -> _Lease:
        lease = self._leases.get(key_id)
        if lease is None:
            if len(self._leases) >= _MOST_KEYS:
                # The oldest key. Its tokens are lost, and its bucket is refilled.
                del self._leases[next(iter(self._leases))]
            lease = self._leases[key_id] = _Lease()
        return lease

    def _allowance(self, quota: int, lease: _Lease) -> Allowance:
        per_second = quota / self._window_s
        tokens = lease.tokens + min(quota, lease.left + (time.monotonic() - lease.at) * per_second)
        next_s = 0 if tokens >= 1 else max(1, math.ceil((1 - tokens) / per_second))
        return Allowance(quota, self._window_s, min(quota, int(tokens)), next_s)

    async def _refill(self, key_id: str, lease: _Lease) -> None:
        """Take more tokens before the last one is used."""
        try:
            async with lease.lock:
                await self._ask(key_id, lease)
        finally:
            lease.refill = None

    async def _fill(self, key_id: str, lease: _Lease) -> bool:
        """Take tokens for an empty lease. Return False when Redis does not answer.

        Requests of one key ask one after the other. So what one brought serves the others.
        """
        async with lease.lock:
            return lease.tokens > 0 or await self._ask(key_id, lease)

    async def _ask(self, key_id: str, lease: _Lease) -> bool:
        if self._is_silent():
            return False
        # The type covers the synchronous and the asynchronous client.
        arguments = (str(self._quota), str(self._window_s), str(self._at_once))
        answer: Any = self._redis.eval(_TAKE, 1, f"flow_nexus:rate:{key_id}", *arguments)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                taken, left = cast(tuple[int, bytes], await answer)
        except (RedisError, OSError, TimeoutError) as error:
            self._note_failure(error)
            return False
        lease.tokens += taken
        lease.left, lease.at = float(left), time.monotonic()
        return True

    def _is_silent(self) -> bool:
        return time.monotonic() < self._silent_until

    def _note_failure(self, error: Exception) -> None:
        now = time.monotonic()
        self._silent_until = now + _SILENT_S
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            log.warning("requests are not counted: Redis cannot be used: %s", type(error).__name__)

    async def aclose(self) -> None:
        await self._redis.aclose()
