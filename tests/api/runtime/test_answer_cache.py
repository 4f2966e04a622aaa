"""An answer is kept until what it shows changes. It is never older than its request."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text, update

from api.runtime import answer_cache
from api.runtime.answer_cache import Answer, AnswerCache
from api.runtime.listener import NAME, Listener
from api.store.database import Database, UnitOfWork
from api.store.tables import ClusterRow
from tests.api.runtime.listening import connected, run_beside
from tests.api.store.rows import make_cluster, make_project


class Reader:
    """An answer cache with its own listener. It reads names of clusters, and counts the reads."""

    def __init__(self, database: Database, url: str) -> None:
        self.database = database
        self.listener = Listener(url)
        self.cache = AnswerCache(self.listener)
        self.reads = 0
        self.lasts_s = 10.0
        self.after_read: Callable[[], None] = lambda: None

    def run(self, scenario: Callable[["Reader"], Awaitable[None]], *, listen: bool = True) -> None:
        run_beside(self.listener, lambda: scenario(self), listen=listen)

    async def connected(self) -> None:
        await connected(self.listener)

    async def cluster(self) -> str:
        """Return a new cluster. The notification of its creation has arrived."""
        with self.database.unit_of_work() as uow:
            cluster_id = make_cluster(uow.session, make_project(uow.session)).id
        await self.listener.caught_up()
        return cluster_id

    def rename(self, cluster_id: str, name: str) -> None:
        self.work(lambda uow: uow.session.execute(update(ClusterRow).where(ClusterRow.id == cluster_id).values(name=name)))

    def work(self, use_case: Callable[[UnitOfWork], object]) -> None:
        with self.database.unit_of_work() as uow:
            use_case(uow)

    async def name(self, cluster_id: str) -> str:
        async def read() -> Answer:
            self.reads += 1
            with self.database.unit_of_work() as uow:
                body = uow.session.get_one(ClusterRow, cluster_id).name.encode()
            self.after_read()
            return Answer(body, "", self.lasts_s)

        return (await self.cache.answer(cluster_id, cluster_id, read)).body.decode()


@pytest.fixture
def reader(database: Database, postgres_url: str) -> Reader:
    return Reader(database, postgres_url)


def test_what_does_not_change_is_read_once(reader: Reader) -> None:
    async def scenario(this: Reader) -> None:
        first, second = await this.cluster(), await this.cluster()
        assert [await this.name(first) for _ in range(20)] == ["c"] * 20
        this.rename(second, "other")
        assert await this.name(first) == "c"
        assert this.reads == 1, "a change of another cluster does not matter"

    reader.run(scenario)


def test_the_next_answer_has_the_change_of_another_process(reader: Reader) -> None:
    async def scenario(this: Reader) -> None:
        cluster_id = await this.cluster()
        assert await this.name(cluster_id) == "c"
        for number in range(50):
            # This blocks the loop, as another process would not: the notification has to wait.
            this.rename(cluster_id, f"c{number}")
            assert await this.name(cluster_id) == f"c{number}"
            assert await this.name(cluster_id) == f"c{number}"
        assert this.reads == 51

    reader.run(scenario)


def test_an_answer_that_changes_during_its_read_is_not_kept(reader: Reader) -> None:
    async def scenario(this: Reader) -> None:
        cluster_id = await this.cluster()
        this.after_read = lambda: this.rename(cluster_id, "new")
        assert await this.name(cluster_id) == "c", "it was right when its request came"
        this.after_read = lambda: None
        assert await this.name(cluster_id) == "new"

    reader.run(scenario)


def test_a_notification_during_the_read_ends_its_answer(reader: Reader) -> None:
    async def scenario(this: Reader) -> None:
        async def read() -> Answer:
            this.cache.forget(["a"])
            return Answer(b"old", "")

        async def read_again() -> Answer:
            return Answer(b"new", "")

        assert (await this.cache.answer("key", "a", read)).body == b"old"
        assert (await this.cache.answer("key", "a", read_again)).body == b"new"
        assert (await this.cache.answer("other", "b", read)).body == b"old"
        assert (await this.cache.answer("other", "b", read_again)).body == b"old", "its topic has not changed"

    reader.run(scenario)


def test_without_the_connection_every_answer_is_read(reader: Reader) -> None:
    async def scenario(this: Reader) -> None:
        cluster_id = await this.cluster()
        assert [await this.name(cluster_id) for _ in range(3)] == ["c"] * 3
        assert this.reads == 3

    reader.run(scenario, listen=False)


def test_a_lost_connection_ends_all_answers(reader: Reader) -> None:
    async def scenario(this: Reader) -> None:
        cluster_id = await this.cluster()
        assert await this.name(cluster_id) == "c"
        kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name")
        this.work(lambda uow: uow.session.execute(kill, {"name": NAME}))
        this.rename(cluster_id, "new")
        assert await this.name(cluster_id) == "new"
        await this.connected()
        assert [await this.name(cluster_id) for _ in range(3)] == ["new"] * 3
        assert this.reads == 3

    reader.run(scenario)


def test_figures_of_a_moment_are_kept_no_longer(reader: Reader) -> None:
    async def scenario(this: Reader) -> None:
        cluster_id, this.lasts_s = await this.cluster(), 0.0
        assert [await this.name(cluster_id) for _ in range(3)] == ["c"] * 3
        assert this.reads == 3

    reader.run(scenario)


def test_a_read_that_fails_is_not_kept(reader: Reader) -> None:
    async def scenario(this: Reader) -> None:
        async def fail() -> Answer:
            raise LookupError

        for _ in range(2):
            with pytest.raises(LookupError):
                await this.cache.answer("key", "a", fail)

    reader.run(scenario)


def test_memory_is_limited(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "_MOST_BYTES", 1000)
    monkeypatch.setattr(answer_cache, "_LARGEST", 400)

    async def scenario(this: Reader) -> None:
        read = []

        async def ask(key: str, size: int) -> None:
            async def make() -> Answer:
                read.append(key)
                return Answer(b"x" * size, "")

            await this.cache.answer(key, key, make)

        for key in ("a", "b", "c", "d"):
            await ask(key, 300)
        for key in ("d", "c", "b"):
            await ask(key, 300)
        assert read == ["a", "b", "c", "d"]
        await ask("a", 300)
        assert read[4:] == ["a"], "the oldest one was dropped"
        for _ in range(2):
            await ask("large", 401)
        assert read[5:] == ["large", "large"]

    reader.run(scenario)
