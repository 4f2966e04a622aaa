"""A recognised key is not looked up again, and ends at once by a notification."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, text, update

from api.runtime import key_cache
from api.runtime.key_cache import KeyCache
from api.runtime.listener import NAME, Listener
from api.runtime.transactions import UseCaseRunner
from api.services import keys, principals
from api.services.principals import Principal
from api.settings import Settings
from api.store.database import Database, UnitOfWork
from api.store.tables import ApiKeyRow
from tests.api.runtime.listening import connected, run_beside


class Recogniser:
    """A key cache with its own listener. `lookups` counts the statements that read keys."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        self.use_cases = UseCaseRunner(database, at_once=4, within_s=10)
        self.listener = Listener(settings.database_url)
        self.cache = KeyCache(settings, self.use_cases, self.listener)
        self.lookups = 0
        event.listen(database.engine, "before_cursor_execute", self._count)

    def _count(self, _c: object, _cursor: object, statement: str, *_: object) -> None:
        self.lookups += "api_keys.digest =" in statement

    def run(self, scenario: Callable[["Recogniser"], Awaitable[None]], *, listen: bool = True) -> None:
        run_beside(self.listener, lambda: scenario(self), listen=listen)

    async def connected(self) -> None:
        await connected(self.listener)

    def key(self) -> keys.IssuedKey:
        with self.database.unit_of_work() as uow:
            return keys.create(uow.session, self.settings, "acme", keys.KeySpec("k", ["clusters:read"]))

    def work(self, use_case: Callable[[UnitOfWork], object]) -> None:
        with self.database.unit_of_work() as uow:
            use_case(uow)

    async def find(self, secret: str) -> Principal | None:
        """Recognise a key as a request does."""
        return await self.cache.find(secret, caught_up=await self.listener.caught_up())

    async def opens(self, secret: str) -> bool:
        found = await self.find(secret)
        return found is not None and found.valid


@pytest.fixture
def recogniser(database: Database, postgres_url: str, tmp_path: Path) -> Iterator[Recogniser]:
    settings = Settings(
        database_url=postgres_url, redis_url="redis://", secret_key="s" * 32, models_dir=tmp_path, E2B_API_KEY="e2b_0"
    )
    made = Recogniser(database, settings)
    yield made
    made.use_cases.close()


def test_a_key_is_looked_up_once(recogniser: Recogniser) -> None:
    async def scenario(these: Recogniser) -> None:
        issued = these.key()
        found = [await these.find(issued.secret) for _ in range(20)]
        assert {principal.key_id for principal in found if principal} == {issued.id}
        assert (len([principal for principal in found if principal]), these.lookups) == (20, 1)
        crowd = await asyncio.gather(*(these.opens("fnx_unknown") for _ in range(20)))
        assert (set(crowd), these.lookups) == ({False}, 2), "equal lookups of one moment are one"
        assert not await these.opens("fnx_unknown")
        assert these.lookups == 3, "what is not valid is not kept"

    recogniser.run(scenario)


@pytest.mark.parametrize("how", ["revoke", "rotate"])
def test_a_key_ends_at_once_when_another_process_ends_it(recogniser: Recogniser, how: str) -> None:
    async def scenario(these: Recogniser) -> None:
        for _ in range(30):
            issued = these.key()
            assert await these.opens(issued.secret)
            assert await these.opens(issued.secret)

            def end(uow: UnitOfWork, key_id: str = issued.id) -> object:
                if how == "revoke":
                    return keys.revoke(uow.session, None, key_id)
                return keys.rotate(uow.session, these.settings, None, key_id, 0)

            # This blocks the loop, as another process would not: the notification has to wait.
            these.work(end)
            assert not await these.opens(issued.secret), "the very next request is refused"
        assert these.lookups == 60

    recogniser.run(scenario)


def test_without_the_connection_every_key_is_looked_up(recogniser: Recogniser) -> None:
    async def scenario(these: Recogniser) -> None:
        issued = these.key()
        assert [await these.opens(issued.secret) for _ in range(3)] == [True] * 3
        assert these.lookups == 3

    recogniser.run(scenario, listen=False)


def test_a_lost_connection_turns_the_cache_off_until_it_is_back(recogniser: Recogniser) -> None:
    async def scenario(these: Recogniser) -> None:
        issued = these.key()
        assert await these.opens(issued.secret)
        kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name")
        these.work(lambda uow: uow.session.execute(kill, {"name": NAME}))
        these.work(lambda uow: keys.revoke(uow.session, None, issued.id))
        assert not await these.opens(issued.secret)
        other = these.key()
        await these.connected()
        before = these.lookups
        assert [await these.opens(other.secret) for _ in range(3)] == [True] * 3
        assert these.lookups == before + 1

    recogniser.run(scenario)


def test_a_connection_that_does_not_answer_proves_nothing(recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(these: Recogniser) -> None:
        issued = these.key()
        assert await these.opens(issued.secret)
        stopped = asyncio.get_running_loop().create_future()
        channel = these.listener._channel
        assert channel is not None
        # A half-open connection: what is asked never arrives.
        monkeypatch.setattr(channel, "caught_up", lambda: stopped)
        assert await these.opens(issued.secret)
        assert these.lookups == 2

    recogniser.run(scenario)


def test_a_key_that_ends_during_its_lookup_is_not_kept(recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(these: Recogniser) -> None:
        issued = these.key()
        find = principals.find_principal

        def slow_find(*arguments: object) -> object:
            found = find(*arguments)  # type: ignore[arg-type]
            these.work(lambda uow: keys.revoke(uow.session, None, issued.id))
            return found

        monkeypatch.setattr(principals, "find_principal", slow_find)
        assert await these.opens(issued.secret), "it was valid when its request came"
        monkeypatch.setattr(principals, "find_principal", find)
        assert not await these.opens(issued.secret)

    recogniser.run(scenario)


def test_a_change_by_hand_ends_a_key_within_the_limit(recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache, "MOST_S", 0.3)

    async def scenario(these: Recogniser) -> None:
        issued = these.key()
        assert await these.opens(issued.secret)
        by_hand = update(ApiKeyRow).where(ApiKeyRow.id == issued.id).values(revoked_at=text("now()"))
        these.work(lambda uow: uow.session.execute(by_hand))
        await asyncio.sleep(0.35)
        assert not await these.opens(issued.secret)

    recogniser.run(scenario)


def test_a_secret_that_ends_by_itself_is_kept_no_longer(recogniser: Recogniser) -> None:
    async def scenario(these: Recogniser) -> None:
        issued = these.key()
        with these.database.unit_of_work() as uow:
            new = keys.rotate(uow.session, these.settings, None, issued.id, 1)
        assert await these.opens(issued.secret)
        assert await these.opens(new.secret)
        await asyncio.sleep(1.1)
        assert not await these.opens(issued.secret)
        assert await these.opens(new.secret)

    recogniser.run(scenario)
