"""Keep one forked agent in the sandbox, where a fork server exists."""

import asyncio
import time

from .fork_server import ForkServer
from .log_writer import SandboxLog
from .process_table import Listener, ProcessExit, ProcessTable

# An agent that is killed again and again must not keep envd busy.
_SHORT_LIFE_S = 1.0
_PAUSE_S = 0.5


class AgentKeeper:
    def __init__(self, server: ForkServer, table: ProcessTable, log: SandboxLog) -> None:
        self._server = server
        self._table = table
        self._log = log
        self._agent: Listener | None = None

    async def start(self) -> bool:
        """Fork an agent. Return False if the fork server has ended.

        Then clients start agents by command.
        """
        try:
            self._agent = await self._table.fork_agent(self._server)
        except OSError:
            self._log.write("system", "the process that forks agents has ended: agents are started by command")
            return False
        return True

    async def run(self) -> None:
        """Fork the next agent each time one has ended, until the fork server ends."""
        while True:
            started = time.monotonic()
            while self._agent is not None and not isinstance(await self._agent.get(), ProcessExit):
                pass
            if time.monotonic() - started < _SHORT_LIFE_S:
                await asyncio.sleep(_PAUSE_S)
            if not await self.start():
                return
