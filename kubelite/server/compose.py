"""What each command runs: a server, an agent, or both in one process."""

import asyncio
from typing import Protocol

from kubelite.server.settings import Settings


class Part(Protocol):
    @property
    def failed(self) -> asyncio.Future[None]: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def of(command: str, settings: Settings) -> Part:
    """Raises SettingsError where the runtime that was named can't be used: before a port is taken or a file is written."""
    if command != "server":
        from kubelite.server import runtimes

        runtimes.verify(settings)
    if command == "agent":
        from kubelite.server.joined import JoinedAgent

        return JoinedAgent(settings)
    from kubelite.server.server import Server

    return Server(settings, with_agents=command == "up")
