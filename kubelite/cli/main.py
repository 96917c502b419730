"""`kubelite`: the console script.

What starts a server is parsed here without much ado; all other commands, help and mistakes are typer's.
"""

import gc
import os
import sys

from kubelite.cli import quick


def main() -> None:
    words = sys.argv[1:]
    if words in (["version"], ["--version"]):
        quick.print_version()
        return
    plain = quick.parse(words)
    if plain is None:
        from kubelite.cli import commands

        commands.app()
        return
    gc.disable()  # until all is started: next to nothing of that is garbage, and looking for it takes a tenth of the time
    _load_structlog()
    _load_aiohttp()
    from kubelite.cli import run

    sys.exit(run.from_options(*plain))


def _load_structlog() -> None:
    """Imports structlog as if rich were not there: it would load all of it for tracebacks in colour that a server never shows."""
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python itself marks a module that is not to be found
    try:
        import structlog  # noqa: F401 - loaded for those who import it later
    finally:
        del sys.modules["rich"]


def _load_aiohttp() -> None:
    """Imports aiohttp as if the system trusted nobody: it reads all certificates of the system into TLS contexts of its own at
    import, which is a tenth of the start, and every request of ours brings the context of whom it trusts."""
    given = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = os.devnull
    try:
        import aiohttp  # noqa: F401 - loaded for those who import it later
    finally:
        if given is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = given
