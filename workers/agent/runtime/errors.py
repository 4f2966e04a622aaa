"""Errors of an agent. Messages are safe to send and to log: they never quote data."""

from workers.agent.protocol.common import AgentProblem


class AgentError(Exception):
    """A request that cannot be served. `status` is the HTTP status, `code` is stable snake_case."""

    def __init__(self, code: str, message: str, status: int = 422) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.status = status

    @property
    def problem(self) -> AgentProblem:
        return AgentProblem(code=self.code, message=self.message)


class DataError(AgentError):
    """A data file that cannot be used."""


class StoppedError(Exception):
    """The current round was stopped."""


def problem_of(error: Exception) -> AgentProblem:
    """Return why a round failed. Only the type of an unexpected error is named."""
    if isinstance(error, AgentError):
        return error.problem
    return AgentProblem(code="agent_failed", message=f"the round failed with {type(error).__name__}")
