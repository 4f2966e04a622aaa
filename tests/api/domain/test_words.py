"""The words of the API are the words of the agents."""

from typing import get_args

from api.domain import decisions, measuring, topology
from api.domain.words import words_of
from workers.agent.protocol import common, inference, synchronous


def test_a_set_of_words_can_be_read_from_its_type() -> None:
    assert words_of(topology.Topology) == ("mesh", "ring", "star", "hierarchical")


def test_decisions_and_engines_have_the_words_of_the_agents() -> None:
    assert words_of(decisions.DecisionAction) == get_args(common.DecisionAction)
    assert words_of(measuring.Engine) == get_args(inference.Engine)


def test_topologies_are_the_kinds_of_synchronous_training() -> None:
    kinds = synchronous.BeginAttempt.model_fields["kind"].annotation
    assert {*words_of(topology.Topology)} == {*get_args(kinds)}
