"""`kubelite`: the console script.

What starts a server is parsed here without much ado; all other commands, help and mistakes are typer's.
"""

import sys

from kubelite.cli import quick


def main() -> None:
    words = sys.argv[1:]
    if words == ["version"]:
        quick.print_version()
        return
    plain = quick.parse(words)
    if plain is None:
        from kubelite.cli import commands

        commands.app()
        return
    _load_structlog()
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
