"""One worker at a time works on a row, also when several try to claim it."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from api.store import leases
from api.store.database import Database
from api.store.tables import ClusterRow
from tests.api.store.rows import make_cluster, make_project


@pytest.fixture
def clusters(database: Database) -> list[str]:
    with database.unit_of_work() as uow:
        project = make_project(uow.session)
        rows = [make_cluster(uow.session, project) for _ in range(25)]
        for row in rows:
            leases.wake(row)
        return [row.id for row in rows]


def test_racing_claims_have_one_winner_each(database: Database, clusters: list[str]) -> None:
    start = threading.Barrier(8)

    def claim_all() -> list[str]:
        start.wait()
        won = []
        for row_id in clusters:
            with database.unit_of_work() as uow:
                if leases.claim(uow.session, ClusterRow, row_id, 60):
                    won.append(row_id)
        return won

    with ThreadPoolExecutor(8) as pool:
        wins = Counter(row_id for won in pool.map(lambda _: claim_all(), range(8)) for row_id in won)
    assert wins == Counter(clusters)


def test_a_row_that_is_not_due_is_not_claimed(database: Database, clusters: list[str]) -> None:
    with database.unit_of_work() as uow:
        claim = leases.claim(uow.session, ClusterRow, clusters[0], 60)
        assert claim is not None
        leases.release(leases.held(uow.session, ClusterRow, clusters[0], claim.token), 60)
    with database.unit_of_work() as uow:
        assert leases.claim(uow.session, ClusterRow, clusters[0], 60) is None
        assert clusters[0] not in leases.due(uow.session, ClusterRow)


def test_an_expired_lease_is_taken_over_and_fences_the_old_holder_off(database: Database, clusters: list[str]) -> None:
    with database.unit_of_work() as uow:
        old = leases.claim(uow.session, ClusterRow, clusters[0], 60)
        assert old is not None
        assert not old.is_takeover
    with database.unit_of_work() as uow:
        uow.session.execute(update(ClusterRow).where(ClusterRow.id == clusters[0]).values(lease_until=ClusterRow.created_at))
    with database.unit_of_work() as uow:
        new = leases.claim(uow.session, ClusterRow, clusters[0], 60)
        assert new is not None
        assert new.is_takeover
        assert new.token != old.token
    with database.unit_of_work() as uow:
        assert not leases.renew(uow.session, ClusterRow, clusters[0], old.token, 60)
        with pytest.raises(leases.LeaseLostError):
            leases.held(uow.session, ClusterRow, clusters[0], old.token)


def test_released_for_good_is_never_due(database: Database, clusters: list[str]) -> None:
    with database.unit_of_work() as uow:
        claim = leases.claim(uow.session, ClusterRow, clusters[0], 60)
        assert claim is not None
        leases.release(leases.held(uow.session, ClusterRow, clusters[0], claim.token), None)
    with database.unit_of_work() as uow:
        row = uow.session.execute(select(ClusterRow).where(ClusterRow.id == clusters[0])).scalar_one()
        assert (row.due_at, row.lease_token, row.attempts) == (None, None, 0)
