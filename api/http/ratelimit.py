"""Limit the requests of each key with a token bucket. All API processes share the buckets in Redis.

A bucket has at most `quota` tokens. It is refilled evenly with `quota` tokens in `window_s`
seconds. A request takes one token. Answers have the headers `RateLimit-Policy` and `RateLimit` of
draft-ietf-httpapi-ratelimit-headers (revision 10). Without Redis there is no limit.
"""

import asyncio
import logging
import math
import time
from dataclasses import dataclass
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
_TAKE = """
local quota, per_second = tonumber(ARGV[1]), tonumber(ARGV[1]) / tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local since = math.max(0, now - (tonumber(bucket[2]) or now))
local tokens = math.min(quota, (tonumber(bucket[1]) or quota) + since * per_second)
local taken = 0
if tokens >= 1 then
  tokens = tokens - 1
  taken = 1
end
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


class RateLimiter:
    """Count requests in Redis. Allow every request while Redis fails or is silent.

    A silent Redis delays one request by at most 0.2 s. Then it is not asked for two seconds. The
    log has a warning at most once a minute.
    """

    def __init__(self, settings: Settings) -> None:
        self._quota = settings.rate_limit
        self._window_s = settings.rate_limit_window_s
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
        if self._quota is None or time.monotonic() < self._silent_until:
            return None
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                taken, tokens = await self._ask(key_id)
        except (RedisError, OSError, TimeoutError) as error:
            self._note_failure(error)
            return None
        per_second = self._quota / self._window_s
        next_s = 0 if tokens >= 1 else max(1, math.ceil((1 - tokens) / per_second))
        allowance = Allowance(self._quota, self._window_s, int(tokens), next_s)
        if not taken:
            detail = f"This key may send {self._quota} requests in {self._window_s} seconds."
            raise RateLimitedError("rate_limited", detail, retry_after_s=next_s, headers=allowance.headers())
        return allowance

    async def _ask(self, key_id: str) -> tuple[bool, float]:
        # The type covers the synchronous and the asynchronous client.
        answer: Any = self._redis.eval(_TAKE, 1, f"flow_nexus:rate:{key_id}", str(self._quota), str(self._window_s))
        taken, tokens = cast(tuple[int, bytes], await answer)
        return bool(taken), float(tokens)

    def _note_failure(self, error: Exception) -> None:
        now = time.monotonic()
        self._silent_until = now + _SILENT_S
        if now - self._warned_at >= _WARN_EVERY_S:
            self._warned_at = now
            log.warning("requests are not counted: Redis cannot be used: %s", type(error).__name__)

    async def aclose(self) -> None:
        await self._redis.aclose()
