"""A worker's votes in elections of an aggregator."""

import asyncio
from pathlib import Path

import pytest
import torch

from workers.agent.protocol.consensus import RequestVote, VoteResult
from workers.agent.storage.model_store import ModelStore
from workers.agent.worker.ballots import Voter


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path)


def vote(store: ModelStore, term: int, candidate: str = "w1", digest: str | None = None) -> VoteResult:
    """Vote at an agent that was just started: it reads its state from the disk."""
    return asyncio.run(
        Voter("w2", store).vote(RequestVote(training_id="train_1", term=term, candidate=candidate, digest=digest))
    )


def test_one_vote_in_a_term_also_after_a_restart(store: ModelStore) -> None:
    assert vote(store, 2).granted
    assert vote(store, 2).granted, "asked again"
    other = vote(store, 2, "w3")
    assert (other.granted, other.term) == (False, 2)
    assert vote(store, 3, "w3").granted


def test_terms_never_go_back(store: ModelStore) -> None:
    assert vote(store, 5).granted
    late = vote(store, 4, "w3")
    assert (late.granted, late.term) == (False, 5)


def test_only_who_holds_the_last_committed_model_votes(store: ModelStore) -> None:
    saved = store.save("train_1", {"w": torch.ones(3)})
    refused = vote(store, 2, digest="f" * 64)
    assert (refused.granted, refused.holds) == (False, False)
    found = vote(store, 2, "w3", saved.digest)
    assert (found.granted, found.holds) == (True, True), "a vote that was refused is still to be had"


def test_a_vote_that_was_half_written_is_none(store: ModelStore) -> None:
    assert vote(store, 2).granted
    (store.folder("train_1") / "vote.json").write_text("{")
    assert vote(store, 2, "w3").granted
