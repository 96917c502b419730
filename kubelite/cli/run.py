"""Runs a server, an agent or both until a signal ends them, and says what went wrong in a line."""

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from kubelite.server.settings import Settings

log = structlog.get_logger(__name__)

#: Signals closer than this are one wish: `timeout` and some shells tell the process and then its whole group.
_SAME_SIGNAL_S = 0.3


def configure_logs(form: str, level: str) -> None:
    """structlog to standard error: aligned for people (console), a JSON object a line for machines (json)."""
    import logging

    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    renderer: structlog.typing.Processor
    if form == "json":
        import orjson

        renderer = structlog.processors.JSONRenderer(serializer=lambda o, **kw: orjson.dumps(o, default=str).decode())
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(levels[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")


def is_in_use(data_dir: Path) -> int:
    """The pid of the kubelite that runs with this data directory, 0 where none does."""
    try:
        with (data_dir / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 1)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return 0


def _lock(data_dir: Path) -> TextIO:
    """Keeps a second process away from a data directory; held until this one ends. Raises SettingsError."""
    from kubelite.server.settings import SettingsError

    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (data_dir / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        pid = is_in_use(data_dir)
        raise SettingsError(f"{data_dir} is in use by pid {pid}: end it first, or give another --data-dir") from e
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _allow_open_files() -> None:
    """As many open files as the system allows: each client, watch and container log is one."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def from_options(command: str, given: dict[str, Any]) -> int:
    """Runs a command with its options by name (None: not given); the exit status."""
    from kubelite.cli import options
    from kubelite.server.settings import SettingsError

    try:
        settings = options.settings(given)
    except SettingsError as e:
        sys.stderr.write(f"kubelite: {e}\n")
        return 1
    return run(command, settings)


def run(command: str, settings: "Settings") -> int:
    """The process's exit status."""
    configure_logs(settings.log_format, settings.log_level)
    # gRPC's handlers for fork() are of no use to a process that only ever starts others, and it tells about each start.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    import uvloop

    # A server makes many objects that live long or die at once; collecting the young ones less often costs nothing.
    gc.set_threshold(20_000, 20, 50)
    from kubelite.cli import options

    _allow_open_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            with _lock(settings.data_dir):
                return runner.run(_main(command, settings))
        except Exception as e:
            if (message := options.explained(e)) is None:
                raise
            sys.stderr.write(f"kubelite: {message}\n")
            return 1


async def _main(command: str, settings: "Settings") -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    first_at = 0.0

    def on_signal() -> None:
        nonlocal first_at
        if not ended.is_set():
            first_at = loop.time()
            ended.set()
        elif loop.time() - first_at > _SAME_SIGNAL_S:
            sys.stderr.write("kubelite: ending at once\n")
            os._exit(130)  # as a crash would: what is acknowledged is durable, and containers go on

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)

    from kubelite.cli import greeting
    from kubelite.server import compose

    part = compose.of(command, settings)
    waiting = loop.create_task(ended.wait(), name="signal")
    try:
        start = loop.create_task(part.start(), name=f"start of {command}")
        await asyncio.wait((start, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            start.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await start
            return 0
        await start
        if settings.log_format == "console":
            greeting.say(command, settings, part)
        gc.freeze()  # what a start made lives as long as the process: no collection need look at it again
        gc.enable()
        await asyncio.wait((part.failed, waiting), return_when=asyncio.FIRST_COMPLETED)
        if part.failed.done() and not part.failed.cancelled() and (error := part.failed.exception()) is not None:
            sys.stderr.write(f"kubelite: {error}; the log above says why\n")
            return 1
        return 0
    finally:
        waiting.cancel()
        await part.stop()
