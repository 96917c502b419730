"""`kubelite image ...`: images of this machine's runtime, through the runtime's own API."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kubelite.cli.options import Problem

if TYPE_CHECKING:
    from kubelite.server.settings import Settings
    from runtimes.interface import Runtime


def import_archives(archives: list[Path], settings: "Settings") -> None:
    for archive in archives:
        if not archive.is_file():
            what = "is a directory: name the archives in it" if archive.is_dir() else "is not there"
            raise Problem(f"{archive} {what}")

    async def act(runtime: "Runtime") -> None:
        from kubelite.server.agents import chunks_of
        from runtimes.interface import RuntimeFault

        for archive in archives:
            try:
                names = await runtime.import_image(chunks_of(archive))
            except RuntimeFault as e:
                raise Problem(f"{archive}: {e}") from e
            for name in names:
                sys.stdout.write(f"{name}\n")

    _with_runtime(settings, act)


def list_images(settings: "Settings") -> None:
    async def act(runtime: "Runtime") -> None:
        for image in await runtime.list_images():
            for name in image.tags or (image.id,):
                sys.stdout.write(f"{name:<60} {image.size_bytes / 1e6:8.1f} MB\n")

    _with_runtime(settings, act)


def _with_runtime(settings: "Settings", act: "Callable[[Runtime], Awaitable[None]]") -> None:
    from kubelite.cli.run import configure_logs, is_in_use
    from kubelite.server import runtimes
    from runtimes.interface import RuntimeFault

    configure_logs("console", "error")
    chosen = runtimes.choose(settings, settings.data_dir / "node")
    if chosen.simulated:
        raise Problem("there is no container runtime here, only a simulation within a running process: see `kubelite check`")

    async def run() -> None:
        try:
            await chosen.runtime.start()
            await act(chosen.runtime)
        except RuntimeFault as e:
            raise Problem(str(e)) from e
        finally:
            # A daemon that a running kubelite may be about to use stays.
            await (chosen.runtime.stop() if is_in_use(settings.data_dir) else chosen.stop())

    asyncio.run(run())
