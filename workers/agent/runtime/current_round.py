"""The newest round of one part of an agent."""

from typing import Generic, Protocol, TypeVar

from workers.agent.runtime.errors import AgentError


class NumberedRound(Protocol):
    @property
    def training_id(self) -> str: ...

    @property
    def number(self) -> int: ...


N = TypeVar("N", bound=NumberedRound)


class CurrentRound(Generic[N]):
    """Either idle (`round` is None) or in a round, whose object has no optional state.

    A round that has ended stays here until the next one begins: its report is still asked for.
    """

    def __init__(self) -> None:
        self.round: N | None = None

    def find(self, training_id: str, number: int) -> N | None:
        """Return the round, if it is the newest one."""
        newest = self.of_training(training_id)
        return newest if newest is not None and newest.number == number else None

    def need(self, training_id: str, number: int) -> N:
        """Return the round.

        Raises: AgentError `unknown_round` if it is not the newest one.
        """
        newest = self.find(training_id, number)
        if newest is None:
            raise AgentError("unknown_round", "this agent knows no such round", 404)
        return newest

    def of_training(self, training_id: str) -> N | None:
        """Return the newest round, if it belongs to the training."""
        return self.round if self.round is not None and self.round.training_id == training_id else None
