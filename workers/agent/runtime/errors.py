"""What an agent refuses or fails at. Messages are safe to send and to log: they never quote data."""

from workers.agent.protocol.common import AgentProblem


class AgentError(Exception):
    """A request that cannot be served. `status` is HTTP's, `code` is stable snake_case."""

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
    """The round in hand was told to stop."""
